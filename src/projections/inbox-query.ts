import { Column, Entity, type EntityManager, PrimaryColumn } from 'typeorm';
import type { Instant, JsonObject, Organizations, Priority } from '../domain/vocabulary.js';
import { BadQuery } from './cursor.js';
import type { InboxRow } from './inbox.js';
import { instant } from './scope.js';
import type { TenantReads } from './tenant-reads.js';

const MAX_PAGE = 200;

@Entity('inbox_messages')
export class InboxEntity implements InboxRow {
  @PrimaryColumn('uuid') id!: string;
  @Column('text', { name: 'organization_id' }) organizationId!: string;
  @Column('text') person!: string;
  @Column('uuid', { name: 'delivery_id' }) deliveryId!: string;
  @Column('jsonb') content!: JsonObject;
  @Column('text') priority!: Priority;
  @Column('timestamptz', { name: 'stored_at', transformer: instant }) storedAt!: Instant;
  @Column('timestamptz', { name: 'read_at', nullable: true, transformer: instant }) readAt!: Instant | null;
  @Column('timestamptz', { name: 'expires_at', transformer: instant }) expiresAt!: Instant;
  @Column('bigint') place!: string;
  @Column('bigint') position!: string;
}

/** Whose inbox. */
export interface InboxOwner {
  readonly organizationId: string;
  readonly person: string;
}

/** A person's messages that have not expired. */
export class InboxQueries {
  readonly #reads: TenantReads;

  constructor(reads: TenantReads) {
    this.#reads = reads;
  }

  /**
   * The newest first.
   *
   * @param first at most 200; one more is answered when there is one
   * @param before exclusive: a message's place
   * @throws BadQuery for a page size that cannot be
   */
  async newest(owner: InboxOwner, first: number, before?: bigint): Promise<InboxRow[]> {
    checkSize(first);
    return await this.#reads.as([owner.organizationId], ({ manager }) => {
      const page = shown(manager, owner).orderBy('m.place', 'DESC');
      if (before !== undefined) page.andWhere('m.place < :before', { before: String(before) });
      return page.limit(first + 1).getMany();
    });
  }

  /**
   * All that is held of a person, expired messages too, the newest first.
   *
   * @param first at most 200; one more is answered when there is one
   * @param before exclusive: a message's place
   * @throws BadQuery for a page size that cannot be
   */
  async held(scope: Organizations, person: string, first: number, before?: bigint): Promise<InboxRow[]> {
    checkSize(first);
    return await this.#reads.as(scope, ({ manager }) => {
      const page = manager.createQueryBuilder(InboxEntity, 'm').where('m.person = :person', { person });
      page.orderBy('m.place', 'DESC');
      if (scope !== 'all') page.andWhere('m.organizationId = any(:scope)', { scope: [...scope] });
      if (before !== undefined) page.andWhere('m.place < :before', { before: String(before) });
      return page.limit(first + 1).getMany();
    });
  }

  /**
   * What has changed since, in the order of the log: the position of the last one is where to go on from, however many
   * of them changed again meanwhile.
   *
   * @param first at most 200; one more is answered when there is one
   * @param after exclusive
   * @throws BadQuery for a page size that cannot be
   */
  async changed(owner: InboxOwner, first: number, after: bigint): Promise<InboxRow[]> {
    checkSize(first);
    return await this.#reads.as([owner.organizationId], ({ manager }) =>
      shown(manager, owner)
        .andWhere('m.position > :after', { after: String(after) })
        .orderBy('m.position', 'ASC')
        .limit(first + 1)
        .getMany(),
    );
  }

  /** Those of these messages that there are, in no order. */
  async some(owner: InboxOwner, ids: readonly string[]): Promise<InboxRow[]> {
    return await this.#reads.as([owner.organizationId], ({ manager }) =>
      shown(manager, owner).andWhere('m.id = any(:ids)', { ids }).getMany(),
    );
  }

  async unread(owner: InboxOwner): Promise<number> {
    return await this.#reads.as([owner.organizationId], ({ manager }) =>
      shown(manager, owner).andWhere('m.readAt is null').getCount(),
    );
  }
}

function checkSize(first: number): void {
  if (!Number.isInteger(first) || first < 1 || first > MAX_PAGE)
    throw new BadQuery('first', `must be from 1 to ${MAX_PAGE}`);
}

const shown = (manager: EntityManager, { organizationId, person }: InboxOwner) =>
  manager
    .createQueryBuilder(InboxEntity, 'm')
    .where('m.person = :person and m.organizationId = :organizationId and m.expiresAt > now()', {
      person,
      organizationId,
    });
