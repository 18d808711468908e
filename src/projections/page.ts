import { BadQuery, type Page } from './deliveries-query.js';
import { isUuid } from './scope.js';

const MAX_PAGE = 200;

/** @throws BadQuery */
export function checkedSize(first: number): number {
  if (!Number.isInteger(first) || first < 1 || first > MAX_PAGE)
    throw new BadQuery('first', `must be from 1 to ${MAX_PAGE}`);
  return first;
}

/** A page of rows of which one more was asked for than it is to have. */
export function pageOf<Row>(
  rows: readonly Row[],
  first: number,
  {
    after,
    cursorOf,
    totalCount,
  }: {
    readonly after: string | null | undefined;
    readonly cursorOf: (row: Row) => string;
    readonly totalCount: () => Promise<number>;
  },
): Page<Row> {
  const edges = rows.slice(0, first).map((node) => ({ cursor: cursorOf(node), node }));
  return {
    edges,
    pageInfo: {
      hasNextPage: rows.length > first,
      hasPreviousPage: Boolean(after),
      startCursor: edges[0]?.cursor ?? null,
      endCursor: edges.at(-1)?.cursor ?? null,
    },
    totalCount,
  };
}

export const legCursor = (at: string, deliveryId: string, leg: number): string =>
  Buffer.from(`${at} ${deliveryId} ${leg}`).toString('base64url');

/** @throws BadQuery for what no list of legs has given */
export function legCursorParts(cursor: string): { at: string; id: string; leg: number } {
  const [at = '', id = '', leg = '', ...rest] = Buffer.from(cursor, 'base64url').toString().split(' ');
  const isTime = /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(at) && !Number.isNaN(Date.parse(at));
  if (!isTime || !isUuid(id) || !/^\d{1,9}$/.test(leg) || rest.length > 0)
    throw new BadQuery('after', 'is not a cursor of this list');
  return { at, id, leg: Number(leg) };
}
