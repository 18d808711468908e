import { z } from 'zod';
import type { FieldProblem } from '../domain/vocabulary.js';

/** Parameters of an address that cannot be. */
export class BadParameters extends Error {
  override name = 'BadParameters';

  constructor(readonly fields: readonly FieldProblem[]) {
    super(fields.map(({ path, problem }) => `${path}: ${problem}`).join('; '));
  }
}

/** Null when it is not given. */
export const optional = <Schema extends z.ZodType>(schema: Schema) => schema.nullable().default(null as never);

/** Several values, separated by commas. */
export const several = <const Word extends string>(words: readonly Word[]) =>
  optional(
    z
      .string()
      .transform((text) => text.split(','))
      .pipe(z.array(z.enum(words, { error: `must be of ${words.join(', ')}` }))),
  );

export const oneOf = <const Word extends string>(words: readonly Word[]) =>
  optional(z.enum(words, { error: `must be one of ${words.join(', ')}` }));

export const flag = optional(
  z.enum(['true', 'false'], { error: 'must be true or false' }).transform((text) => text === 'true'),
);

/** To be given. */
export const name = z.string().min(1, { error: 'must not be empty' }).max(255, { error: 'is too long' });
export const text = optional(name);

/** `+` in an address is a space: an offset is to be written as %2B, or the time by Z. */
export const time = z.iso
  .datetime({ offset: true, error: 'must be a date and time with offset (RFC 3339), such as 2026-11-21T08:30:00Z' })
  .transform((instant) => new Date(instant));

/** A log position. */
export const position = z
  .string()
  .regex(/^\d{1,19}$/, { error: 'must be a log position in decimal' })
  .transform((digits) => BigInt(digits));

/** @throws BadParameters naming each that is wrong or unknown */
export function parsed<Shape extends z.ZodRawShape>(shape: Shape, parameters: Readonly<Record<string, string>>) {
  const result = z.strictObject(shape).safeParse(parameters);
  if (result.success) return result.data;
  throw new BadParameters(
    result.error.issues.flatMap((issue) =>
      issue.code === 'unrecognized_keys'
        ? issue.keys.map((path) => ({ path, problem: 'is not a parameter of this export' }))
        : [{ path: String(issue.path[0]), problem: issue.code === 'invalid_type' ? 'is required' : issue.message }],
    ),
  );
}
