import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { Channel, Failure, Instant, Organizations } from '../domain/vocabulary.js';
import { type AttemptRow, type AttemptStatus, attemptIds } from './attempts.js';
import { instant } from './scope.js';
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
