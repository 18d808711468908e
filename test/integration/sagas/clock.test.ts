import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { SharedClock } from '../../../src/sagas/clock.js';

beforeEach(() => void vi.useFakeTimers({ now: 5_000 }));
afterEach(() => void vi.useRealTimers());

/** The database answers with its time `afterMs` after it was asked, and the answer takes `backMs`. */
function ask(clock: SharedClock, databaseMs: () => number, afterMs: number, backMs: number): void {
  const askedAtMs = performance.now();
  vi.advanceTimersByTime(afterMs);
  const answer = databaseMs();
  vi.advanceTimersByTime(backMs);
  clock.set(answer, askedAtMs);
}

it('is never ahead of the database’s, and behind by no more than its quickest answer took', () => {
  const clock = new SharedClock();
  const databaseMs = () => performance.now() + 1_000_000;
  const behindMs = () => databaseMs() - clock.nowMs();
  ask(clock, databaseMs, 0, 800);
  expect(behindMs()).toBeCloseTo(800);
  ask(clock, databaseMs, 3, 20);
  expect(behindMs()).toBeCloseTo(20);
  // A slow one says nothing new, whichever way took long.
  ask(clock, databaseMs, 0, 4_000);
  expect(behindMs()).toBeCloseTo(20);
  for (let asked = 0; asked < 10; asked++) ask(clock, databaseMs, 1_000, 1);
  expect(behindMs()).toBeCloseTo(1);
});

it('measures no second that is more than 2 ms short, however quick an answer is', () => {
  const clock = new SharedClock();
  const databaseMs = () => performance.now() + 1_000_000;
  ask(clock, databaseMs, 0, 200);
  for (const backMs of [100, 1, 150, 0, 0, 30]) {
    const [begun, really] = [clock.nowMs(), performance.now()];
    vi.advanceTimersByTime(1_000 - backMs);
    ask(clock, databaseMs, 0, backMs);
    expect(clock.nowMs() - begun).toBeGreaterThanOrEqual(performance.now() - really);
    expect(clock.nowMs() - begun).toBeLessThanOrEqual(1_002);
  }
});

it('follows a database that was set back or ahead, and its own machine’s wall clock nowhere', () => {
  const clock = new SharedClock();
  let aheadMs = 1_000_000;
  const databaseMs = () => performance.now() + aheadMs;
  ask(clock, databaseMs, 1, 1);
  vi.setSystemTime(600_000);
  expect(databaseMs() - clock.nowMs()).toBeCloseTo(1);
  aheadMs -= 60_000;
  ask(clock, databaseMs, 2, 2);
  expect(Math.abs(databaseMs() - clock.nowMs())).toBeLessThanOrEqual(2);
  aheadMs += 120_000;
  ask(clock, databaseMs, 2, 2);
  expect(Math.abs(databaseMs() - clock.nowMs())).toBeLessThanOrEqual(2);
});
