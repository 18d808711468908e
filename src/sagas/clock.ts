import { instantOf } from '../domain/instant.js';

/** More than that was not the way of an answer: the database's clock was set forward. */
const STEP_MS = 250;
/** Milliseconds that are made good in each second, so that a second by this clock is never much less than one. */
const CATCH_UP_MS = 2;

/**
 * The database's clock, as every instance sees it: set by what the database says and carried on by this machine's
 * monotonic clock. A wall clock that is wrong or jumps moves no lease and no timer.
 *
 * It is never ahead of the database's, so that nothing happens before its time: each answer tells the most and the least
 * that the two may differ by, and of what all answers allow the least is taken. It is behind by what the quickest answer
 * so far took; it gets there slowly, as whoever is to wait a second would else wait less whenever an answer is quick.
 */
export class SharedClock {
  /** Before the first answer, this machine's own idea of the time. */
  #offsetMs = Date.now() - performance.now();
  #setAtMs: number | undefined;

  /**
   * @param databaseMs Unix milliseconds, as the database answered
   * @param askedAtMs `performance.now()` from before it was asked; it answered between then and now
   */
  set(databaseMs: number, askedAtMs: number): void {
    const leastMs = databaseMs - performance.now();
    const mostMs = databaseMs - askedAtMs;
    // More than the most: one of the clocks was set back, or this one goes too fast.
    this.#offsetMs = Math.min(this.#raised(leastMs), mostMs);
    this.#setAtMs = performance.now();
  }

  #raised(leastMs: number): number {
    const behindMs = leastMs - this.#offsetMs;
    if (this.#setAtMs === undefined || behindMs > STEP_MS) return leastMs;
    const mostMs = (CATCH_UP_MS * Math.min(performance.now() - this.#setAtMs, 1_000)) / 1_000;
    return this.#offsetMs + Math.max(0, Math.min(behindMs, mostMs));
  }

  /** Unix milliseconds. */
  nowMs(): number {
    return this.#offsetMs + performance.now();
  }

  /** RFC 3339, UTC. */
  now(): string {
    return instantOf(Math.floor(this.nowMs()));
  }
}
