/** The rate is that of this much of the past, and of the part of the present window that is over. */
const WINDOW_MS = 5_000;

/** How fast something goes, at the cost of a counter. */
export class Pace {
  readonly #nowMs: () => number;
  #beganMs: number;
  #count = 0;
  #before = 0;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
    this.#beganMs = nowMs();
  }

  tick(): void {
    this.#turn();
    this.#count++;
  }

  /** Per second, over the last 5 to 10 seconds. */
  get rate(): number {
    this.#turn();
    return ((this.#count + this.#before) * 1_000) / (WINDOW_MS + this.#nowMs() - this.#beganMs);
  }

  #turn(): void {
    const now = this.#nowMs();
    const passedMs = now - this.#beganMs;
    if (passedMs < WINDOW_MS) return;
    this.#before = passedMs < 2 * WINDOW_MS ? this.#count : 0;
    this.#count = 0;
    this.#beganMs = now;
  }
}
