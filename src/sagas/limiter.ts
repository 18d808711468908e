import type { Breaker, Verdict } from './breaker.js';

/** Of one destination or provider, over all instances. */
export interface Limits {
  /** Calls at once. */
  readonly concurrency?: number;
  /** Calls begun per second, on average. */
  readonly perSecond?: number;
  /** Calls that may begin at once after a pause. Default: those of a second. */
  readonly burst?: number;
}

/** A provider's wish to be left alone is granted up to this; its next answer can repeat it. */
const LONGEST_PAUSE_MS = 15 * 60_000;

export interface LimiterParts {
  readonly limits: Limits;
  readonly breaker?: Breaker;
  /** Unix milliseconds. */
  readonly nowMs: () => number;
  /** This instance's part of the limits, more than 0, at most 1. */
  readonly share: () => number;
}

/** Whether one more call may be made to one other side: concurrency, rate, its own wish, and its health. */
export class Limiter {
  readonly breaker: Breaker | undefined;
  readonly #nowMs: () => number;
  readonly #share: () => number;
  #limits: Limits;
  #running = 0;
  /** Calls that may begin; a fraction is one on its way. Filled up to the time beside it. */
  #tokens: number;
  #filledAtMs: number;
  #pausedUntilMs = 0;

  constructor({ limits, breaker, nowMs, share }: LimiterParts) {
    this.breaker = breaker;
    this.#nowMs = nowMs;
    this.#share = share;
    this.#limits = limits;
    this.#tokens = this.#most();
    this.#filledAtMs = nowMs();
  }

  /** Nothing would be lost if it was made anew. */
  get isIdle(): boolean {
    const now = this.#nowMs();
    if (this.#running > 0 || this.isPaused(now) || this.breaker?.failing) return false;
    this.#fill(now);
    return this.#tokens >= this.#most();
  }

  set limits(limits: Limits) {
    this.#limits = limits;
    this.#tokens = Math.min(this.#tokens, this.#most());
  }

  /** From when on a call may begin: now or earlier, or later, or infinity when that depends on calls under way. */
  opensAtMs(nowMs: number): number {
    const { concurrency, perSecond } = this.#limits;
    if (concurrency !== undefined && this.#running >= Math.max(1, Math.floor(concurrency * this.#share())))
      return Number.POSITIVE_INFINITY;
    let at = this.#pausedUntilMs;
    if (this.breaker?.openUntilMs !== undefined) at = Math.max(at, this.breaker.opensAtMs(nowMs));
    if (perSecond === undefined) return at;
    this.#fill(nowMs);
    if (this.#tokens >= 1) return at;
    return Math.max(at, nowMs + ((1 - this.#tokens) * 1_000) / (perSecond * this.#share()));
  }

  /** @returns what to say when the call ends */
  begin(): number {
    this.#running++;
    if (this.#limits.perSecond !== undefined) this.#tokens--;
    return this.breaker?.begin() ?? 0;
  }

  /** @returns true when the circuit has opened or closed */
  end(phase: number, verdict: Verdict): boolean {
    this.#running--;
    return this.breaker?.end(phase, verdict, this.#nowMs()) ?? false;
  }

  /** Nobody calls for so long. */
  pause(ms: number): void {
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, this.#nowMs() + Math.min(ms, LONGEST_PAUSE_MS));
  }

  isPaused(nowMs: number): boolean {
    return nowMs < this.#pausedUntilMs;
  }

  /** How many calls may begin at once after a pause. */
  #most(): number {
    const { perSecond, burst = perSecond } = this.#limits;
    return burst === undefined ? 1 : Math.max(1, burst * this.#share());
  }

  #fill(nowMs: number): void {
    const { perSecond } = this.#limits;
    const passedMs = Math.max(0, nowMs - this.#filledAtMs);
    this.#filledAtMs = nowMs;
    if (perSecond === undefined) return;
    this.#tokens = Math.min(this.#most(), this.#tokens + (passedMs * perSecond * this.#share()) / 1_000);
  }
}
