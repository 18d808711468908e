import type { Instant, Organizations } from '../domain/vocabulary.js';

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
