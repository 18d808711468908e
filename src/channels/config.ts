import { z } from 'zod';
import type { FieldProblem, JsonObject } from '../domain/vocabulary.js';
import { problemWithTemplate } from './messages/liquid.js';
import type { Egress } from './net/egress.js';

/** What the schemas of the adapters are made of. */

/** Text that a function finds nothing wrong with. */
export function checked(problemWith: (text: string) => string | undefined) {
  return z.string().superRefine((text, context) => {
    const problem = problemWith(text);
    if (problem) context.addIssue({ code: 'custom', message: problem });
  });
}

/** A Liquid template of at most so many characters. It is parsed here, so that a typing error shows when it is made. */
export function template(limit: number) {
  return checked((text) => {
    return text.length > limit ? `must have at most ${limit} characters` : problemWithTemplate(text);
  });
}

/** For channels whose provider cannot tell a repetition. `standard` is what the adapter's description says. */
export function inDoubt(standard: 'resend' | 'hold') {
  return z
    .enum(['resend', 'hold'])
    .optional()
    .describe(
      'What to do with an attempt that a crash has left in doubt: send it again, which may be once too often, or hold it until a person has looked.',
    )
    .meta({ default: standard });
}

/** Another server than the provider's own: a region, a proxy, a recorder in tests. */
export function endpoint(egress: Egress, standard: string) {
  return checked((url) => egress.problemWithUrl(url))
    .optional()
    .describe("Base URL of the provider's API.")
    .meta({ default: standard });
}

/** What a schema finds wrong, one entry per field, an unknown field under its own name. */
export function problemsOf(schema: z.ZodType, config: JsonObject): FieldProblem[] {
  const result = schema.safeParse(config);
  if (result.success) return [];
  return result.error.issues.flatMap((issue) => {
    const path = issue.path.join('.');
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => ({ path: path === '' ? key : `${path}.${key}`, problem: 'is not a known field' }));
    }
    const missing = issue.code === 'invalid_type' && issue.message.endsWith('received undefined');
    return [{ path, problem: missing ? 'is required' : issue.message }];
  });
}
