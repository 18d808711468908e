import type { EntityManager } from 'typeorm';
import { mayAccess, type Organizations } from '../domain/vocabulary.js';
import { type AttemptRow, attemptIds } from './attempts.js';
import { AttemptEntity } from './attempts-query.js';
import { BadQuery, type Page } from './deliveries-query.js';
import { isUuid } from './scope.js';
import type { TenantReads } from './tenant-reads.js';

const MAX_PAGE = 200;

/** Attempts in doubt that wait for a person, the longest waiting first: a list to be worked off. */
export class AttemptsInDoubt {
  readonly #reads: TenantReads;

  constructor(reads: TenantReads) {
    this.#reads = reads;
  }

  /**
   * @param first at most 200
   * @param after the cursor of the last one already seen
   * @throws BadQuery for a page size or a cursor that cannot be
   */
  async list(organizations: Organizations, first = 50, after?: string | null): Promise<Page<AttemptRow>> {
    if (!Number.isInteger(first) || first < 1 || first > MAX_PAGE)
      throw new BadQuery('first', `must be from 1 to ${MAX_PAGE}`);
    const start = after ? cursorParts(after, organizations) : undefined;
    const rows = await this.#reads.as(organizations, ({ manager }) => {
      const page = held(manager, organizations).orderBy('a.startedAt').addOrderBy('a.deliveryId').addOrderBy('a.leg');
      if (start) page.andWhere('(a.startedAt, a.deliveryId, a.leg) > (:at, :id, :leg)', start);
      return page.limit(first + 1).getMany();
    });
    const edges = rows.slice(0, first).map((row) => ({ cursor: cursorOf(row), node: { ...row, ...attemptIds(row) } }));
    return {
      edges,
      pageInfo: {
        hasNextPage: rows.length > first,
        hasPreviousPage: Boolean(after),
        startCursor: edges[0]?.cursor ?? null,
        endCursor: edges.at(-1)?.cursor ?? null,
      },
      totalCount: () => this.#reads.as(organizations, ({ manager }) => held(manager, organizations).getCount()),
    };
  }
}

/** One that was sent again stays in doubt for ever; only the delivery knows which of them it waits for. */
function held(manager: EntityManager, organizations: Organizations) {
  const query = manager
    .createQueryBuilder(AttemptEntity, 'a')
    .innerJoin('deliveries', 'd', 'd.id = a.delivery_id')
    .where(`a.status = 'IN_DOUBT'`)
    .andWhere(
      `d.holds @> jsonb_build_array(jsonb_build_object('reason', 'doubt',
           'detail', jsonb_build_object('leg', a.leg, 'attempt', a.number)))`,
    );
  return organizations === 'all'
    ? query
    : query.andWhere('a.organizationId = any(:organizations)', { organizations: [...organizations] });
}

const cursorOf = ({ startedAt, deliveryId, leg, organizationId }: AttemptEntity): string =>
  Buffer.from(`${startedAt} ${deliveryId} ${leg} ${organizationId}`).toString('base64url');

/** A cursor belongs to the organization of what it points at. */
function cursorParts(cursor: string, organizations: Organizations): { at: string; id: string; leg: number } {
  const [at = '', id = '', leg = '', organizationId = '', ...rest] = Buffer.from(cursor, 'base64url')
    .toString()
    .split(' ');
  const isTime = /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(at) && !Number.isNaN(Date.parse(at));
  const isOwn = mayAccess(organizations, organizationId);
  if (!isTime || !isUuid(id) || !/^\d{1,9}$/.test(leg) || !isOwn || rest.length > 0)
    throw new BadQuery('after', 'is not a cursor of this list');
  return { at, id, leg: Number(leg) };
}
