import type { DeliveryEvent } from '../domain/delivery-events.js';
import { absent, type DeliveryState, evolve } from '../domain/delivery-state.js';
import { reject } from '../domain/rejection.js';
import type { Instant } from '../domain/vocabulary.js';
import { type EventCodec, UndecodableEvent } from '../event-store/codec.js';
import type { EventStore, RecordedEvent } from '../event-store/event-store.js';
import type { Refused } from './executor.js';
import { eventId, newId } from './ids.js';
import type { Requester } from './intake.js';

/** A delivery that the engine does not go on with, and what it has stumbled over. */
export interface Suspension {
  readonly id: string;
  readonly organizationId: string;
  /** Log position of the event that it cannot get past, as is `eventType`. */
  readonly position: bigint;
  readonly eventType: string;
  readonly error: string;
  /** How often it was tried. */
  readonly attempts: number;
  readonly suspendedAt: Instant;
}

/** The suspended deliveries of all instances. */
export interface SuspensionList {
  find(id: string): Promise<Suspension | undefined>;
  /** By when they were suspended. @param after the last one already seen */
  list(
    most: number,
    direction: 'asc' | 'desc',
    after?: { readonly at: Instant; readonly id: string },
  ): Promise<Suspension[]>;
  count(): Promise<number>;
}

/** An operator and the reason that history is to show. */
export interface Intervention extends Omit<Requester, 'organizationId'> {
  readonly reason: string;
}

export type Intervened = { readonly ok: true; readonly position: bigint } | Refused;

/** Somebody else keeps writing to a stream that is suspended: more than chance. */
const MAX_CONFLICTS = 20;

/**
 * What operators do with suspended deliveries. Their streams cannot be folded, so nothing is decided on a state: what
 * the operator says is recorded at the stream's end, and the engine that owns the delivery, wherever it runs, reads it.
 */
export class SuspendedDeliveries {
  readonly list: SuspensionList;
  readonly #store: EventStore;
  readonly #codec: EventCodec;

  constructor(list: SuspensionList, store: EventStore, codec: EventCodec) {
    this.list = list;
    this.#store = store;
    this.#codec = codec;
  }

  /** Has it tried again at once, for instance because this program is newer than the one that gave up. */
  async resume(id: string, operator: Intervention): Promise<Intervened> {
    return await this.#record(id, operator, ({ reason, actor }, at) => ({
      type: 'ProcessResumed',
      at,
      data: { by: actor, reason },
    }));
  }

  /** Has its stream read without the event that cannot be understood. */
  async skip(id: string, operator: Intervention): Promise<Intervened> {
    return await this.#record(id, operator, ({ reason, actor }, at, stream) => {
      const poison = this.#poisonIn(stream);
      if (!poison)
        return reject('CONFLICT', 'there is nothing to skip: this program understands all events of this delivery');
      const { revision, type: eventType } = poison.recorded;
      if (revision === 0)
        return reject('CONFLICT', 'without its first event there is no delivery: it can only be resumed');
      const data = { revision, eventType, error: poison.message, by: actor, reason };
      return { type: 'EventSkipped', at, data };
    });
  }

  async #record(
    id: string,
    operator: Intervention,
    decide: (operator: Intervention, at: Instant, stream: readonly RecordedEvent[]) => DeliveryEvent | Refused,
  ): Promise<Intervened> {
    const commandId = newId();
    for (let round = 0; round < MAX_CONFLICTS; round++) {
      const stream = await this.#store.readStream(`delivery-${id}`);
      const newest = stream.at(-1);
      if (!newest) return reject('NOT_FOUND', 'there is no such delivery');
      const suspension = await this.list.find(id);
      if (!suspension) return reject('CONFLICT', 'this delivery is not suspended');
      const event = decide(operator, new Date().toISOString(), stream);
      if ('ok' in event) return event;
      const { actor, traceparent } = operator;
      const { organizationId } = suspension;
      const envelope = { organizationId, commandId, actor, ...(traceparent !== undefined && { traceparent }) };
      const encoded = this.#codec.encode(event, eventId(commandId, 0), envelope, newest);
      const result = await this.#store.append(newest.streamId, newest.revision, [encoded]);
      if (result.ok) return result;
    }
    throw new Error(`the stream of delivery ${id} changed too often to be written`);
  }

  #poisonIn(stream: readonly RecordedEvent[]): UndecodableEvent | undefined {
    try {
      this.#codec.fold<DeliveryState, DeliveryEvent>(stream, evolve, absent);
      return undefined;
    } catch (error) {
      if (error instanceof UndecodableEvent) return error;
      throw error;
    }
  }
}
