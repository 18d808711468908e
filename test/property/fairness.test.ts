import { expect, it } from 'vitest';
import { AttemptQueue } from '../../src/sagas/attempt-queue.js';
import { Gate } from '../../src/sagas/fair-queue.js';

/**
 * Virtual time: an attempt at the crowd's slow receivers takes 500 ms, one at the other organization's 5 ms, and it asks
 * every 7 ms. Real queue, no clock.
 */
const PLACES = 128;
const SAMPLES = 2_000;

class AtMost extends Gate<AtMost> {
  #left: number;

  constructor(most: number) {
    super();
    this.#left = most;
  }

  enter(): AtMost | undefined {
    if (this.#left === 0) return undefined;
    this.#left--;
    return this;
  }

  leave(): void {
    this.#left++;
    this.wake();
  }
}

interface Event {
  readonly atMs: number;
  readonly happen: () => void;
}

/** @returns what the other organization's urgent attempts took from request to end, sorted, in virtual milliseconds */
async function latencies({ crowd, destinations }: { crowd: number; destinations: number }): Promise<number[]> {
  let nowMs = 0;
  const events: Event[] = [];
  const after = (ms: number, happen: () => void) => {
    const atMs = nowMs + ms;
    const index = events.findLastIndex((event) => event.atMs <= atMs);
    events.splice(index + 1, 0, { atMs, happen });
  };
  const queue = new AttemptQueue<AtMost>(PLACES);
  const took: number[] = [];
  const attempt = (organizationId: string, gate: AtMost, callMs: number, priority: 'URGENT' | 'NORMAL') => {
    const requestedMs = nowMs;
    queue.add({
      priority,
      organizationId,
      gate,
      run: async (pass) => {
        await new Promise<void>((resolve) => after(callMs, resolve));
        if (organizationId === 'other') took.push(nowMs - requestedMs);
        pass.leave();
      },
    });
  };
  const theirs = Array.from({ length: destinations }, () => new AtMost(32));
  for (let index = 0; index < crowd; index++)
    attempt('crowd', theirs[index % destinations] as AtMost, 500, index % 2 === 0 ? 'URGENT' : 'NORMAL');
  const own = new AtMost(32);
  const ask = () => {
    attempt('other', own, 5, 'URGENT');
    if (took.length < SAMPLES) after(7, ask);
  };
  ask();
  while (took.length < SAMPLES) {
    const next = events.shift() as Event;
    nowMs = next.atMs;
    next.happen();
    // What follows of it, up to the start of the next attempt.
    for (let settled = 0; settled < 8; settled++) await Promise.resolve();
  }
  return took.sort((a, b) => a - b);
}

const p99 = (sorted: readonly number[]): number => sorted[Math.floor(sorted.length * 0.99)] as number;

it.each([1, 10])(
  'with 100,000 waiting of one organization for %i destinations, another one’s urgent ones take no longer than alone',
  async (destinations) => {
    const alone = p99(await latencies({ crowd: 0, destinations: 1 }));
    const beside = p99(await latencies({ crowd: 100_000, destinations }));
    expect(alone).toBe(5);
    expect(beside).toBeLessThanOrEqual(2 * alone);
  },
);
