import { Column, Entity, type EntityManager, PrimaryColumn, type SelectQueryBuilder } from 'typeorm';
import type { Hold } from '../domain/delivery-status.js';
import {
  type Channel,
  type Instant,
  type Json,
  mayAccess,
  type Organizations,
  type Priority,
  type Status,
} from '../domain/vocabulary.js';
import type { DeliveryRow, LegRow } from './deliveries.js';
import { instant, isUuid, narrowed } from './scope.js';
import type { TenantReads } from './tenant-reads.js';

@Entity('deliveries')
export class DeliveryEntity implements DeliveryRow {
  @PrimaryColumn('uuid') id!: string;
  @Column('text', { name: 'organization_id' }) organizationId!: string;
  @Column('text') status!: Status;
  @Column('text') priority!: Priority;
  @Column('jsonb') legs!: readonly LegRow[];
  @Column('jsonb') holds!: readonly Hold[];
  @Column('text', { array: true }) tags!: readonly string[];
  @Column('jsonb', { nullable: true }) metadata!: Json;
  @Column('text', { name: 'correlation_id', nullable: true }) correlationId!: string | null;
  @Column('text', { name: 'idempotency_key', nullable: true }) idempotencyKey!: string | null;
  @Column('text', { array: true }) channels!: readonly Channel[];
  @Column('uuid', { name: 'destination_ids', array: true }) destinationIds!: readonly string[];
  @Column('text', { array: true }) subjects!: readonly string[];
  @Column('boolean', { name: 'dead_lettered' }) deadLettered!: boolean;
  @Column('timestamptz', { name: 'requested_at', transformer: instant }) requestedAt!: Instant;
  @Column('timestamptz', { name: 'scheduled_at', nullable: true, transformer: instant }) scheduledAt!: Instant | null;
  @Column('timestamptz', { name: 'expires_at', nullable: true, transformer: instant }) expiresAt!: Instant | null;
  @Column('timestamptz', { name: 'completed_at', nullable: true, transformer: instant }) completedAt!: Instant | null;
  @Column('timestamptz', { name: 'updated_at', transformer: instant }) updatedAt!: Instant;
  @Column('integer') revision!: number;
  @Column('bigint') position!: string;
}

/** As in the public API; what is absent or null does not restrict. */
export interface DeliveryFilter {
  readonly organizationId?: string | null;
  readonly status?: readonly Status[] | null;
  /** Of any planned route, fallbacks included; as is `destinationId`. */
  readonly channel?: Channel | null;
  readonly destinationId?: string | null;
  /** Recipients are not kept yet: matches nothing. */
  readonly recipientId?: string | null;
  /** A person's name; see `DeliveryRow.subjects`. */
  readonly subject?: string | null;
  readonly tag?: string | null;
  readonly correlationId?: string | null;
  readonly deadLettered?: boolean | null;
  /** True: only those that wait for somebody to approve them. */
  readonly awaitingApproval?: boolean | null;
  /** Only those that wait for this actor, who has not approved them yet. */
  readonly approver?: string | null;
  /** Inclusive. */
  readonly requestedAfter?: Instant | Date | null;
  /** Exclusive. */
  readonly requestedBefore?: Instant | Date | null;
}

export interface Page<Node> {
  readonly edges: readonly { readonly cursor: string; readonly node: Node }[];
  readonly pageInfo: {
    readonly hasNextPage: boolean;
    readonly hasPreviousPage: boolean;
    readonly startCursor: string | null;
    readonly endCursor: string | null;
  };
  /** Counts all that match, page or not; costs a query of its own. */
  readonly totalCount: () => Promise<number>;
}

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

export const MAX_PAGE = 200;

/** The deliveries read model, asked. Newest first. */
export class DeliveryQueries {
  readonly #reads: TenantReads;

  constructor(reads: TenantReads) {
    this.#reads = reads;
  }

  async find(id: string, organizations: Organizations): Promise<DeliveryRow | undefined> {
    return (await this.findMany([id], organizations))[0];
  }

  /** Those that exist and may be seen, in no order. */
  async findMany(ids: readonly string[], organizations: Organizations): Promise<DeliveryRow[]> {
    const uuids = ids.filter((id) => isUuid(id));
    if (uuids.length === 0) return [];
    return await this.#reads.as(organizations, ({ manager }) =>
      visible(manager, organizations).andWhere('d.id = any(:ids)', { ids: uuids }).getMany(),
    );
  }

  /**
   * @param first at most 200
   * @param after the cursor of the last one already seen
   * @throws BadQuery for a page size or a cursor that cannot be
   */
  async list(
    filter: DeliveryFilter,
    organizations: Organizations,
    first = 50,
    after?: string | null,
  ): Promise<Page<DeliveryRow>> {
    if (!Number.isInteger(first) || first < 1 || first > MAX_PAGE)
      throw new BadQuery('first', `must be from 1 to ${MAX_PAGE}`);
    const scope = narrowed(organizations, filter.organizationId);
    const start = after ? cursorParts(after, scope) : undefined;
    const matching = (manager: EntityManager) => restricted(visible(manager, scope), filter);
    const rows = await this.#reads.as(scope, ({ manager }) => {
      const page = matching(manager).orderBy('d.requestedAt', 'DESC').addOrderBy('d.id', 'DESC');
      if (start) page.andWhere('(d.requestedAt, d.id) < (:at, :id)', start);
      return page.limit(first + 1).getMany();
    });
    const edges = rows.slice(0, first).map((node) => ({ cursor: cursorOf(node), node }));
    return {
      edges,
      pageInfo: {
        hasNextPage: rows.length > first,
        hasPreviousPage: Boolean(after),
        startCursor: edges[0]?.cursor ?? null,
        endCursor: edges.at(-1)?.cursor ?? null,
      },
      totalCount: () => this.#reads.as(scope, ({ manager }) => matching(manager).getCount()),
    };
  }

  /** An organization's deliveries to a person that have not ended, in no order. */
  async openOf(subject: string, organizationId: string): Promise<string[]> {
    const scope = [organizationId];
    return await this.#reads.as(scope, async ({ manager }) => {
      const open = restricted(visible(manager, scope), { subject, status: ['HELD', 'QUEUED', 'PROCESSING'] });
      return (await open.getMany()).map(({ id }) => id);
    });
  }

  /** An organization's deliveries requested before a time that have not ended, in no order. */
  async openBefore(organizationId: string, requestedBefore: Date, limit: number): Promise<string[]> {
    const scope = [organizationId];
    return await this.#reads.as(scope, async ({ manager }) => {
      const open = restricted(visible(manager, scope), { requestedBefore, status: ['HELD', 'QUEUED', 'PROCESSING'] });
      return (await open.limit(limit).getMany()).map(({ id }) => id);
    });
  }
}

function visible(manager: EntityManager, organizations: Organizations): Query {
  const query = manager.createQueryBuilder(DeliveryEntity, 'd').where('true');
  if (organizations === 'all') return query;
  // With one organization its index gives the rows in order; with several it would not.
  const [only, ...others] = organizations;
  return others.length === 0 && only !== undefined
    ? query.andWhere('d.organizationId = :only', { only })
    : query.andWhere('d.organizationId = any(:organizations)', { organizations });
}

type Query = SelectQueryBuilder<DeliveryEntity>;

const conditions: { readonly [Field in keyof DeliveryFilter]-?: string } = {
  organizationId: 'd.organizationId = :organizationId',
  status: 'd.status = any(:status)',
  channel: 'd.channels @> array[:channel]::text[]',
  destinationId: `d.destinationIds @> array[:destinationId]::uuid[] and d.destinationIds <> '{}'`,
  recipientId: 'false',
  subject: "d.subjects @> array[:subject]::text[] and d.subjects <> '{}'",
  // What else is said of tags and destinations lets the plan see that their indexes have them all.
  tag: `d.tags @> array[:tag]::text[] and d.tags <> '{}'`,
  correlationId: 'd.correlationId = :correlationId',
  deadLettered: 'd.deadLettered = :deadLettered',
  awaitingApproval: `(d.holds @> '[{"reason": "approval"}]') = :awaitingApproval`,
  approver: '(d.holds @> :asked and not d.holds @> :approved)',
  requestedAfter: 'd.requestedAt >= :requestedAfter',
  requestedBefore: 'd.requestedAt < :requestedBefore',
};

const AWAITS_APPROVAL = `d.holds @> '[{"reason": "approval"}]'`;

const approvalsOf = (actor: string) => {
  const held = (detail: object) => JSON.stringify([{ reason: 'approval', detail }]);
  return { asked: held({ approvers: [actor] }), approved: held({ approvedBy: [actor] }) };
};

function restricted(query: Query, filter: DeliveryFilter): Query {
  for (const [field, condition] of Object.entries(conditions)) {
    const value = filter[field as keyof DeliveryFilter];
    if (value === null || value === undefined) continue;
    const isImpossible = field === 'destinationId' && !isUuid(value as string);
    // Spelled out, because the index of dead letters is used only when the plan can see it.
    const isDeadLetters = field === 'deadLettered' && value === true;
    if (isImpossible) query.andWhere('false');
    else if (isDeadLetters) query.andWhere('d.deadLettered');
    else if (field === 'awaitingApproval' && value === true) query.andWhere(AWAITS_APPROVAL);
    else if (field === 'approver') query.andWhere(AWAITS_APPROVAL).andWhere(condition, approvalsOf(value as string));
    else query.andWhere(condition, { [field]: value });
  }
  return query;
}

const cursorOf = ({ requestedAt, id, organizationId }: DeliveryRow): string =>
  Buffer.from(`${requestedAt} ${id} ${organizationId}`).toString('base64url');

/** A cursor belongs to the organization of what it points at. */
function cursorParts(cursor: string, organizations: Organizations): { at: Instant; id: string } {
  const [at = '', id = '', organizationId = '', ...rest] = Buffer.from(cursor, 'base64url').toString().split(' ');
  const isOwn = mayAccess(organizations, organizationId) && rest.length === 0;
  if (!/^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(at) || Number.isNaN(Date.parse(at)) || !isUuid(id) || !isOwn)
    throw new BadQuery('after', 'is not a cursor of this list');
  return { at, id };
}
