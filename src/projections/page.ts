import { type Instant, isUuid, mayAccess, type Organizations } from '../domain/vocabulary.js';
import { BadQuery, cursorOf, cursorParts, type ListOrder, notOfThisList } from './cursor.js';

export const MAX_PAGE = 200;

/** What clients ask of a list. */
export interface PageArgs {
  /** How many, 1 to 200; default: 50. */
  readonly first?: number | null | undefined;
  /** The cursor of the last one already seen; good for one list in one order. */
  readonly after?: string | null | undefined;
  /** Default: the list's own. */
  readonly order?: ListOrder | null | undefined;
}

export interface Page<Node> {
  readonly edges: readonly { readonly cursor: string; readonly node: Node }[];
  readonly pageInfo: {
    readonly hasNextPage: boolean;
    readonly hasPreviousPage: boolean;
    readonly startCursor: string | null;
    readonly endCursor: string | null;
  };
  /** Counts all that match, page or not; costs a query of its own. Null when they are too many to be counted. */
  readonly totalCount: () => Promise<number | null>;
}

/** Where a row stands in its list. */
export interface Place {
  readonly at: Instant;
  readonly id: string;
  /** What tells rows of one time and id apart: a leg, an attempt. */
  readonly numbers?: readonly number[];
  /** Whose row it is: its cursor is good for nobody else. */
  readonly organizationId: string;
}

/** A list by time and id, in an order that is total and that nothing changes, so that its pages stay whole while others write. */
export interface List {
  readonly name: string;
  /** How many numbers a place has. Default: 0. */
  readonly numbers?: number;
  /** Unless the client says otherwise. Default: the newest first. */
  readonly order?: ListOrder;
}

/** @throws BadQuery */
export function checkedSize(first: number | null | undefined): number {
  const size = first ?? 50;
  if (!Number.isInteger(size) || size < 1 || size > MAX_PAGE)
    throw new BadQuery('first', `must be from 1 to ${MAX_PAGE}`);
  return size;
}

/** By what time a row is in its list, of the cursor that the list has given it. */
export const timeIn = (cursor: string): Instant => Buffer.from(cursor, 'base64url').toString().split(' ')[1] ?? '';

/** A page of a list, as it was asked for. */
export class Paging {
  readonly size: number;
  readonly order: ListOrder;
  /** The last one already seen. */
  readonly after: Place | undefined;
  readonly #list: List;

  /** @throws BadQuery for a page size or a cursor that cannot be */
  constructor(list: List, asked: PageArgs, organizations: Organizations) {
    this.#list = list;
    this.size = checkedSize(asked.first);
    this.order = asked.order ?? list.order ?? 'NEWEST_FIRST';
    this.after = asked.after ? this.#placeOf(asked.after, organizations) : undefined;
  }

  /** @param rows of the page, and one more if there is one */
  pageOf<Row>(rows: readonly Row[], placeOf: (row: Row) => Place, totalCount: () => Promise<number | null>): Page<Row> {
    const edges = rows.slice(0, this.size).map((node) => ({ cursor: this.#cursorOf(placeOf(node)), node }));
    return {
      edges,
      pageInfo: {
        hasNextPage: rows.length > this.size,
        hasPreviousPage: this.after !== undefined,
        startCursor: edges[0]?.cursor ?? null,
        endCursor: edges.at(-1)?.cursor ?? null,
      },
      totalCount,
    };
  }

  #cursorOf({ at, id, organizationId, numbers = [] }: Place): string {
    return cursorOf(this.#list.name, this.order, [at, id, organizationId, ...numbers]);
  }

  #placeOf(cursor: string, organizations: Organizations): Place {
    const [at = '', id = '', organizationId = '', ...numbers] = cursorParts(this.#list.name, this.order, cursor);
    const isTime = /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(at) && !Number.isNaN(Date.parse(at));
    const areNumbers = numbers.length === (this.#list.numbers ?? 0) && numbers.every((text) => /^\d{1,9}$/.test(text));
    if (!isTime || !isUuid(id) || !areNumbers || !mayAccess(organizations, organizationId)) throw notOfThisList();
    return { at, id, organizationId, numbers: numbers.map(Number) };
  }
}
