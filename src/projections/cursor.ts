/** Which way a list goes by the time that it is ordered by; of what is due, the earliest is the oldest. */
export const LIST_ORDERS = ['NEWEST_FIRST', 'OLDEST_FIRST'] as const;
export type ListOrder = (typeof LIST_ORDERS)[number];

export const otherThan = (order: ListOrder): ListOrder => (order === 'NEWEST_FIRST' ? 'OLDEST_FIRST' : 'NEWEST_FIRST');

/** For SQL: which way time and id go, and how those of what comes later in the list compare with those of what came before. */
export const sqlOf = (order: ListOrder) =>
  order === 'NEWEST_FIRST'
    ? ({ direction: 'DESC', beyond: '<' } as const)
    : ({ direction: 'ASC', beyond: '>' } as const);

/** An argument of a query that makes no sense; `path` names it. */
export class BadQuery extends Error {
  override name = 'BadQuery';

  constructor(
    readonly path: string,
    readonly problem: string,
  ) {
    super(`${path}: ${problem}`);
  }
}

const markOf = (list: string, order: ListOrder): string => `${list}${order === 'NEWEST_FIRST' ? '-' : '+'}`;

/**
 * Where a row stands in a list. It is good for that list and that order only: what comes after it in one order has come
 * before it in the other.
 *
 * @param parts without spaces
 */
export const cursorOf = (list: string, order: ListOrder, parts: readonly (string | number)[]): string =>
  Buffer.from([markOf(list, order), ...parts].join(' ')).toString('base64url');

/** The parts of a cursor. @throws BadQuery for one of another list or order */
export function cursorParts(list: string, order: ListOrder, cursor: string): string[] {
  const [mark, ...parts] = Buffer.from(cursor, 'base64url').toString().split(' ');
  if (mark === markOf(list, order)) return parts;
  const isOther = mark === markOf(list, otherThan(order));
  throw isOther ? new BadQuery('after', 'is a cursor of this list in the other order') : notOfThisList();
}

export const notOfThisList = (): BadQuery => new BadQuery('after', 'is not a cursor of this list');
