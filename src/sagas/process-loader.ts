import type { DeliveryEvent } from '../domain/delivery-events.js';
import { absent, type DeliveryState, evolve } from '../domain/delivery-state.js';
import { type EventCodec, skippedRevisions } from '../event-store/codec.js';
import type { EventReader, RecordedEvent } from '../event-store/event-store.js';
import { partitionOf } from './engine-store.js';
import type { Process, ProcessTable } from './process-table.js';
import type { Suspensions } from './suspensions.js';
import type { Tenure } from './tenure.js';

export interface ProcessLoaderParts {
  /** The stream of a delivery is this and its id. */
  readonly streams: string;
  readonly reader: EventReader;
  readonly codec: EventCodec;
  readonly processes: ProcessTable;
  readonly suspensions: Suspensions;
  readonly isOurs: (deliveryId: string) => boolean;
}

/** Brings deliveries from the log into memory: event by event as they come, or a whole stream. */
export class ProcessLoader {
  readonly #parts: ProcessLoaderParts;

  constructor(parts: ProcessLoaderParts) {
    this.#parts = parts;
  }

  /** @returns what these events have changed of the tenure's */
  async fold(events: readonly RecordedEvent[], tenure: Tenure): Promise<Set<Process>> {
    const { streams, processes } = this.#parts;
    const changed = new Set<Process>();
    for (const recorded of events) {
      const id = recorded.streamId.slice(streams.length);
      const partition = partitionOf(id);
      // What comes once more was folded, and may have left memory since, with a row.
      if (!tenure.partitions.has(partition) || recorded.position <= tenure.position) continue;
      // Not in memory and not its first event: it was put aside until due, or had ended. A new one has no row, unless
      // somebody has been here before.
      const process =
        processes.get(id) ?? (recorded.revision === 0 ? processes.add(id, !tenure.isLive) : await this.load(id));
      // Given away or taken while it was read.
      if (!tenure.partitions.has(partition)) continue;
      this.#foldOne(process, recorded);
      changed.add(process);
    }
    return changed;
  }

  /** @throws LogUnavailable */
  async load(id: string): Promise<Process> {
    const { processes, isOurs } = this.#parts;
    const events = await this.#read(id);
    const process = processes.get(id) ?? processes.add(id, true);
    const skipped = skippedRevisions(events);
    for (const recorded of events) if (!skipped.has(recorded.revision)) this.#foldOne(process, recorded);
    // Another instance's by now: nothing of it is to be stored here.
    if (!isOurs(id)) processes.remove(process);
    return process;
  }

  /** Folds the whole stream of a process anew. False when it has left memory, or is in trouble, by then. */
  async reload(process: Process): Promise<boolean> {
    const { processes, codec } = this.#parts;
    const stream = await this.#stream(process.id);
    if (processes.get(process.id) !== process || process.trouble) return false;
    processes.refold(process, stream, codec);
    return true;
  }

  /** How a delivery is, whosever it is. */
  async stateOf(id: string): Promise<DeliveryState> {
    return this.#parts.codec.fold<DeliveryState, DeliveryEvent>(await this.#stream(id), evolve, absent);
  }

  #stream(id: string): Promise<RecordedEvent[]> {
    return this.#parts.reader.readStream(`${this.#parts.streams}${id}`);
  }

  async #read(id: string): Promise<RecordedEvent[]> {
    const { processes } = this.#parts;
    const read = processes.beginRead(id);
    try {
      for (;;) {
        const events = await this.#stream(id);
        if (!read.isStale) return events;
        read.isStale = false;
      }
    } finally {
      processes.endRead(id, read);
    }
  }

  #foldOne(process: Process, recorded: RecordedEvent): void {
    const { processes, suspensions, codec } = this.#parts;
    if (process.trouble) {
      suspensions.offered(process, recorded);
      return;
    }
    try {
      processes.fold(process, codec.decode<DeliveryEvent>(recorded).event, recorded.revision);
    } catch (error) {
      suspensions.thrown(process, error, recorded);
    }
  }
}
