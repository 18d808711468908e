/** Seed 3, CircuitBreakerConfig. */
export interface BreakerOptions {
  /** Failures in a row that open the circuit. */
  readonly failureThreshold: number;
  /** How long it stays open before calls try it out. */
  readonly recoveryTimeoutMs: number;
  /** Calls that try it out, at once at most and all of them with success, before it is closed. */
  readonly halfOpenMaxCalls: number;
}

export const breakerDefaults: BreakerOptions = {
  failureThreshold: 10,
  recoveryTimeoutMs: 300_000,
  halfOpenMaxCalls: 3,
};

/** Failures without a success between them, up to now. Times in Unix milliseconds. */
export interface Failing {
  readonly sinceMs: number;
  readonly failures: number;
}

/** What a call said about the health of the other side; `neutral` is nothing. */
export type Verdict = 'good' | 'bad' | 'neutral';

export type Circuit = 'closed' | 'open' | 'half-open';

/**
 * closed → open after so many failures in a row → half-open when its time is over → closed after so many successes,
 * or open again at the first failure. The outcome of a call that began in an earlier phase changes no phase: it says how
 * things were.
 */
export class Breaker {
  readonly #options: BreakerOptions;
  #phase = 0;
  #openUntilMs: number | undefined;
  /** Calls that try it out, under way or successful. */
  #tries = 0;
  #successes = 0;
  #failures = 0;
  #failingSinceMs = 0;

  constructor(options: BreakerOptions) {
    this.#options = options;
  }

  /** Undefined while closed. */
  get openUntilMs(): number | undefined {
    return this.#openUntilMs;
  }

  get failing(): Failing | undefined {
    return this.#failures === 0 ? undefined : { sinceMs: this.#failingSinceMs, failures: this.#failures };
  }

  stateAt(nowMs: number): Circuit {
    if (this.#openUntilMs === undefined) return 'closed';
    return nowMs < this.#openUntilMs ? 'open' : 'half-open';
  }

  /** From when on a call may begin: now or earlier, or later, or infinity when that depends on calls under way. */
  opensAtMs(nowMs: number): number {
    if (this.#openUntilMs === undefined) return 0;
    if (nowMs < this.#openUntilMs) return this.#openUntilMs;
    return this.#tries < this.#options.halfOpenMaxCalls ? 0 : Number.POSITIVE_INFINITY;
  }

  /** @returns what to say when the call ends */
  begin(): number {
    if (this.#openUntilMs !== undefined) this.#tries++;
    return this.#phase;
  }

  /** @returns true when this has opened it or closed it */
  end(phase: number, verdict: Verdict, nowMs: number): boolean {
    if (verdict === 'bad') {
      if (this.#failures === 0) this.#failingSinceMs = nowMs;
      this.#failures++;
    }
    if (phase !== this.#phase) return false;
    if (this.#openUntilMs === undefined) {
      if (verdict === 'good') this.#failures = 0;
      if (this.#failures < this.#options.failureThreshold || verdict !== 'bad') return false;
      this.#open(nowMs + this.#options.recoveryTimeoutMs);
      return true;
    }
    if (verdict === 'neutral') this.#tries--;
    if (verdict === 'bad') this.#open(nowMs + this.#options.recoveryTimeoutMs);
    if (verdict === 'good') this.#successes++;
    if (this.#successes < this.#options.halfOpenMaxCalls) return verdict === 'bad';
    this.close();
    return true;
  }

  /** As another process has left it. */
  restore(untilMs: number, { sinceMs, failures }: Failing): void {
    this.#failingSinceMs = sinceMs;
    this.#failures = failures;
    this.#open(untilMs);
  }

  close(): void {
    this.#phase++;
    this.#openUntilMs = undefined;
    this.#failures = 0;
  }

  #open(untilMs: number): void {
    this.#phase++;
    this.#openUntilMs = untilMs;
    this.#tries = 0;
    this.#successes = 0;
  }
}
