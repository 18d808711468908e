import type { EntityManager, SelectQueryBuilder } from 'typeorm';
import { isUuid, type Organizations } from '../domain/vocabulary.js';
import type { DeliveryRow } from './deliveries.js';
import { countOf } from './deliveries-count.js';
import { ordered, type Search } from './deliveries-search.js';
import { DeliveryEntity, type DeliveryFilter } from './delivery-entity.js';
import { type List, type Page, type PageArgs, Paging } from './page.js';
import { narrowed } from './scope.js';
import type { TenantReads } from './tenant-reads.js';

const LIST: List = { name: 'deliveries' };

/** The deliveries read model, asked. */
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

  /** By the time of the request, the newest first by default. @throws BadQuery for a page that cannot be */
  async list(filter: DeliveryFilter, organizations: Organizations, page: PageArgs = {}): Promise<Page<DeliveryRow>> {
    const scope = narrowed(organizations, filter.organizationId);
    const paging = new Paging(LIST, page, scope);
    const search = searchOf(filter, scope);
    const { size, order, after } = paging;
    const rows = await this.#reads.as(scope, ({ manager }) =>
      ordered(manager, search, { size: size + 1, order, after }),
    );
    return paging.pageOf(
      rows,
      ({ requestedAt, id, organizationId }) => ({ at: requestedAt, id, organizationId }),
      () => this.#reads.as(scope, ({ manager }) => countOf(manager, search)),
    );
  }

  /** An organization's deliveries to a person that have not ended, in no order. */
  async openOf(subject: string, organizationId: string): Promise<string[]> {
    const scope = [organizationId];
    return await this.#reads.as(scope, async ({ manager }) => {
      const open = restricted(visible(manager, scope), { subject, status: ['HELD', 'QUEUED', 'PROCESSING'] });
      return (await open.getMany()).map(({ id }) => id);
    });
  }

  /** An organization's deliveries requested before a time that have not ended, the newest first. */
  async openBefore(organizationId: string, requestedBefore: Date, limit: number): Promise<string[]> {
    const scope = [organizationId];
    return await this.#reads.as(scope, async ({ manager }) => {
      const open = searchOf({ requestedBefore, status: ['HELD', 'QUEUED', 'PROCESSING'] }, scope);
      return (await ordered(manager, open, { size: limit })).map(({ id }) => id);
    });
  }
}

const searchOf = (filter: DeliveryFilter, organizations: Organizations): Search => ({
  filter,
  organizations,
  matching: (manager, narrower) => restricted(visible(manager, organizations), narrower),
});

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
