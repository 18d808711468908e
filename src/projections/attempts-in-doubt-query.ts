import type { EntityManager } from 'typeorm';
import type { Organizations } from '../domain/vocabulary.js';
import { type AttemptRow, attemptIds } from './attempts.js';
import { AttemptEntity } from './attempts-query.js';
import { sqlOf } from './cursor.js';
import { type List, type Page, type PageArgs, Paging } from './page.js';
import type { TenantReads } from './tenant-reads.js';

const LIST: List = { name: 'attempts-in-doubt', numbers: 1, order: 'OLDEST_FIRST' };

/** Attempts in doubt that wait for a person, by default the longest waiting first: a list to be worked off. */
export class AttemptsInDoubt {
  readonly #reads: TenantReads;

  constructor(reads: TenantReads) {
    this.#reads = reads;
  }

  /** By the time of their start. @throws BadQuery for a page that cannot be */
  async list(organizations: Organizations, page: PageArgs = {}): Promise<Page<AttemptRow>> {
    const paging = new Paging(LIST, page, organizations);
    const { direction, beyond } = sqlOf(paging.order);
    const rows = await this.#reads.as(organizations, ({ manager }) => {
      const query = held(manager, organizations);
      for (const column of ['a.startedAt', 'a.deliveryId', 'a.leg']) query.addOrderBy(column, direction);
      if (paging.after) {
        const { at, id, numbers: [leg] = [] } = paging.after;
        query.andWhere(`(a.startedAt, a.deliveryId, a.leg) ${beyond} (:at, :id, :leg)`, { at, id, leg });
      }
      return query.limit(paging.size + 1).getMany();
    });
    return paging.pageOf(
      rows.map((row) => ({ ...row, ...attemptIds(row) })),
      ({ startedAt, deliveryId, leg, organizationId }) => ({
        ...{ at: startedAt, id: deliveryId, organizationId, numbers: [leg] },
      }),
      () => this.#reads.as(organizations, ({ manager }) => held(manager, organizations).getCount()),
    );
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
