import type { Channel, Instant, Organizations, Priority } from '../domain/vocabulary.js';
import type { Page } from './deliveries-query.js';
import type { LegRecord } from './legs.js';
import { checkedSize, legCursor, legCursorParts, pageOf } from './page.js';
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

const OPEN = `status in ('HELD', 'QUEUED', 'PROCESSING')`;

/** The legs read model, asked. */
export class LegQueries {
  readonly #reads: TenantReads;

  constructor(reads: TenantReads) {
    this.#reads = reads;
  }

  /** Newest request first. @throws BadQuery for a page size or a cursor that cannot be */
  async list(
    filter: LegFilter,
    organizations: Organizations,
    first = 50,
    after?: string | null,
  ): Promise<Page<LegRecord>> {
    const where = conditions(filter, organizations);
    // Spelled out, because the index of dead letters is used only when the plan can see it.
    if (filter.deadLettered === true) where.add('dead_lettered');
    if (filter.deadLettered === false) where.add('not dead_lettered');
    const order = { by: 'requested_at', is: 'desc', of: (row: LegRecord) => row.requestedAt } as const;
    return await this.#page(organizations, where, order, first, after);
  }

  /** Legs whose service level is broken or in danger, the earliest due first. @throws BadQuery */
  async sla(filter: SlaFilter, organizations: Organizations, first = 50, after?: string | null) {
    const where = conditions({ ...filter }, organizations);
    where.add('due_at is not null');
    if (filter.what === 'at-risk')
      where.add(`${OPEN} and due_at < now() + ${where.parameter(filter.withinSeconds)} * interval '1 second'`);
    else where.add(`due_at < coalesce(sent_at, now()) and status <> 'CANCELLED'`);
    const order = { by: 'due_at', is: 'asc', of: (row: LegRecord) => row.dueAt as string } as const;
    return await this.#page(organizations, where, order, first, after);
  }

  async #page(
    organizations: Organizations,
    where: Conditions,
    order: Order,
    first: number,
    after?: string | null,
  ): Promise<Page<LegRecord>> {
    const size = checkedSize(first);
    const [all, values] = [where.text(), [...where.values]];
    if (after) {
      const { at, id, leg } = legCursorParts(after);
      const [time, delivery, number] = [at, id, leg].map((value) => where.parameter(value));
      // Within one delivery legs come in their order, whichever way time goes.
      const [later, equal] = order.is === 'desc' ? ['<', '='] : ['>', '='];
      where.add(
        `((${order.by}, delivery_id) ${later} (${time}::timestamptz, ${delivery}::uuid)
          or (${order.by}, delivery_id) ${equal} (${time}::timestamptz, ${delivery}::uuid) and leg > ${number}::integer)`,
      );
    }
    const rows: Stored[] = await this.#reads.as(organizations, (runner) =>
      runner.query(
        `select ${COLUMNS} from legs where ${where.text()}
       order by ${order.by} ${order.is}, delivery_id ${order.is}, leg limit ${size + 1}`,
        [...where.values],
      ),
    );
    return pageOf(rows.map(shown), size, {
      after,
      cursorOf: (row) => legCursor(order.of(row), row.deliveryId, row.leg),
      totalCount: async () => {
        const [row] = await this.#reads.as(organizations, (runner) =>
          runner.query(`select count(*) as count from legs where ${all}`, values),
        );
        return Number(row.count);
      },
    });
  }
}

interface Order {
  readonly by: 'requested_at' | 'due_at';
  readonly is: 'asc' | 'desc';
  readonly of: (row: LegRecord) => Instant;
}

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
