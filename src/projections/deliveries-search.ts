import type { EntityManager, SelectQueryBuilder } from 'typeorm';
import type { Organizations, Status } from '../domain/vocabulary.js';
import { type ListOrder, sqlOf } from './cursor.js';
import { RARE_STATUSES } from './deliveries.js';
import type { DeliveryEntity, DeliveryFilter } from './delivery-entity.js';
import { columnOf } from './delivery-hours.js';
import type { Place } from './page.js';

/**
 * Ways to the rows of a list that cost what the page costs, and not what the table holds (decision 0082):
 *
 * - `along`: the order's own index from its beginning, or the index of a condition that leaves few rows.
 * - `among`: among the first ones, as `along`; then all that the inverted index of the condition has, put in order.
 * - `rare`: the first rows of each wanted status from the index of rare statuses, put in order.
 * - `hours`: hour by hour from the first, only those hours that have such deliveries.
 *
 * All of it goes both ways: indexes are read from either end.
 */
type Way = 'along' | 'among' | 'rare' | 'hours';

type Query = SelectQueryBuilder<DeliveryEntity>;

/** What has an index that is in order, or finds a few rows at most … */
const ORDERED = ['recipientId', 'correlationId', 'approver'] as const;
/** … and an inverted one, which finds all rows at once and in no order. */
const INVERTED = ['tag', 'destinationId', 'subject'] as const;
/** So many of the first ones are looked through one by one: of what is frequent they have a page. */
const FIRST = 10_000;

function wayOf(filter: DeliveryFilter): Way {
  const { status, channel, deadLettered, awaitingApproval } = filter;
  const has = (field: keyof DeliveryFilter) => filter[field] !== null && filter[field] !== undefined;
  if (ORDERED.some(has) || deadLettered === true || awaitingApproval === true) return 'along';
  if (INVERTED.some(has)) return 'among';
  if (status && status.length > 0 && status.every((one) => RARE_STATUSES.has(one))) return 'rare';
  return status || channel ? 'hours' : 'along';
}

export interface Search {
  readonly filter: DeliveryFilter;
  readonly organizations: Organizations;
  /** A fresh query of rows `d` with all conditions of a filter. */
  readonly matching: (manager: EntityManager, filter: DeliveryFilter) => Query;
}

/** The part of a list that is looked for. */
export interface Part {
  /** At most so many. */
  readonly size: number;
  /** Without one, in any. */
  readonly order?: ListOrder;
  /** Only those that come after this one. */
  readonly after?: Pick<Place, 'at' | 'id'> | undefined;
}

interface Sql {
  readonly text: string;
  readonly parameters: Readonly<Record<string, unknown>>;
}

/** Those that match, in order. */
export async function ordered(manager: EntityManager, search: Search, part: Part): Promise<DeliveryEntity[]> {
  const { filter } = search;
  const { size, order = 'NEWEST_FIRST', after } = part;
  const { direction, beyond } = sqlOf(order);
  const inOrder = (query: Query) => query.orderBy('d.requestedAt', direction).addOrderBy('d.id', direction);
  const matching = (wanted: DeliveryFilter) => {
    const query = inOrder(search.matching(manager, wanted)).limit(size);
    return after ? query.andWhere(`(d.requestedAt, d.id) ${beyond} (:at, :id)`, { at: after.at, id: after.id }) : query;
  };
  const way = wayOf(filter);
  if (way === 'along') return await matching(filter).getMany();
  if (way === 'among') {
    const { organizationId, requestedAfter, requestedBefore } = filter;
    // Left alone, the plan believes that what it looks for is spread evenly, and reads the whole table for what is far off.
    const last = await matching({ organizationId, requestedAfter, requestedBefore } as DeliveryFilter)
      .select('d.requestedAt', 'at')
      .offset(FIRST)
      .limit(1)
      .getRawOne<{ at: Date }>();
    if (!last) return await matching(filter).getMany();
    const found = await matching(filter).andWhere(`:last ${beyond}= d.requestedAt`, { last: last.at }).getMany();
    if (found.length === size) return found;
  }
  // After the inverted index has given its rows: as a condition on them it would make the plan read another index for it.
  const step = way === 'among' ? (wanted: DeliveryFilter) => search.matching(manager, wanted) : matching;
  const ids = idsOf(search, step, { size, order, after });
  return await inOrder(search.matching(manager, filter))
    .andWhere(`d.id in (${ids.text})`)
    .setParameters(ids.parameters)
    .getMany();
}

/** Statement and parameters that count what matches, up to so many. */
export function counting(manager: EntityManager, search: Search, most: number): [string, unknown[]] {
  const matching = (filter: DeliveryFilter) => search.matching(manager, filter).limit(most);
  const { text, parameters } = idsOf(search, matching, { size: most });
  const { driver } = manager.dataSource;
  return driver.escapeQueryWithParameters(`select count(*) as count from (${text}) found`, parameters);
}

/** @param matching the rows of one step of the way */
function idsOf(
  { filter, organizations }: Search,
  matching: (filter: DeliveryFilter) => Query,
  { size, order, after }: Part,
): Sql {
  const { direction, beyond } = sqlOf(order ?? 'NEWEST_FIRST');
  const step = (query: Query) => query.select('d.id', 'id').addSelect('d.requestedAt', 'at');
  const through = (driver: string, inner: Query, first: string, more: object): Sql => ({
    text: `select p.id from ${driver} cross join lateral (${inner.getQuery()}) p
      ${order ? `order by ${first} p.at ${direction}, p.id ${direction}` : ''} limit ${size}`,
    parameters: { ...inner.getParameters(), ...more },
  });
  const way = wayOf(filter);
  if (way === 'rare') {
    // Not both: the plan would take it that one in a hundred times one in a hundred are so.
    const inner = step(matching({ ...filter, status: null })).andWhere('d.rare_status = s.status');
    return through('unnest(:rare::text[]) s(status)', inner, '', { rare: [...new Set(filter.status)] });
  }
  const inner = step(matching(filter));
  if (way === 'hours') {
    inner.andWhere(`d.requestedAt >= h.hour and d.requestedAt < h.hour + interval '1 hour'`);
    const { conditions, parameters } = hoursWith(filter, organizations);
    if (after)
      conditions.push(order === 'NEWEST_FIRST' ? 'hour <= :seen' : `hour > :seen::timestamptz - interval '1 hour'`);
    const hours = `select distinct hour from delivery_hours where ${conditions.join(' and ')} order by hour ${direction}`;
    return through(`(${hours}) h`, inner, `h.hour ${direction},`, { ...parameters, seen: after?.at });
  }
  if (way === 'along' || !order) return { text: inner.getQuery(), parameters: inner.getParameters() };
  return {
    text: `with f as materialized (${inner.getQuery()}) select f.id from f
      where ${after ? `(f.at, f.id) ${beyond} (:at::timestamptz, :id::uuid)` : 'true'}
      order by f.at ${direction}, f.id ${direction} limit ${size}`,
    parameters: { ...inner.getParameters(), at: after?.at, id: after?.id },
  };
}

/** In which hours such deliveries were requested. */
function hoursWith({ status, channel, requestedAfter, requestedBefore }: DeliveryFilter, organizations: Organizations) {
  const conditions: string[] = [];
  if (organizations !== 'all')
    conditions.push(
      organizations.length === 1 ? 'organization_id = :hoursOf' : 'organization_id = any(:hoursOf::text[])',
    );
  if (status) conditions.push(`${sumOf(status)} > 0`);
  if (channel) conditions.push(`${columnOf(channel)} > 0`);
  if (requestedAfter) conditions.push(`hour > :hoursFrom::timestamptz - interval '1 hour'`);
  if (requestedBefore) conditions.push('hour < :hoursTo');
  const hoursOf = organizations !== 'all' && organizations.length === 1 ? organizations[0] : organizations;
  return { conditions, parameters: { hoursOf, hoursFrom: requestedAfter, hoursTo: requestedBefore } };
}

/** SQL for how many of an hour are in one of these. */
export const sumOf = (statuses: readonly Status[]): string =>
  `(${['0', ...[...new Set(statuses)].map(columnOf)].join(' + ')})`;
