import type { EventReader } from '../../event-store/event-store.js';
import type { Connection } from './connection.js';
import type { EventBatch } from './pacing.js';
import { pause } from './pause.js';
import type { Track } from './track.js';

/** The way of one track through history to where another one is. */
export class Approach {
  readonly #reader: EventReader;
  readonly #track: Track;
  readonly #group: Track;

  constructor(reader: EventReader, track: Track, group: Track) {
    this.#reader = reader;
    this.#track = track;
    this.#group = group;
  }

  /**
   * Full batches, as long as there are some on the way to the group.
   *
   * @param eventsPerSecond the most it may read; null when it may go as fast as it can
   */
  async *history(signal: AbortSignal, eventsPerSecond: number | null = null): AsyncGenerator<EventBatch> {
    let after = this.#track.position;
    let due = performance.now();
    while (!signal.aborted) {
      const { events, isFull } = await this.#readTowardsGroup(after);
      const last = events.at(-1);
      if (!isFull || !last) return;
      after = last.position;
      if (eventsPerSecond !== null) {
        await pause(due - performance.now(), signal);
        due = Math.max(due, performance.now()) + (events.length * 1_000) / eventsPerSecond;
      }
      yield { events, position: after, caughtUp: false };
    }
  }

  /** The last bit. The caller holds the group's turn. @returns whether both are at the same position now */
  async arrive(connection: Connection, signal: AbortSignal): Promise<boolean> {
    while (this.#track.position < this.#group.position && !signal.aborted) {
      const { events, isFull } = await this.#readTowardsGroup(this.#track.position);
      const last = events.at(-1);
      // The log may have nothing more up to the group's position: other streams are not read.
      const position = isFull && last ? last.position : this.#group.position;
      await this.#track.apply({ events, position, caughtUp: false }, connection);
    }
    return !signal.aborted && this.#track.position === this.#group.position;
  }

  async #readTowardsGroup(after: bigint) {
    const read = await this.#reader.readAll(after, this.#track.limit);
    const events = read.filter(({ position }) => position <= this.#group.position);
    // A read ends early when its events are large: only one that found nothing more has seen everything.
    const reached = read.at(-1)?.position ?? this.#group.position;
    return { events, isFull: reached < this.#group.position };
  }
}
