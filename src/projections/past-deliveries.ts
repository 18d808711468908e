import type { Organizations } from '../domain/vocabulary.js';
import type { EventCodec } from '../event-store/codec.js';
import type { EventReader } from '../event-store/event-store.js';
import { type AttemptRow, attemptsOf } from './attempts.js';
import { type DeliveryRow, deliveryRow } from './deliveries.js';
import type { DeliveryQueries } from './deliveries-query.js';
import type { DeliveryFilter } from './delivery-entity.js';
import { checkedSize, MAX_PAGE, type PageArgs } from './page.js';
import { eachStream, foldedTo, type Past } from './past.js';

/** One delivery as it was. */
export interface PastDeliveryRow {
  readonly row: DeliveryRow;
  readonly attempts: readonly AttemptRow[];
}

export interface PastPage {
  readonly edges: readonly { readonly cursor: string; readonly node: PastDeliveryRow }[];
  readonly hasNextPage: boolean;
  /** Where the next page begins, also when this one ended before it was full. */
  readonly endCursor: string | null;
}

/** Streams read for one page at most; what is not found in them is looked for on the next page. */
const MOST_STREAMS = 2_000;

/**
 * The list of deliveries as it was. Which there may be is asked of the read model, where all that was decided by a request
 * still stands; what each was then is folded from its stream.
 */
export class PastDeliveries {
  readonly #reader: EventReader;
  readonly #codec: EventCodec;
  readonly #deliveries: DeliveryQueries;

  constructor(reader: EventReader, codec: EventCodec, deliveries: DeliveryQueries) {
    this.#reader = reader;
    this.#codec = codec;
    this.#deliveries = deliveries;
  }

  /** By the time of the request, the newest first by default. @throws BadQuery for a page that cannot be */
  async list(
    past: Past,
    filter: DeliveryFilter,
    organizations: Organizations,
    { first, after, order }: PageArgs = {},
  ): Promise<PastPage> {
    const wanted = checkedSize(first);
    const { status, deadLettered, awaitingApproval, approver, ...lasting } = filter;
    const candidates = { ...lasting, requestedBefore: earlier(past.latest, filter.requestedBefore) };
    // Without conditions on what changes, most candidates are wanted.
    const size =
      status || deadLettered != null || awaitingApproval != null || approver != null
        ? MAX_PAGE
        : Math.min(wanted + 1, MAX_PAGE);
    const edges: { cursor: string; node: PastDeliveryRow }[] = [];
    let cursor = after ?? null;
    for (let looked = 0; looked < MOST_STREAMS; ) {
      const { edges: found, pageInfo } = await this.#deliveries.list(candidates, organizations, {
        first: size,
        after: cursor,
        order,
      });
      const nodes = await eachStream(
        this.#reader,
        found.map(({ node }) => node),
        ({ id }, recorded) => {
          const then = foldedTo(this.#codec, id, recorded, past.includes);
          return then && { row: deliveryRow(then.view), attempts: attemptsOf(id, then.events) };
        },
      );
      for (const [index, node] of nodes.entries()) {
        if (!node || !isWanted(node.row, filter)) continue;
        if (edges.length === wanted) return { edges, hasNextPage: true, endCursor: edges.at(-1)?.cursor ?? null };
        edges.push({ cursor: found[index]?.cursor as string, node });
      }
      if (!pageInfo.hasNextPage) return { edges, hasNextPage: false, endCursor: edges.at(-1)?.cursor ?? null };
      looked += found.length;
      cursor = pageInfo.endCursor;
    }
    return { edges, hasNextPage: true, endCursor: cursor };
  }
}

/** What of a filter can change in the life of a delivery. */
function isWanted(row: DeliveryRow, { status, deadLettered, awaitingApproval, approver }: DeliveryFilter): boolean {
  const approval = row.holds.find(({ reason }) => reason === 'approval');
  const { approvers, approvedBy } = (approval?.detail ?? {}) as { approvers?: string[]; approvedBy?: string[] };
  return (
    (!status || status.includes(row.status)) &&
    (deadLettered == null || row.deadLettered === deadLettered) &&
    (awaitingApproval == null || (approval !== undefined) === awaitingApproval) &&
    (approver == null || (approvers?.includes(approver) === true && !approvedBy?.includes(approver)))
  );
}

function earlier(latest: string, wanted: Date | string | null | undefined): string {
  if (wanted === null || wanted === undefined) return latest;
  const given = new Date(wanted).toISOString();
  return given < latest ? given : latest;
}
