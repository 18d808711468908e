import { z } from 'zod';
import type { Json } from '../../domain/vocabulary.js';
import { type HttpAnswer, retryAfterMs } from '../net/http.js';
import { at, parsed } from '../net/json.js';
import { type Rejected, rejected } from '../outcome.js';

/** Receivers that mean something else by their answers than RFC 9110 does: what each answer is to be taken for. */

export interface ResponseRule {
  readonly outcome: 'success' | 'retry' | 'permanent';
  readonly statuses?: readonly number[];
  readonly field?: string;
  readonly equals?: Json;
  readonly contains?: string;
}

/** Of an answer, where a rule looks at its body; in bytes. */
export const JUDGED_BYTES = 65_536;

export const responseRules = z
  .array(
    z
      .strictObject({
        outcome: z
          .enum(['success', 'retry', 'permanent'])
          .describe('What the answer means: done, to be tried again later, or refused for good.'),
        statuses: z
          .array(z.int().min(200).max(599))
          .min(1)
          .max(50)
          .optional()
          .describe('HTTP statuses the rule is about. Default: every one.'),
        field: z
          .string()
          .regex(/^[\w-]+(\.[\w-]+){0,9}$/, 'must be a dotted path: data.status')
          .optional()
          .describe('Field that the JSON answer must have.'),
        equals: z.json().optional().describe('The value of that field. Without it, any value will do.'),
        contains: z.string().min(1).max(500).optional().describe('Text that the answer must contain.'),
      })
      .superRefine(({ statuses, field, equals, contains }, context) => {
        const problem = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message });
        if (!statuses && field === undefined && contains === undefined)
          problem('statuses', 'is required, or field, or contains: a rule for every answer would hide all others');
        if (equals !== undefined && field === undefined) problem('equals', 'needs field');
      }),
  )
  .max(20);

/** The first rule that fits says what the answer means; undefined when none does. */
export function ruleFor(rules: readonly ResponseRule[], { status, body }: HttpAnswer): ResponseRule | undefined {
  const json = rules.some(({ field }) => field !== undefined) ? parsed(body) : undefined;
  return rules.find(({ statuses, field, equals, contains }) => {
    if (statuses && !statuses.includes(status)) return false;
    if (contains !== undefined && !body.includes(contains)) return false;
    if (field === undefined) return true;
    const found = at(json, field);
    return equals === undefined ? found !== undefined : JSON.stringify(found) === JSON.stringify(equals);
  });
}

/** What a rule other than `success` makes of an answer; `retry` honours the wish to be left alone for a while. */
export function refusedByRule({ outcome }: ResponseRule, answer: HttpAnswer, detail: string, now: Date): Rejected {
  const code = `RULE_${answer.status}`;
  if (outcome === 'permanent') return rejected('PERMANENT', code, detail);
  const wait = retryAfterMs(answer.headers['retry-after'], now);
  return rejected('TEMPORARY', code, detail, wait === undefined ? {} : { retryAfterMs: wait });
}
