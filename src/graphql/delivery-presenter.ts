import type { Accepted } from '../commands/deliveries.js';
import type { DeliveryEvent } from '../domain/delivery-events.js';
import type { LoggedAccess } from '../domain/download.js';
import type { RetentionState } from '../domain/retention.js';
import { type Decoded, type EventCodec, UndecodableEvent } from '../event-store/codec.js';
import type { EventReader, RecordedEvent } from '../event-store/event-store.js';
import { attemptsOf } from '../projections/attempts.js';
import { type ComplianceRecord, complianceRecord } from '../projections/compliance.js';
import { type DeliveryRow, deliveryRow } from '../projections/deliveries.js';
import { accessesOf, downloadsOf } from '../projections/downloads.js';
import { eachStream, foldedTo, type PastDelivery } from '../projections/past.js';
import { timelineOf } from '../projections/timeline.js';
import { deliveries, viewOf } from '../projections/views.js';

/** A delivery as the API answers it; what costs extra is a function and is called only when asked for. */
export interface PresentedDelivery extends DeliveryRow {
  readonly asOf: bigint;
  readonly attempts: () => Promise<unknown> | unknown;
  readonly history: () => Promise<readonly HistoryEvent[]>;
  readonly timeline: () => Promise<unknown>;
  readonly downloadAccesses: () => Promise<readonly PresentedAccess[]>;
}

/** What was recorded, with its content where nobody has destroyed the key. */
export interface HistoryEvent {
  readonly position: bigint;
  readonly revision: number;
  readonly type: string;
  readonly data: object;
  readonly metadata: object;
  readonly recordedAt: string;
}

/** One who came to a link. */
export interface PresentedAccess {
  readonly at: string;
  readonly outcome: string;
  readonly file: number | null;
  readonly isCounted: boolean;
  readonly address: string | null;
}

export const presentAccess = ({ at, outcome, file, isCounted, address }: LoggedAccess): PresentedAccess => ({
  ...{ at, outcome: outcome.toUpperCase(), file: file ?? null },
  ...{ isCounted: isCounted ?? false, address: address ?? null },
});

const streamOf = (id: string): string => `delivery-${id}`;

/** Makes API deliveries from a row of the read model, from what a command left, or from the log as it was once. */
export class DeliveryPresenter {
  readonly #reader: EventReader;
  readonly #codec: EventCodec;

  readonly #retention: (organizationId: string) => Promise<RetentionState>;

  constructor(reader: EventReader, codec: EventCodec, retention: (organizationId: string) => Promise<RetentionState>) {
    this.#reader = reader;
    this.#codec = codec;
    this.#retention = retention;
  }

  /** @param attempts reads the attempts from the same read models the row is from */
  fromRow(row: DeliveryRow, asOf: bigint, attempts: () => Promise<unknown> | unknown): PresentedDelivery {
    const { id, revision } = row;
    return {
      asOf,
      attempts,
      history: () => this.#history(id, revision),
      timeline: () => this.#timeline(id, revision),
      downloadAccesses: () => this.#downloadAccesses(id, revision),
      ...row,
    };
  }

  /** What a command left, without waiting for a read model. */
  async fromCommand(result: Accepted): Promise<PresentedDelivery> {
    const { id, revision, events, position } = result;
    if (position === undefined || revision !== events.length - 1) {
      const stored = await this.#reader.readStream(streamOf(id));
      return this.#fromEvents(id, this.#codec.decodeStream<DeliveryEvent>(stored));
    }
    // It begins with this command, so all there is to it is at hand.
    const organizationId = events[0]?.type === 'DeliveryRequested' ? events[0].data.organizationId : '';
    const decoded = events.map((event, index) => ({ event, organizationId, recorded: { revision: index, position } }));
    return this.#fromEvents(id, decoded as unknown as Decoded<DeliveryEvent>[]);
  }

  /** The delivery as the log had it then; undefined when it was not there yet. */
  async fromLog(id: string, isIncluded: (event: RecordedEvent) => boolean): Promise<PresentedDelivery | undefined> {
    const recorded = (await this.#reader.readStream(streamOf(id))).filter(isIncluded);
    if (recorded.length === 0) return undefined;
    return this.#fromEvents(id, this.#codec.decodeStream<DeliveryEvent>(recorded));
  }

  #fromEvents(id: string, events: readonly Decoded<DeliveryEvent>[]): PresentedDelivery {
    const view = viewOf(deliveries, id, events);
    if (!view) throw new Error(`delivery ${id} has no events`);
    return {
      asOf: view.position,
      attempts: () => attemptsOf(id, events),
      history: () => this.#history(id, view.revision),
      timeline: () => this.#timeline(id, view.revision),
      downloadAccesses: () => this.#downloadAccesses(id, view.revision),
      ...deliveryRow(view),
    };
  }

  async #history(id: string, revision: number): Promise<readonly HistoryEvent[]> {
    const recorded = await this.#reader.readStream(streamOf(id), { limit: revision + 1 });
    return await Promise.all(
      recorded.map(async (event) => ({
        position: event.position,
        revision: event.revision,
        type: event.type,
        data: await this.#dataOf(event),
        metadata: event.metadata,
        recordedAt: event.created,
      })),
    );
  }

  async #folded(id: string, revision: number): Promise<PastDelivery | undefined> {
    const recorded = await this.#reader.readStream(streamOf(id), { limit: revision + 1 });
    return foldedTo(this.#codec, id, recorded, () => true);
  }

  async #timeline(id: string, revision: number): Promise<unknown> {
    return timelineOf((await this.#folded(id, revision))?.events ?? []);
  }

  async #downloadAccesses(id: string, revision: number): Promise<readonly PresentedAccess[]> {
    const delivery = await this.#folded(id, revision);
    return delivery ? accessesOf(await downloadsOf(this.#reader, this.#codec, delivery)).map(presentAccess) : [];
  }

  /** Of deliveries that exist, in order. */
  async compliance(ids: readonly string[]): Promise<(ComplianceRecord | undefined)[]> {
    const streams = ids.map((id) => ({ id }));
    const found = await eachStream(this.#reader, streams, ({ id }, recorded) =>
      foldedTo(this.#codec, id, recorded, () => true),
    );
    const records: (ComplianceRecord | undefined)[] = [];
    for (const delivery of found) {
      const organizationId = delivery?.view.state.request.organizationId;
      records.push(
        delivery && organizationId !== undefined
          ? complianceRecord(delivery, {
              downloads: await downloadsOf(this.#reader, this.#codec, delivery),
              retention: await this.#retention(organizationId),
            })
          : undefined,
      );
    }
    return records;
  }

  /** History is what was recorded, also what this program does not understand, and references to content that is lost. */
  async #dataOf(recorded: RecordedEvent): Promise<object> {
    let data: object;
    try {
      data = this.#codec.decode(recorded).event.data;
    } catch (error) {
      if (error instanceof UndecodableEvent) return recorded.data;
      throw error;
    }
    try {
      return (await this.#codec.complete(data, recorded.streamId)) ?? data;
    } catch (error) {
      if ((error as { code?: string }).code !== 'CONTENT_LOST') throw error;
      return data;
    }
  }
}
