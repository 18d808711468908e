/**
 * The database's clock, as every instance sees it: set by what the database says and carried on by this machine's
 * monotonic clock. A wall clock that is wrong or jumps moves no lease and no timer.
 */
export class SharedClock {
  #offsetMs = Date.now() - performance.now();

  /**
   * @param databaseMs Unix milliseconds, as the database answered
   * @param askedAtMs `performance.now()` from before it was asked; it answered between then and now
   */
  set(databaseMs: number, askedAtMs: number): void {
    this.#offsetMs = databaseMs - (askedAtMs + performance.now()) / 2;
  }

  /** Unix milliseconds. */
  nowMs(): number {
    return this.#offsetMs + performance.now();
  }

  /** RFC 3339, UTC. */
  now(): string {
    return new Date(this.nowMs()).toISOString();
  }
}
