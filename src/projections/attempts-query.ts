import { Column, Entity, type EntityManager, PrimaryColumn } from 'typeorm';
import type { Channel, Failure, Instant, Organizations } from '../domain/vocabulary.js';
import { type AttemptRow, type AttemptStatus, attemptIds } from './attempts.js';
import { sqlOf } from './cursor.js';
import { type List, type Page, type PageArgs, Paging } from './page.js';
import { instant, narrowed } from './scope.js';
import type { TenantReads } from './tenant-reads.js';

@Entity('attempts')
export class AttemptEntity implements Omit<AttemptRow, 'id' | 'legId'> {
  @PrimaryColumn('uuid', { name: 'delivery_id' }) deliveryId!: string;
  @PrimaryColumn('integer') leg!: number;
  @PrimaryColumn('integer') number!: number;
  @Column('text', { name: 'organization_id' }) organizationId!: string;
  @Column('integer') route!: number;
  @Column('text') channel!: Channel;
  @Column('text') provider!: string;
  @Column('text', { name: 'provider_reason', nullable: true }) providerReason!: string | null;
  @Column('uuid', { name: 'destination_id', nullable: true }) destinationId!: string | null;
  @Column('text') status!: AttemptStatus;
  @Column('timestamptz', { name: 'started_at', transformer: instant }) startedAt!: Instant;
  @Column('timestamptz', { name: 'completed_at', nullable: true, transformer: instant }) completedAt!: Instant | null;
  @Column('jsonb', { nullable: true }) error!: Failure | null;
  @Column('text', { name: 'provider_message_id', nullable: true }) providerMessageId!: string | null;
  @Column('text', { nullable: true }) warning!: string | null;
}

/** What is absent or null does not restrict. */
export interface AttemptFilter {
  readonly organizationId?: string | null;
  readonly channel?: Channel | null;
  readonly provider?: string | null;
  readonly status?: readonly AttemptStatus[] | null;
  /** Inclusive. */
  readonly startedAfter?: Date | null;
  /** Exclusive. */
  readonly startedBefore?: Date | null;
}

const conditions: { readonly [Field in keyof AttemptFilter]-?: string } = {
  organizationId: 'a.organizationId = :organizationId',
  channel: 'a.channel = :channel',
  provider: 'a.provider = :provider',
  status: 'a.status = any(:status)',
  startedAfter: 'a.startedAt >= :startedAfter',
  startedBefore: 'a.startedAt < :startedBefore',
};

const LIST: List = { name: 'attempts', numbers: 2 };

/** The attempts read model, asked. */
export class AttemptQueries {
  readonly #reads: TenantReads;

  constructor(reads: TenantReads) {
    this.#reads = reads;
  }

  /** The newest attempt that has this id at its provider. */
  async byProviderMessage(
    providerMessageId: string,
    whose: { readonly destinationId?: string; readonly provider: string; readonly organizationId?: string },
  ): Promise<Pick<AttemptRow, 'deliveryId' | 'leg'> | undefined> {
    const { destinationId, provider, organizationId } = whose;
    const row = await this.#reads.as(organizationId === undefined ? 'all' : [organizationId], ({ manager }) =>
      manager.findOne(AttemptEntity, {
        where: { providerMessageId, ...(destinationId === undefined ? { provider } : { destinationId }) },
        order: { startedAt: 'DESC' },
      }),
    );
    return row ? { deliveryId: row.deliveryId, leg: row.leg } : undefined;
  }

  /** By the time of their start, the newest first by default. @throws BadQuery for a page that cannot be */
  async list(filter: AttemptFilter, organizations: Organizations, page: PageArgs = {}): Promise<Page<AttemptRow>> {
    const scope = narrowed(organizations, filter.organizationId);
    const paging = new Paging(LIST, page, scope);
    const matching = (manager: EntityManager) => {
      const query = manager.createQueryBuilder(AttemptEntity, 'a').where('true');
      // With one organization its index gives the rows in order; with several it would not.
      if (scope !== 'all' && scope.length === 1) query.andWhere('a.organizationId = :only', { only: scope[0] });
      else if (scope !== 'all') query.andWhere('a.organizationId = any(:organizations)', { organizations: scope });
      for (const [field, condition] of Object.entries(conditions)) {
        const value = filter[field as keyof AttemptFilter];
        if (value !== null && value !== undefined) query.andWhere(condition, { [field]: value });
      }
      return query;
    };
    const { direction, beyond } = sqlOf(paging.order);
    const rows = await this.#reads.as(scope, ({ manager }) => {
      const query = matching(manager);
      for (const column of ['a.startedAt', 'a.deliveryId', 'a.leg', 'a.number']) query.addOrderBy(column, direction);
      if (paging.after) {
        const { at, id, numbers: [leg, number] = [] } = paging.after;
        const seen = { at, id, leg, number };
        query.andWhere(`(a.startedAt, a.deliveryId, a.leg, a.number) ${beyond} (:at, :id, :leg, :number)`, seen);
      }
      return query.limit(paging.size + 1).getMany();
    });
    return paging.pageOf(
      rows.map((row) => ({ ...row, ...attemptIds(row) })),
      ({ startedAt, deliveryId, leg, number, organizationId }) => ({
        ...{ at: startedAt, id: deliveryId, organizationId, numbers: [leg, number] },
      }),
      () => this.#reads.as(scope, ({ manager }) => matching(manager).getCount()),
    );
  }

  /** Of each delivery, in the order of `deliveryIds`: its attempts in the order they began. */
  async ofDeliveries(deliveryIds: readonly string[], organizations: Organizations): Promise<AttemptRow[][]> {
    const rows = await this.#reads.as(organizations, ({ manager }) => {
      const query = manager
        .createQueryBuilder(AttemptEntity, 'a')
        .where('a.deliveryId = any(:deliveryIds)', { deliveryIds });
      if (organizations !== 'all') query.andWhere('a.organizationId = any(:organizations)', { organizations });
      return query.orderBy('a.startedAt').addOrderBy('a.leg').addOrderBy('a.number').getMany();
    });
    const byDelivery = new Map<string, AttemptRow[]>(deliveryIds.map((id) => [id, []]));
    for (const row of rows) byDelivery.get(row.deliveryId)?.push({ ...row, ...attemptIds(row) });
    return deliveryIds.map((id) => byDelivery.get(id) as AttemptRow[]);
  }
}
