import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { RecordedEvent } from '../../../src/event-store/event-store.js';
import { type EventBatch, paced } from '../../../src/projections/runner/pacing.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

/** A log that gives what has been recorded and not been read, at most so much at once. */
class Source implements AsyncIterable<EventBatch> {
  #recorded = 0;
  #read = 0;
  #isOver = false;
  #wake = () => {};

  constructor(private readonly most: number) {}

  record(count: number): void {
    this.#recorded += count;
    this.#wake();
  }

  end(): void {
    this.#isOver = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<EventBatch> {
    for (;;) {
      while (this.#read === this.#recorded && !this.#isOver)
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      if (this.#read === this.#recorded) return;
      const count = Math.min(this.most, this.#recorded - this.#read);
      const events = Array.from({ length: count }, (_, n) => ({ position: BigInt(this.#read + n + 1) }));
      this.#read += count;
      const caughtUp = this.#read === this.#recorded;
      yield { events: events as unknown as RecordedEvent[], position: BigInt(this.#read), caughtUp };
    }
  }
}

interface Passed {
  readonly atMs: number;
  readonly positions: number[];
}

/** Collects what is passed on, and when, by a consumer that is always free. */
function collect(source: Source, most: number, { live = most, busyMs = (): number => 100 } = {}) {
  const passed: Passed[] = [];
  const pace = {
    maxEvents: (isCaughtUp: boolean) => (isCaughtUp ? live : most),
    delayMs: (isBusy: boolean) => (isBusy ? busyMs() : 25),
  };
  const startedAt = performance.now();
  const ended = (async () => {
    for await (const { events } of paced(source, pace))
      passed.push({
        atMs: performance.now() - startedAt,
        positions: events.map(({ position }) => Number(position)),
      });
  })();
  return { passed, ended };
}

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

it('what comes after a rest is passed on at once, and what follows soon after with the next batch', async () => {
  const source = new Source(100);
  const { passed } = collect(source, 100);
  source.record(1);
  await pass(10);
  source.record(1);
  await pass(5);
  source.record(2);
  await pass(35);
  source.record(1);
  await pass(0);
  expect(passed).toEqual([
    { atMs: 0, positions: [1] },
    { atMs: 25, positions: [2, 3, 4] },
    { atMs: 50, positions: [5] },
  ]);
});

it('under load batches are longer apart, and no longer once it is over', async () => {
  const source = new Source(2_000);
  const { passed } = collect(source, 2_000);
  // 3,000 events in a second for 0.5 s, then 100 in a second.
  for (let ms = 0; ms < 500; ms++) {
    source.record(3);
    await pass(1);
  }
  for (let ms = 0; ms < 500; ms += 10) {
    source.record(1);
    await pass(10);
  }
  const gaps = passed.slice(1).map(({ atMs }, index) => Math.round(atMs - (passed[index] as Passed).atMs));
  expect(gaps.slice(0, 5)).toEqual([25, 100, 100, 100, 100]);
  for (const gap of gaps.slice(7)) expect(gap).toBeLessThanOrEqual(30);
  expect(passed[2]?.positions).toHaveLength(300);
});

it('a batch that is waited for comes sooner when somebody begins to wait for what is in it', async () => {
  const source = new Source(2_000);
  let busyMs = 400;
  const { passed } = collect(source, 2_000, { busyMs: () => busyMs });
  for (let ms = 0; ms < 1_000; ms++) {
    if (ms === 600) busyMs = 100;
    source.record(3);
    await pass(1);
  }
  const gaps = passed.slice(1).map(({ atMs }, index) => Math.round(atMs - (passed[index] as Passed).atMs));
  expect(gaps.slice(0, 2)).toEqual([25, 400]);
  expect(gaps[2]).toBeGreaterThan(175);
  expect(gaps[2]).toBeLessThan(230);
  expect(gaps.slice(3)).toEqual([100, 100, 100]);
});

it('what has come lately is passed on in larger batches than what is read of a long history', async () => {
  const source = new Source(500);
  const { passed } = collect(source, 1_000, { live: 4_000, busyMs: () => 400 });
  source.record(5_000);
  await pass(100);
  const history = passed.flatMap(({ positions }) => positions.length);
  expect(history.every((length) => length <= 1_000)).toBe(true);
  for (let ms = 0; ms < 1_000; ms++) {
    source.record(10);
    await pass(1);
  }
  await pass(1_000);
  const lengths = passed.slice(history.length).map(({ positions }) => positions.length);
  expect(Math.max(...lengths)).toBe(4_000);
  expect([...history, ...lengths].reduce((sum, length) => sum + length)).toBe(15_000);
});

it('a batch that is full waits for nothing, and all events are passed on once and in order', async () => {
  const source = new Source(40);
  const { passed, ended } = collect(source, 50);
  source.record(1_000);
  await pass(0);
  await pass(24);
  source.record(1_000);
  await pass(1_000);
  source.end();
  await pass(1_000);
  await ended;
  expect(passed.flatMap(({ positions }) => positions)).toEqual(Array.from({ length: 2_000 }, (_, n) => n + 1));
  for (const { positions } of passed) expect(positions.length).toBeLessThanOrEqual(50);

  // Whatever is left after what was passed on has waited for the last batch, and for no other.
  expect(passed.filter(({ atMs }) => atMs === 0)).toHaveLength(24);
});

it('what is too much for a batch is passed on in pieces, whose size may change', async () => {
  const source = new Source(2_000);
  let limit = 1;
  const passed: EventBatch[] = [];
  const pace = { maxEvents: () => limit, delayMs: () => 25 };
  const ended = (async () => {
    for await (const batch of paced(source, pace)) {
      passed.push(batch);
      limit *= 2;
    }
  })();
  source.record(1_000);
  await pass(0);
  const lengths = () => passed.map(({ events }) => events.length);
  expect(lengths()).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256]);
  // What does not fill a batch waits like anything else.
  await pass(30);
  expect(lengths()).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 489]);
  for (const { events, position } of passed) expect(position).toBe(events.at(-1)?.position);
  expect(passed.flatMap(({ events }) => events.map(({ position }) => Number(position)))).toEqual(
    Array.from({ length: 1_000 }, (_, n) => n + 1),
  );
  // Only the last of them is all that there is.
  expect(passed.map(({ caughtUp }) => caughtUp)).toEqual([...Array(9).fill(false), true]);
  source.end();
  await ended;
});
