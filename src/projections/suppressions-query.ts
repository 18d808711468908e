import { Column, Entity, type EntityManager, PrimaryColumn } from 'typeorm';
import type { SuppressionReason } from '../domain/suppression.js';
import type { Channel, Instant, Organizations } from '../domain/vocabulary.js';
import { BadQuery, type Page } from './deliveries-query.js';
import { instant, isUuid } from './scope.js';
import type { SuppressionRow } from './suppressions.js';
import type { TenantReads } from './tenant-reads.js';

const MAX_PAGE = 200;

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

/** The suppression list, the newest first. */
export class SuppressionQueries {
  readonly #reads: TenantReads;

  constructor(reads: TenantReads) {
    this.#reads = reads;
  }

  /**
   * @param first at most 200
   * @param after the cursor of the last one already seen
   * @throws BadQuery for a page size or a cursor that cannot be
   */
  async list(
    organizations: Organizations,
    channel: Channel | undefined,
    first = 50,
    after?: string | null,
  ): Promise<Page<SuppressionRow>> {
    if (!Number.isInteger(first) || first < 1 || first > MAX_PAGE)
      throw new BadQuery('first', `must be from 1 to ${MAX_PAGE}`);
    const start = after ? cursorParts(after) : undefined;
    const rows = await this.#reads.as(organizations, ({ manager }) => {
      const page = listed(manager, organizations, channel).orderBy('s.since', 'DESC').addOrderBy('s.id', 'DESC');
      if (start) page.andWhere('(s.since, s.id) < (:since, :id)', start);
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
      totalCount: () =>
        this.#reads.as(organizations, ({ manager }) => listed(manager, organizations, channel).getCount()),
    };
  }
}

function listed(manager: EntityManager, organizations: Organizations, channel: Channel | undefined) {
  const query = manager.createQueryBuilder(SuppressionEntity, 's').where('s.listed');
  if (channel) query.andWhere('s.channel = :channel', { channel });
  return organizations === 'all'
    ? query
    : query.andWhere('s.organizationId = any(:organizations)', { organizations: [...organizations] });
}

const cursorOf = ({ since, id }: SuppressionRow): string => Buffer.from(`${since} ${id}`).toString('base64url');

function cursorParts(cursor: string): { since: string; id: string } {
  const [since = '', id = '', ...rest] = Buffer.from(cursor, 'base64url').toString().split(' ');
  if (Number.isNaN(Date.parse(since)) || !isUuid(id) || rest.length > 0)
    throw new BadQuery('after', 'is not a cursor of this list');
  return { since, id };
}
