import type { Instant } from '../domain/vocabulary.js';

/** Which organizations a caller may see: an argument of every query, so that none can be asked without it. */
export type Organizations = 'all' | readonly string[];

/** What both allow. */
export const narrowed = (organizations: Organizations, wanted: string | null | undefined): Organizations => {
  if (wanted === null || wanted === undefined) return organizations;
  return organizations === 'all' || organizations.includes(wanted) ? [wanted] : [];
};

/** For entity columns of type timestamptz: instants as text on our side. */
export const instant = {
  from: (stored: Date | null): Instant | null => stored?.toISOString() ?? null,
  to: (value: unknown): unknown => value,
};
