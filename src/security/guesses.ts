import { isIPv6 } from 'node:net';
import { RateLimiterMemory } from 'rate-limiter-flexible';

/** Addresses that are watched at once; the one that has been quiet for longest is forgotten first. */
const MAX_ADDRESSES = 10_000;

export interface GuessLimits {
  /** Wrong credentials that one address may send … */
  readonly maxFailures: number;
  /** … in this time; then it is not listened to for as long again. Seconds. */
  readonly windowSeconds: number;
}

/**
 * Slows down whoever tries credentials out: after too many wrong ones an address is refused without its credentials being
 * looked at. Of IPv6 the first 64 bits count, which is what one subscriber has.
 */
export class Guesses {
  readonly #limiter: RateLimiterMemory;
  readonly #known = new Set<string>();

  constructor({ maxFailures, windowSeconds }: GuessLimits) {
    this.#limiter = new RateLimiterMemory({ points: maxFailures, duration: windowSeconds });
  }

  /** 0, or how long the address has to wait. */
  async secondsBlocked(ip: string): Promise<number> {
    const state = await this.#limiter.get(networkOf(ip));
    return state && state.remainingPoints <= 0 ? Math.max(1, Math.ceil(state.msBeforeNext / 1_000)) : 0;
  }

  async failed(ip: string): Promise<void> {
    const network = networkOf(ip);
    this.#known.delete(network);
    this.#known.add(network);
    const [oldest] = this.#known;
    if (this.#known.size > MAX_ADDRESSES && oldest !== undefined) {
      this.#known.delete(oldest);
      await this.#limiter.delete(oldest);
    }
    await this.#limiter.penalty(network);
  }
}

function networkOf(ip: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(ip)?.[1];
  if (mapped !== undefined || !isIPv6(ip)) return mapped ?? ip;
  const [head = '', tail] = ip.split('%')[0]?.split('::') ?? [];
  const groups = head === '' ? [] : head.split(':');
  const rest = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - groups.length - rest.length);
  return [...groups, ...Array<string>(zeros).fill('0'), ...rest].slice(0, 4).join(':');
}
