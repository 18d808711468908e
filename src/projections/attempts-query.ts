import { Column, Entity, type EntityManager, PrimaryColumn } from 'typeorm';
import type { Channel, Failure, Instant, Organizations } from '../domain/vocabulary.js';
import { type AttemptRow, type AttemptStatus, attemptIds } from './attempts.js';
import { BadQuery, type Page } from './deliveries-query.js';
import { checkedSize, pageOf } from './page.js';
import { instant, isUuid, narrowed } from './scope.js';
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

  /** The newest first. @throws BadQuery for a page size or a cursor that cannot be */
  async list(
    filter: AttemptFilter,
    organizations: Organizations,
    first = 50,
    after?: string | null,
  ): Promise<Page<AttemptRow>> {
    const size = checkedSize(first);
    const scope = narrowed(organizations, filter.organizationId);
    const start = after ? cursorParts(after) : undefined;
    const matching = (manager: EntityManager) => {
      const query = manager.createQueryBuilder(AttemptEntity, 'a').where('true');
      if (scope !== 'all') query.andWhere('a.organizationId = any(:organizations)', { organizations: scope });
      for (const [field, condition] of Object.entries(conditions)) {
        const value = filter[field as keyof AttemptFilter];
        if (value !== null && value !== undefined) query.andWhere(condition, { [field]: value });
      }
      return query;
    };
    const rows = await this.#reads.as(scope, ({ manager }) => {
      const page = matching(manager);
      for (const column of ['a.startedAt', 'a.deliveryId', 'a.leg', 'a.number']) page.addOrderBy(column, 'DESC');
      if (start) page.andWhere('(a.startedAt, a.deliveryId, a.leg, a.number) < (:at, :id, :leg, :number)', start);
      return page.limit(size + 1).getMany();
    });
    return pageOf(
      rows.map((row) => ({ ...row, ...attemptIds(row) })),
      size,
      {
        after,
        cursorOf: ({ startedAt, deliveryId, leg, number }) =>
          Buffer.from(`${startedAt} ${deliveryId} ${leg} ${number}`).toString('base64url'),
        totalCount: () => this.#reads.as(scope, ({ manager }) => matching(manager).getCount()),
      },
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

function cursorParts(cursor: string): { at: string; id: string; leg: number; number: number } {
  const [at = '', id = '', leg = '', number = '', ...rest] = Buffer.from(cursor, 'base64url').toString().split(' ');
  const isTime = /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(at) && !Number.isNaN(Date.parse(at));
  const areNumbers = [leg, number].every((text) => /^\d{1,9}$/.test(text));
  if (!isTime || !isUuid(id) || !areNumbers || rest.length > 0)
    throw new BadQuery('after', 'is not a cursor of this list');
  return { at, id, leg: Number(leg), number: Number(number) };
}
