import type { TrailPart } from '../audit/trail.js';
import { cursorOf, cursorParts, notOfThisList } from '../projections/cursor.js';
import { checkedSize, type PageArgs } from '../projections/page.js';
import { understood } from './errors.js';

export interface TrailPaging {
  readonly part: TrailPart;
  readonly cursorOf: (index: number) => string;
}

/**
 * A page of the audit trail, the newest first by default, as clients ask for it.
 *
 * @throws ApiError for a page that cannot be
 */
export function trailPage(list: string, asked: PageArgs): TrailPaging {
  const order = asked.order ?? 'NEWEST_FIRST';
  return understood(() => ({
    part: {
      ...{ size: checkedSize(asked.first), direction: order === 'NEWEST_FIRST' ? 'desc' : 'asc' },
      after: asked.after ? indexIn(cursorParts(list, order, asked.after)) : undefined,
    },
    cursorOf: (index) => cursorOf(list, order, [index]),
  }));
}

function indexIn([index = '', ...rest]: readonly string[]): number {
  if (!/^\d{1,15}$/.test(index) || rest.length > 0) throw notOfThisList();
  return Number(index);
}
