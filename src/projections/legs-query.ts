import type { Channel, Instant, Organizations, Priority } from '../domain/vocabulary.js';
import { otherThan, sqlOf } from './cursor.js';
import type { LegRecord } from './legs.js';
import { type List, type Page, type PageArgs, Paging } from './page.js';
import { narrowed } from './scope.js';
import type { TenantReads } from './tenant-reads.js';

/** What is absent or null does not restrict. */
export interface LegFilter {
  readonly organizationId?: string | null;
  readonly channel?: Channel | null;
  readonly priority?: Priority | null;
  readonly provider?: string | null;
  readonly deadLettered?: boolean | null;
  /** Inclusive. */
  readonly requestedAfter?: Instant | Date | null;
  /** Exclusive. */
  readonly requestedBefore?: Instant | Date | null;
}

/**
 * breached: not accepted when it was due, or later · at-risk: still open, and due within the time given, or already
 */
export interface SlaFilter extends Pick<LegFilter, 'organizationId' | 'channel' | 'priority'> {
  readonly what: 'breached' | 'at-risk';
  readonly withinSeconds: number;
}

const COLUMNS = `delivery_id as "deliveryId", leg, organization_id as "organizationId", channel, provider,
  destination_id as "destinationId", priority, status, attempts, requested_at as "requestedAt",
  first_attempt_at as "firstAttemptAt", sent_at as "sentAt", due_at as "dueAt", error_category as "errorCategory",
  error_code as "errorCode", dead_lettered as "deadLettered", opens, clicks, complaints, opt_outs as "optOuts", updated_at as "updatedAt"`;

const CONDITIONS: Readonly<Record<string, (parameter: string) => string>> = {
  channel: (parameter) => `channel = ${parameter}`,
  priority: (parameter) => `priority = ${parameter}`,
  provider: (parameter) => `provider = ${parameter}`,
  requestedAfter: (parameter) => `requested_at >= ${parameter}`,
  requestedBefore: (parameter) => `requested_at < ${parameter}`,
};

/** The legs read model, asked. */
export class LegQueries {
  readonly #reads: TenantReads;

  constructor(reads: TenantReads) {
    this.#reads = reads;
  }

  /** By the time of the request, the newest first by default. @throws BadQuery for a page that cannot be */
  async list(filter: LegFilter, organizations: Organizations, page: PageArgs = {}): Promise<Page<LegRecord>> {
    const scope = narrowed(organizations, filter.organizationId);
    const where = conditions(filter, scope);
    // Spelled out, because the index of dead letters is used only when the plan can see it.
    if (filter.deadLettered === true) where.add('dead_lettered');
    if (filter.deadLettered === false) where.add('not dead_lettered');
    return await this.#page(scope, where, new Paging(BY_REQUEST, page, scope), BY_REQUEST);
  }

  /**
   * Legs whose service level is broken or in danger by when they are due, the earliest first by default.
   *
   * @throws BadQuery for a page that cannot be
   */
  async sla(filter: SlaFilter, organizations: Organizations, page: PageArgs = {}): Promise<Page<LegRecord>> {
    const scope = narrowed(organizations, filter.organizationId);
    const where = conditions({ ...filter }, scope);
    const list = filter.what === 'at-risk' ? OPEN_BY_DUE_TIME : UNMET_BY_DUE_TIME;
    const until =
      filter.what === 'at-risk' ? `now() + ${where.parameter(filter.withinSeconds)} * interval '1 second'` : 'now()';
    where.add(`${list.by} < ${until}`);
    return await this.#page(scope, where, new Paging(list, page, scope), list);
  }

  async #page(scope: Organizations, where: Conditions, paging: Paging, list: LegList): Promise<Page<LegRecord>> {
    const { by, isLegReversed, timeOf } = list;
    const [all, values] = [where.text(), [...where.values]];
    const { direction, beyond } = sqlOf(paging.order);
    const legs = sqlOf(isLegReversed ? otherThan(paging.order) : paging.order);
    if (paging.after) {
      const { at, id, numbers: [leg] = [] } = paging.after;
      const [time, delivery, number] = [at, id, leg].map((value) => where.parameter(value));
      const [row, seen] = [`(${by}, delivery_id)`, `(${time}::timestamptz, ${delivery}::uuid)`];
      // The first condition alone is one that an index can begin at.
      where.add(`${row} ${beyond}= ${seen} and (${row} <> ${seen} or leg ${legs.beyond} ${number}::integer)`);
    }
    const rows: Stored[] = await this.#reads.as(scope, (runner) =>
      runner.query(
        `select ${COLUMNS} from legs where ${where.text()}
       order by ${by} ${direction}, delivery_id ${direction}, leg ${legs.direction} limit ${paging.size + 1}`,
        [...where.values],
      ),
    );
    return paging.pageOf(
      rows.map(shown),
      (row) => ({ at: timeOf(row), id: row.deliveryId, organizationId: row.organizationId, numbers: [row.leg] }),
      async () => {
        const [row] = await this.#reads.as(scope, (runner) =>
          runner.query(`select count(*) as count from legs where ${all}`, values),
        );
        return Number(row.count);
      },
    );
  }
}

interface LegList extends List {
  readonly by: 'requested_at' | 'open_due_at' | 'unmet_due_at';
  readonly timeOf: (row: LegRecord) => Instant;
  /** Whether legs of one delivery go the other way than time and delivery: so they do in the list's indexes. */
  readonly isLegReversed: boolean;
}

const BY_REQUEST: LegList = {
  ...{ name: 'legs', numbers: 1 },
  ...{ by: 'requested_at', timeOf: ({ requestedAt }) => requestedAt, isLegReversed: true },
};
/** Each is the due time of those that are meant, and null of all others. */
const [OPEN_BY_DUE_TIME, UNMET_BY_DUE_TIME] = (['open_due_at', 'unmet_due_at'] as const).map(
  (by): LegList => ({
    ...{ name: `legs-${by}`, numbers: 1, order: 'OLDEST_FIRST' },
    ...{ by, timeOf: ({ dueAt }) => dueAt as Instant, isLegReversed: false },
  }),
) as [LegList, LegList];

type Times = 'requestedAt' | 'firstAttemptAt' | 'sentAt' | 'dueAt' | 'updatedAt';
type Stored = Omit<LegRecord, Times> & { readonly [Name in Times]: Date | null };

const shown = (row: Stored): LegRecord =>
  ({
    ...row,
    requestedAt: row.requestedAt?.toISOString(),
    firstAttemptAt: row.firstAttemptAt?.toISOString() ?? null,
    sentAt: row.sentAt?.toISOString() ?? null,
    dueAt: row.dueAt?.toISOString() ?? null,
    updatedAt: row.updatedAt?.toISOString(),
  }) as LegRecord;

/** SQL conditions and their parameters. */
export class Conditions {
  readonly values: unknown[] = [];
  readonly #all: string[] = ['true'];

  parameter(value: unknown): string {
    return `$${this.values.push(value)}`;
  }

  add(condition: string): void {
    this.#all.push(condition);
  }

  text(): string {
    return this.#all.join(' and ');
  }
}

/** What the filter and the caller's organizations leave. */
export function conditions(filter: LegFilter, organizations: Organizations): Conditions {
  const where = new Conditions();
  const visible = narrowed(organizations, filter.organizationId);
  if (visible !== 'all') {
    // With one organization its index gives the rows in order; with several it would not.
    const [only, ...others] = visible;
    where.add(
      only !== undefined && others.length === 0
        ? `organization_id = ${where.parameter(only)}`
        : `organization_id = any(${where.parameter([...visible])})`,
    );
  }
  for (const [field, condition] of Object.entries(CONDITIONS)) {
    const value = filter[field as keyof LegFilter];
    if (value !== null && value !== undefined) where.add(condition(where.parameter(value)));
  }
  return where;
}
