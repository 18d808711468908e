import type { Organizations } from '../../src/domain/vocabulary.js';
import type { AttemptQueries } from '../../src/projections/attempts-query.js';
import { cursorOf, LIST_ORDERS, type ListOrder } from '../../src/projections/cursor.js';
import type { DashboardQueries } from '../../src/projections/dashboard-query.js';
import type { DeliveryQueries } from '../../src/projections/deliveries-query.js';
import type { DeliveryFilter } from '../../src/projections/delivery-entity.js';
import type { LegQueries } from '../../src/projections/legs-query.js';
import type { PageArgs } from '../../src/projections/page.js';
import type { PerformanceQueries } from '../../src/projections/performance-query.js';
import { DAYS, DESTINATIONS, TAGS } from './query-data.js';

/** What the API asks of Postgres. */
export interface Reads {
  readonly deliveries: DeliveryQueries;
  readonly legs: LegQueries;
  readonly attempts: AttemptQueries;
  readonly dashboard: DashboardQueries;
  readonly performance: PerformanceQueries;
}

/** One question, as clients ask it and as the statements behind it are made. */
export interface Case {
  readonly title: string;
  readonly query: string;
  readonly variables: Record<string, unknown>;
  readonly statements: (reads: Reads) => Promise<unknown>;
}

const random = (most: number): number => Math.floor(Math.random() * most);
const daysAgo = (days: number): string => new Date(Date.now() - days * 86_400_000).toISOString();
/** Half of all deliveries are the first one's, a hundredth the other's. */
const [LARGE, SMALL] = ['bench-0', 'bench-7'];

/** The filters of `deliveries`. Whoever spans organizations and names none asks for those of all. */
const FILTERS: Readonly<Record<string, (deliveries: number) => DeliveryFilter>> = {
  'the newest': () => ({ organizationId: LARGE }),
  'of a small organization': () => ({ organizationId: SMALL }),
  'of all': () => ({}),
  'of a day': () => ({ organizationId: LARGE, requestedAfter: daysAgo(20), requestedBefore: daysAgo(19) }),
  delivered: () => ({ organizationId: LARGE, status: ['DELIVERED'] }),
  'on their way (there are none)': () => ({ organizationId: LARGE, status: ['QUEUED', 'PROCESSING'] }),
  'on their way, of all (there are none)': () => ({ status: ['QUEUED', 'PROCESSING'] }),
  failed: () => ({ organizationId: LARGE, status: ['FAILED'] }),
  'failed, of a small organization': () => ({ organizationId: SMALL, status: ['FAILED'] }),
  'failed or bounced, of all': () => ({ status: ['FAILED', 'BOUNCED'] }),
  'expired (there are none)': () => ({ organizationId: LARGE, status: ['EXPIRED'] }),
  'failed or on their way': () => ({ organizationId: LARGE, status: ['FAILED', 'PROCESSING'] }),
  held: () => ({ organizationId: LARGE, status: ['HELD'] }),
  'failed, by e-mail, of ten days': () => ({
    organizationId: LARGE,
    status: ['FAILED'],
    channel: 'EMAIL',
    requestedAfter: daysAgo(10),
  }),
  'by e-mail': () => ({ organizationId: LARGE, channel: 'EMAIL' }),
  'by SMS (there are none)': () => ({ organizationId: LARGE, channel: 'SMS' }),
  'by tag': () => ({ organizationId: LARGE, tag: `tag-${2 * random(TAGS / 2)}` }),
  'by the tag of an old campaign': () => ({ organizationId: LARGE, tag: 'campaign' }),
  'by destination': () => ({
    organizationId: LARGE,
    destinationId: `d0000000-0000-4000-8000-${String(2 * random(DESTINATIONS / 2)).padStart(12, '0')}`,
  }),
  'by person': (deliveries) => ({ organizationId: LARGE, subject: `person-${2 * random(deliveries / 40)}` }),
  'by correlation': (deliveries) => ({ correlationId: `order-${1 + random(deliveries)}` }),
  'dead letters': () => ({ organizationId: LARGE, deadLettered: true }),
  'dead letters of a small organization': () => ({ organizationId: SMALL, deadLettered: true }),
  'that wait for an approval': () => ({ organizationId: LARGE, awaitingApproval: true }),
  'that wait for ada': () => ({ organizationId: LARGE, approver: 'ada' }),
};

const LIST = `query ($filter: DeliveryFilter, $after: String, $order: ListOrder) {
  deliveries(filter: $filter, after: $after, order: $order, first: 50) {
  edges { node { id status requestedAt legs { channel status } attempts { number status } } } } }`;
const COUNT = 'query ($filter: DeliveryFilter) { deliveries(filter: $filter, first: 1) { totalCount } }';

/** Each filter: its first page and one from the middle of the list, in both orders, and how many there are. */
export function deliveryCases(deliveries: number): Case[] {
  return Object.entries(FILTERS).flatMap(([name, filterOf]): Case[] => {
    const filter = filterOf(deliveries);
    const organizations: Organizations = filter.organizationId ? [filter.organizationId] : 'all';
    const place = [daysAgo(DAYS / 2), 'ffffffff-ffff-4fff-bfff-ffffffffffff', filter.organizationId ?? LARGE];
    // Clients know people by address; which name an address has in the log only the key ring tells, so these find none.
    const { subject, ...asked } = filter;
    const shown = subject ? { ...asked, recipient: { channel: 'EMAIL', address: `${subject}@example.com` } } : asked;
    const page = (title: string, order: ListOrder, after?: string): Case => ({
      title: `deliveries ${name}${title}`,
      query: LIST,
      variables: { filter: shown, order, after },
      statements: (reads) => reads.deliveries.list(filter, organizations, { order, after }),
    });
    return [
      page('', 'NEWEST_FIRST'),
      page(', a page in the middle', 'NEWEST_FIRST', cursorOf('deliveries', 'NEWEST_FIRST', place)),
      page(', the oldest first', 'OLDEST_FIRST'),
      page(', the oldest first, a page in the middle', 'OLDEST_FIRST', cursorOf('deliveries', 'OLDEST_FIRST', place)),
      {
        title: `deliveries ${name}, counted`,
        query: COUNT,
        variables: { filter: shown },
        statements: async (reads) => (await reads.deliveries.list(filter, organizations)).totalCount(),
      },
    ];
  });
}

const ids = (call: string, fields: string) => `query ($o: ID!, $from: DateTime!, $to: DateTime!) { ${call} ${fields} }`;
const LEGS = '{ edges { node { deliveryId status } } }';

/** Everything else that is asked of the filled tables; aggregates of a day and of the whole month. */
export function otherCases(): Case[] {
  const lists = [LARGE, SMALL].flatMap((organizationId): Case[] => {
    const whose = organizationId === LARGE ? '' : ' of a small organization';
    const scope = [organizationId];
    const list = (
      title: string,
      call: string,
      fields: string,
      ask: (reads: Reads, page: PageArgs) => Promise<unknown>,
    ) =>
      LIST_ORDERS.map(
        (order): Case => ({
          title: `${title}${whose}, ${order === 'NEWEST_FIRST' ? 'the newest first' : 'the oldest first'}`,
          query: `query ($o: ID!, $order: ListOrder) { ${call} ${fields} }`,
          variables: { o: organizationId, order },
          statements: (reads) => ask(reads, { order }),
        }),
      );
    return [
      ...list('legs', 'legs(filter: { organizationId: $o }, order: $order)', LEGS, ({ legs }, page) =>
        legs.list({}, scope, page),
      ),
      ...list('dead letters', 'deadLetters(filter: { organizationId: $o }, order: $order)', LEGS, ({ legs }, page) =>
        legs.list({ deadLettered: true }, scope, page),
      ),
      ...list('legs at risk', 'slaLegs(what: AT_RISK, organizationId: $o, order: $order)', LEGS, ({ legs }, page) =>
        legs.sla({ what: 'at-risk', withinSeconds: 300 }, scope, page),
      ),
      ...list(
        'legs that broke their service level',
        'slaLegs(what: BREACHED, organizationId: $o, order: $order)',
        LEGS,
        ({ legs }, page) => legs.sla({ what: 'breached', withinSeconds: 0 }, scope, page),
      ),
      ...list(
        'attempts',
        'attempts(filter: { organizationId: $o }, order: $order)',
        '{ edges { node { id status } } }',
        ({ attempts }, page) => attempts.list({}, scope, page),
      ),
    ];
  });
  const aggregates = [1, DAYS].flatMap((days): Case[] => {
    const span = { from: new Date(daysAgo(days)), to: new Date() };
    const variables = { o: LARGE, from: span.from.toISOString(), to: span.to.toISOString() };
    const of = days === 1 ? 'of a day' : `of ${days} days`;
    const one = (title: string, call: string, fields: string, statements: Case['statements']): Case => ({
      title: `${title} ${of}`,
      query: ids(`${call}(organizationId: $o, from: $from, to: $to)`, fields),
      variables,
      statements,
    });
    return [
      one('dashboard', 'dashboard', '{ bucket channel total }', ({ dashboard }) =>
        dashboard.dashboard([LARGE], span.from, span.to, 'day'),
      ),
      one('service levels', 'sla', '{ channel total p99Ms }', ({ performance }) => performance.sla([LARGE], span)),
      one('providers', 'providerPerformance', '{ date provider attempts }', ({ performance }) =>
        performance.providers([LARGE], span),
      ),
      one('performance of deliveries', 'deliveryPerformance', '{ date channel total }', ({ performance }) =>
        performance.deliveries([LARGE], span),
      ),
      one('engagement', 'engagement', '{ date channel sent }', ({ performance }) =>
        performance.engagement([LARGE], span),
      ),
    ];
  });
  return [...lists, ...aggregates];
}
