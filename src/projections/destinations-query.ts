import { Column, Entity, type EntityManager, JoinColumn, OneToOne, PrimaryColumn } from 'typeorm';
import type { RetryPolicy } from '../domain/retry-policy.js';
import { type Channel, type Instant, isUuid, type JsonObject, type Organizations } from '../domain/vocabulary.js';
import type { DestinationRow } from './destinations.js';
import { instant } from './scope.js';
import type { TenantReads } from './tenant-reads.js';

/** Seed 3, CircuitBreakerConfig.failureThreshold. */
const UNHEALTHY_FROM = 10;
/** A single failure is everyday life; three in a row are not chance any more. */
const DEGRADED_FROM = 3;

export interface DestinationHealth {
  /** disabled by a person · unhealthy: 10 or more failures in a row · degraded: 3 or more · healthy */
  readonly status: 'disabled' | 'unhealthy' | 'degraded' | 'healthy';
  readonly consecutiveFailures: number;
  readonly totalFailures: number;
  /** Attempts with an outcome, failures included. */
  readonly totalDeliveries: number;
  /** From an attempt's start to its outcome; null before the first. */
  readonly averageResponseMs: number | null;
  readonly lastSuccessAt: Instant | null;
  readonly lastFailureAt: Instant | null;
  /** open: it is not called for now · half-open: single calls try whether it works again · closed: all is well */
  readonly circuit: 'closed' | 'open' | 'half-open';
}

export interface DestinationWithHealth extends DestinationRow {
  readonly health: DestinationHealth;
}

@Entity('destination_health')
export class DestinationHealthEntity {
  @PrimaryColumn('uuid', { name: 'destination_id' }) destinationId!: string;
  @Column('bigint') deliveries!: string;
  @Column('bigint') failures!: string;
  @Column('bigint', { name: 'consecutive_failures' }) consecutiveFailures!: string;
  @Column('timestamptz', { name: 'last_success_at', nullable: true, transformer: instant })
  lastSuccessAt!: Instant | null;
  @Column('timestamptz', { name: 'last_failure_at', nullable: true, transformer: instant })
  lastFailureAt!: Instant | null;
  @Column('bigint', { name: 'response_ms' }) responseMs!: string;
}

@Entity('destinations')
export class DestinationEntity implements DestinationRow {
  @PrimaryColumn('uuid') id!: string;
  @Column('text', { name: 'organization_id' }) organizationId!: string;
  @Column('text') label!: string;
  @Column('text') type!: Channel;
  @Column('text', { nullable: true }) description!: string | null;
  @Column('jsonb') config!: JsonObject;
  @Column('jsonb', { nullable: true }) retry!: RetryPolicy | null;
  @Column('jsonb', { nullable: true }) limits!: DestinationRow['limits'];
  @Column('jsonb', { nullable: true }) circuit!: DestinationRow['circuit'];
  @Column('boolean', { name: 'is_default' }) isDefault!: boolean;
  @Column('boolean') enabled!: boolean;
  @Column('text', { name: 'disabled_reason', nullable: true }) disabledReason!: string | null;
  @Column('boolean') deleted!: boolean;
  @Column('timestamptz', { name: 'created_at', transformer: instant }) createdAt!: Instant;
  @Column('timestamptz', { name: 'updated_at', transformer: instant }) updatedAt!: Instant;
  @OneToOne(() => DestinationHealthEntity, { createForeignKeyConstraints: false })
  @JoinColumn({ name: 'id', referencedColumnName: 'destinationId' })
  counts!: DestinationHealthEntity | null;
}

/** The destinations read model, asked. Deleted ones are not found. */
export class DestinationQueries {
  readonly #reads: TenantReads;

  constructor(reads: TenantReads) {
    this.#reads = reads;
  }

  async find(id: string, organizations: Organizations): Promise<DestinationWithHealth | undefined> {
    if (!isUuid(id)) return undefined;
    const found = await this.#reads.as(organizations, ({ manager }) =>
      visible(manager, organizations).andWhere('d.id = :id', { id }).getOne(),
    );
    return found ? withHealth(found) : undefined;
  }

  /** By label. */
  async list(organizations: Organizations, type?: Channel | null): Promise<DestinationWithHealth[]> {
    const rows = await this.#reads.as(organizations, ({ manager }) => {
      const query = visible(manager, organizations);
      if (type) query.andWhere('d.type = :type', { type });
      return query.getMany();
    });
    return rows.map(withHealth);
  }

  /** Where a delivery without targets goes: the organization's enabled default destinations. */
  async defaultsOf(organizationId: string): Promise<DestinationWithHealth[]> {
    const rows = await this.#reads.as([organizationId], ({ manager }) =>
      visible(manager, [organizationId]).andWhere('d.isDefault and d.enabled').getMany(),
    );
    return rows.map(withHealth);
  }
}

function visible(manager: EntityManager, organizations: Organizations) {
  const query = manager
    .createQueryBuilder(DestinationEntity, 'd')
    .leftJoinAndSelect('d.counts', 'h')
    .where('not d.deleted');
  if (organizations !== 'all') query.andWhere('d.organizationId = any(:organizations)', { organizations });
  return query.orderBy('d.label').addOrderBy('d.id');
}

function withHealth({ counts, ...row }: DestinationEntity): DestinationWithHealth {
  const totalDeliveries = Number(counts?.deliveries ?? 0);
  const consecutiveFailures = Number(counts?.consecutiveFailures ?? 0);
  return {
    ...row,
    health: {
      status: healthStatus(row.enabled, consecutiveFailures),
      consecutiveFailures,
      totalFailures: Number(counts?.failures ?? 0),
      totalDeliveries,
      averageResponseMs: counts && totalDeliveries > 0 ? Number(counts.responseMs) / totalDeliveries : null,
      lastSuccessAt: counts?.lastSuccessAt ?? null,
      lastFailureAt: counts?.lastFailureAt ?? null,
      circuit: circuitStatus(row.circuit),
    },
  };
}

function circuitStatus(circuit: DestinationRow['circuit']): DestinationHealth['circuit'] {
  if (!circuit) return 'closed';
  return Date.parse(circuit.until) > Date.now() ? 'open' : 'half-open';
}

function healthStatus(enabled: boolean, consecutiveFailures: number): DestinationHealth['status'] {
  if (!enabled) return 'disabled';
  if (consecutiveFailures >= UNHEALTHY_FROM) return 'unhealthy';
  return consecutiveFailures >= DEGRADED_FROM ? 'degraded' : 'healthy';
}
