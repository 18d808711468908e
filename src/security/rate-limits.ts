/** Credentials that are counted at once; the one that is quiet for longest is forgotten first. */
const MAX_CREDENTIALS = 10_000;
const WINDOW_MS = 60_000;

export interface Allowance {
  readonly limit: number;
  readonly remaining: number;
  /** Until all of it is there again. */
  readonly resetSeconds: number;
  readonly isExceeded: boolean;
}

/** How many requests each credential may make a minute, on this instance. */
export class RateLimits {
  readonly #perMinute: number;
  readonly #now: () => number;
  readonly #windows = new Map<string, { readonly end: number; used: number }>();

  /** @param now milliseconds */
  constructor(perMinute: number, now: () => number = Date.now) {
    this.#perMinute = perMinute;
    this.#now = now;
  }

  /** Counts one request. */
  take(credential: string): Allowance {
    const now = this.#now();
    let window = this.#windows.get(credential);
    if (!window || window.end <= now) {
      this.#windows.delete(credential);
      if (this.#windows.size >= MAX_CREDENTIALS) this.#windows.delete(this.#windows.keys().next().value as string);
      window = { end: now + WINDOW_MS, used: 0 };
      this.#windows.set(credential, window);
    }
    window.used++;
    return {
      limit: this.#perMinute,
      remaining: Math.max(0, this.#perMinute - window.used),
      resetSeconds: Math.ceil((window.end - now) / 1_000),
      isExceeded: window.used > this.#perMinute,
    };
  }
}
