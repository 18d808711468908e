import fc from 'fast-check';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { WakeQueue } from '../../src/sagas/wake-queue.js';

const START = Date.UTC(2026, 2, 2, 12);
const DAY = 86_400_000;

let rung: { ids: string[]; at: number }[];
let queue: WakeQueue;
function restart() {
  vi.useFakeTimers({ now: START });
  rung = [];
  queue = new WakeQueue((ids) => rung.push({ ids, at: Date.now() - START }));
}
beforeEach(restart);
afterEach(() => {
  vi.useRealTimers();
});

const id = fc.integer({ min: 0, max: 9 }).map(String);
/** Near, all alike, in the past, and farther than a timer can wait. */
const inMs = fc.oneof(fc.integer({ min: -50, max: 50 }), fc.constant(10), fc.integer({ min: 0, max: 60 * DAY }));
type Step = { set: string; inMs: number } | { delete: string } | { pass: number };
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ set: id, inMs }) },
    { weight: 1, arbitrary: fc.record({ delete: id }) },
    {
      weight: 2,
      arbitrary: fc.record({ pass: fc.oneof(fc.constantFrom(0, 1, 10), fc.integer({ min: 0, max: 40 * DAY })) }),
    },
  ),
  { maxLength: 60, size: 'max' },
);

it('rings once for every id, when its newest time has come and not before', () => {
  fc.assert(
    fc.property(steps, (all) => {
      restart();
      const due = new Map<string, { dueMs: number; setMs: number }>();
      const expected: { id: string; at: number }[] = [];
      for (const step of all) {
        const now = Date.now() - START;
        if ('set' in step) {
          const dueMs = now + step.inMs;
          if (due.get(step.set)?.dueMs !== dueMs) due.set(step.set, { dueMs, setMs: now });
          queue.set(step.set, START + dueMs);
        } else if ('delete' in step) {
          due.delete(step.delete);
          queue.delete(step.delete);
        } else {
          vi.advanceTimersByTime(step.pass);
          for (const [each, { dueMs, setMs }] of due) {
            if (dueMs > now + step.pass) continue;
            expected.push({ id: each, at: Math.max(dueMs, setMs) });
            due.delete(each);
          }
        }
        expect(queue.size).toBe(due.size);
      }
      const heard = rung.flatMap(({ ids, at }) => ids.map((each) => ({ id: each, at })));
      const order = (one: { id: string; at: number }, other: { id: string; at: number }) =>
        one.at - other.at || Number(one.id) - Number(other.id);
      expect(heard.toSorted(order)).toEqual(expected.sort(order));
      expect(heard.map(({ at }) => at)).toEqual(heard.map(({ at }) => at).sort((one, other) => one - other));
    }),
  );
});

it('rings for what is due together in one call, earliest first', () => {
  queue.set('late', START - 1);
  queue.set('later', START);
  queue.set('latest', START - 2);
  vi.advanceTimersByTime(0);
  expect(rung).toEqual([{ ids: ['latest', 'late', 'later'], at: 0 }]);
});

it('can be set again from within its call', () => {
  const times: number[] = [];
  const again = new WakeQueue(([each]) => {
    times.push(Date.now() - START);
    if (times.length < 3) again.set(each as string, Date.now() + 10);
  });
  again.set('a', START + 10);
  vi.advanceTimersByTime(1_000);
  expect(times).toEqual([10, 20, 30]);
});

it('is silent once stopped, also for what is set after', () => {
  queue.set('a', START + 10);
  queue.stop();
  queue.set('b', START + 5);
  vi.advanceTimersByTime(DAY);
  expect(rung).toEqual([]);
  expect(vi.getTimerCount()).toBe(0);
});
