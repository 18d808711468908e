import type { RecordedEvent } from './event-store.js';

/** What lives longer than the garbage collector's young generation costs far more than what does not. */
const MAX_EVENTS = 1_024;
const MAX_BYTES = 32 * 1024 * 1024;

/**
 * The newest events of the log, as the writer wrote them or the first of several subscriptions of a thread read them, so
 * that the others at the head neither read nor parse them again. Bounded in number and bytes. Positions in it have no gaps.
 */
export class RecentEvents {
  #events: (RecordedEvent | undefined)[] = [];
  #sizes: number[] = [];
  /** How many at the front were dropped but not yet cut off. */
  #dropped = 0;
  #bytes = 0;
  #firstPosition = 1;

  constructor(readonly maxEvents = MAX_EVENTS) {}

  /** Of the newest event; 0 when there is none. */
  get position(): number {
    return this.#firstPosition + this.#events.length - this.#dropped - 1;
  }

  /** Of the oldest event. */
  get first(): number {
    return this.#firstPosition;
  }

  add(event: RecordedEvent, bytes: number): void {
    const position = Number(event.position);
    const expected = this.#firstPosition + this.#events.length - this.#dropped;
    if (this.#events.length === this.#dropped || position !== expected) {
      this.#events = [];
      this.#sizes = [];
      this.#dropped = 0;
      this.#bytes = 0;
      this.#firstPosition = position;
    }
    this.#events.push(event);
    this.#sizes.push(bytes);
    this.#bytes += bytes;
    while (this.#events.length - this.#dropped > this.maxEvents || this.#bytes > MAX_BYTES) this.#drop();
  }

  /** Events after a position, or undefined when the next one is no longer (or not yet) here. */
  after(position: number, limit: number): RecordedEvent[] | undefined {
    const start = position + 1 - this.#firstPosition;
    if (start < 0 || start >= this.#events.length - this.#dropped) return undefined;
    const from = this.#dropped + start;
    return this.#events.slice(from, from + limit) as RecordedEvent[];
  }

  /** Everybody who is to have events up to this position has had them. */
  forget(upTo: number): void {
    while (this.#firstPosition <= upTo && this.#dropped < this.#events.length) this.#drop();
  }

  #drop(): void {
    this.#events[this.#dropped] = undefined;
    this.#bytes -= this.#sizes[this.#dropped] ?? 0;
    this.#dropped++;
    this.#firstPosition++;
    if (this.#dropped < this.maxEvents) return;
    this.#events = this.#events.slice(this.#dropped);
    this.#sizes = this.#sizes.slice(this.#dropped);
    this.#dropped = 0;
  }
}
