import type { RecordReport } from '../domain/delivery-commands.js';
import { attemptKey, type DeliveryState } from '../domain/delivery-state.js';
import { reject } from '../domain/rejection.js';
import type { Deliveries } from './deliveries.js';
import type { Known, Refused } from './executor.js';
import { derivedId } from './ids.js';
import { type Inboxes, type Marked, messageIdOf } from './inboxes.js';
import type { Requester } from './intake.js';

export interface InboxReadingParts {
  readonly inboxes: Pick<Inboxes, 'find' | 'mark'>;
  readonly deliveries: Pick<Deliveries, 'change'>;
  readonly load: (deliveryId: string) => Promise<Known<DeliveryState>>;
}

/** Reading a message in the inbox is opening it, as a picture that is loaded is with mail: its delivery is told, once. */
export class InboxReading {
  readonly #parts: InboxReadingParts;

  constructor(parts: InboxReadingParts) {
    this.#parts = parts;
  }

  /**
   * Marks a message read. The delivery is told first, so that of one that is marked it knows, whatever breaks in between;
   * who is not answered asks again, and the same report again is no news.
   *
   * @param person whose inbox it has to be in
   */
  async read(id: string, person: string, requester: Requester): Promise<Marked | Refused> {
    const message = await this.#parts.inboxes.find(id, person);
    if (!message) return reject('NOT_FOUND', 'there is no such message in this inbox');
    const told = await this.#tell(id.toLowerCase(), message.deliveryId, person, requester);
    const marked = await this.#parts.inboxes.mark(id, true, person, requester);
    return marked.ok ? { ok: true, position: marked.position ?? told } : marked;
  }

  /** @returns the position of what was recorded, if anything was */
  async #tell(id: string, deliveryId: string, person: string, requester: Requester): Promise<bigint | undefined> {
    const { state } = await this.#parts.load(deliveryId);
    const about = state.tag === 'absent' ? undefined : attemptOf(state, deliveryId, { id, person });
    if (!about) return undefined;
    const now = new Date().toISOString();
    const command: RecordReport = {
      type: 'RecordReport',
      now,
      kind: 'Opened',
      ...about,
      provider: 'inapp',
      reportId: derivedId(deliveryId, `report/inapp/${id}`),
      happenedAt: now,
      recipient: derivedId(deliveryId, `recipient/${person}`).slice(0, 8),
    };
    const isOwn = (organizationId: string) => organizationId === requester.organizationId;
    const reported = await this.#parts.deliveries.change(deliveryId, command, requester, isOwn);
    return reported.ok ? reported.position : undefined;
  }
}

/** Which attempt a message came from: its id is made of the attempt's key and whose inbox it is in. */
function attemptOf(
  { legs }: Exclude<DeliveryState, { tag: 'absent' }>,
  deliveryId: string,
  { id, person }: { readonly id: string; readonly person: string },
): Pick<RecordReport, 'leg' | 'round' | 'via'> | undefined {
  for (const { leg, round: newest, routes } of legs) {
    const inboxes = routes.filter(({ channel }) => channel === 'IN_APP');
    const route = inboxes.find(({ subject }) => subject === person) ?? inboxes[0];
    for (let round = 0; route && round <= newest; round++)
      if (messageIdOf(deliveryId, attemptKey(deliveryId, { leg, round }), person) === id) {
        const { channel, destinationId } = route;
        return { leg, round, via: { channel, ...(destinationId !== undefined && { destinationId }) } };
      }
  }
  return undefined;
}
