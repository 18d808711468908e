import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { Hold } from '../domain/delivery-status.js';
import type { Channel, Instant, Json, Priority, Status } from '../domain/vocabulary.js';
import type { DeliveryRow, LegRow } from './deliveries.js';
import { instant } from './scope.js';

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
