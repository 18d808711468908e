import type { EntityManager } from 'typeorm';
import { counting, type Search, sumOf } from './deliveries-search.js';
import { columnOf } from './delivery-hours.js';

/** More than these are counted only where the counts by hour say how many there are. */
export const MOST_COUNTED = 100_000;
const HOUR_MS = 3_600_000;
/** GraphQL's Int ends there. */
const MOST = 2 ** 31 - 1;

/** How many match; null when they are too many to be counted one by one. */
export async function countOf(manager: EntityManager, search: Search): Promise<number | null> {
  const column = countedIn(search);
  return column === undefined ? await countRows(manager, search) : await sumHours(manager, search, column);
}

/** What counts exactly these by hour; undefined where there is no such column. */
function countedIn({ filter }: Search): string | undefined {
  const { organizationId: _, status, channel, requestedAfter: __, requestedBefore: ___, ...others } = filter;
  if (Object.values(others).some((value) => value !== null && value !== undefined)) return undefined;
  if (status) return channel ? undefined : sumOf(status);
  return channel ? columnOf(channel) : 'total';
}

/** Whole hours by their counts, and what lies in parts of hours row by row. */
async function sumHours(manager: EntityManager, search: Search, column: string): Promise<number | null> {
  const { requestedAfter, requestedBefore } = search.filter;
  const [after, before] = [requestedAfter, requestedBefore].map((time) => time && new Date(time).getTime());
  const from = after && Math.ceil(after / HOUR_MS) * HOUR_MS;
  const to = before && Math.floor(before / HOUR_MS) * HOUR_MS;
  if (from && to && from >= to) return await countRows(manager, search);
  const values: unknown[] = [];
  const conditions = ['true'];
  const add = (condition: string, value: unknown) => conditions.push(`${condition} $${values.push(value)}`);
  if (search.organizations !== 'all') conditions.push(`organization_id = any($${values.push(search.organizations)})`);
  if (from) add('hour >=', new Date(from));
  if (to) add('hour <', new Date(to));
  const [row] = await manager.query<{ sum: string }[]>(
    `select coalesce(sum(${column}), 0) as sum from delivery_hours where ${conditions.join(' and ')}`,
    values,
  );
  let sum = Number(row?.sum ?? 0);
  const parts: [number, number][] = [];
  if (after && from && after < from) parts.push([after, from]);
  if (before && to && to < before) parts.push([to, before]);
  for (const [start, end] of parts) {
    const filter = { ...search.filter, requestedAfter: new Date(start), requestedBefore: new Date(end) };
    const counted = await countRows(manager, { ...search, filter });
    if (counted === null) return null;
    sum += counted;
  }
  return sum > MOST ? null : sum;
}

async function countRows(manager: EntityManager, search: Search): Promise<number | null> {
  const [row] = await manager.query<{ count: string }[]>(...counting(manager, search, MOST_COUNTED + 1));
  const count = Number(row?.count ?? 0);
  return count > MOST_COUNTED ? null : count;
}
