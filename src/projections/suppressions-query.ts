import { Column, Entity, type EntityManager, PrimaryColumn, type SelectQueryBuilder } from 'typeorm';
import type { SuppressionReason } from '../domain/suppression.js';
import type { Channel, Instant, Organizations } from '../domain/vocabulary.js';
import { sqlOf } from './cursor.js';
import { type List, type Page, type PageArgs, Paging } from './page.js';
import { instant } from './scope.js';
import type { SuppressionRow } from './suppressions.js';
import type { TenantReads } from './tenant-reads.js';

const LIST: List = { name: 'suppressions' };

@Entity('suppressions')
export class SuppressionEntity implements SuppressionRow {
  @PrimaryColumn('uuid') id!: string;
  @Column('text', { name: 'organization_id' }) organizationId!: string;
  @Column('text') channel!: Channel;
  @Column('text') address!: string;
  @Column('text') reason!: SuppressionReason;
  @Column('timestamptz', { transformer: instant }) since!: Instant;
  @Column('uuid', { name: 'delivery_id', nullable: true }) deliveryId!: string | null;
  @Column('text', { nullable: true }) note!: string | null;
  @Column('text') by!: string;
  @Column('boolean') listed!: boolean;
}

/** The suppression list, asked. */
export class SuppressionQueries {
  readonly #reads: TenantReads;

  constructor(reads: TenantReads) {
    this.#reads = reads;
  }

  /** By since when they are there, the newest first by default. @throws BadQuery for a page that cannot be */
  async list(
    organizations: Organizations,
    channel: Channel | undefined,
    page: PageArgs = {},
  ): Promise<Page<SuppressionRow>> {
    const paging = new Paging(LIST, page, organizations);
    const { direction, beyond } = sqlOf(paging.order);
    const rows = await this.#reads.as(organizations, ({ manager }) => {
      const query = listed(manager, organizations, channel).orderBy('s.since', direction).addOrderBy('s.id', direction);
      if (paging.after)
        query.andWhere(`(s.since, s.id) ${beyond} (:at, :id)`, { at: paging.after.at, id: paging.after.id });
      return query.limit(paging.size + 1).getMany();
    });
    return paging.pageOf(
      rows,
      ({ since, id, organizationId }) => ({ at: since, id, organizationId }),
      () => this.#reads.as(organizations, ({ manager }) => listed(manager, organizations, channel).getCount()),
    );
  }

  /** Those of these entries that there are, released ones too, the newest first. */
  async some(organizations: Organizations, ids: readonly string[]): Promise<SuppressionRow[]> {
    return await this.#reads.as(organizations, ({ manager }) =>
      within(manager.createQueryBuilder(SuppressionEntity, 's').where('s.id = any(:ids)', { ids }), organizations)
        .orderBy('s.since', 'DESC')
        .getMany(),
    );
  }
}

function listed(manager: EntityManager, organizations: Organizations, channel: Channel | undefined) {
  const query = manager.createQueryBuilder(SuppressionEntity, 's').where('s.listed');
  if (channel) query.andWhere('s.channel = :channel', { channel });
  return within(query, organizations);
}

function within(query: SelectQueryBuilder<SuppressionEntity>, organizations: Organizations) {
  if (organizations === 'all') return query;
  // With one organization its index gives the rows in order; with several it would not.
  const [only, ...others] = organizations;
  return others.length === 0 && only !== undefined
    ? query.andWhere('s.organizationId = :only', { only })
    : query.andWhere('s.organizationId = any(:organizations)', { organizations: [...organizations] });
}
