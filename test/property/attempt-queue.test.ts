import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { PRIORITIES, type Priority } from '../../src/domain/vocabulary.js';
import { AttemptQueue } from '../../src/sagas/attempt-queue.js';

/** An attempt that ends when told. */
function attempts(queue: AttemptQueue) {
  const started: string[] = [];
  const running: (() => void)[] = [];
  const add = (name: string, priority: Priority) =>
    queue.add(priority, () => {
      started.push(name);
      return new Promise((resolve) => running.push(resolve));
    });
  const finish = async (which = 0) => {
    running.splice(which, 1)[0]?.();
    await turn();
  };
  return { started, running, add, finish };
}

it('starts everything once, the most urgent first, never more at once than it may', async () => {
  const work = fc.array(fc.constantFrom(...PRIORITIES), { maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(
      work,
      fc.integer({ min: 1, max: 4 }),
      fc.infiniteStream(fc.nat()),
      async (priorities, limit, picks) => {
        const queue = new AttemptQueue(limit);
        const { started, running, add, finish } = attempts(queue);
        for (const [index, priority] of priorities.entries()) add(`${PRIORITIES.indexOf(priority)}/${index}`, priority);
        // What found room at once has started in order of arrival; the rest follows by priority, then arrival.
        const [first, rest] = [
          started.slice(),
          priorities.map((priority, index) => `${PRIORITIES.indexOf(priority)}/${index}`).slice(limit),
        ];
        const byUrgency = (one: string, other: string) =>
          Number(one[0]) - Number(other[0]) || Number(one.slice(2)) - Number(other.slice(2));
        while (running.length > 0) {
          expect(queue.running).toBe(running.length);
          expect(queue.running).toBeLessThanOrEqual(limit);
          expect(queue.waiting).toBe(priorities.length - started.length);
          await finish((picks.next().value as number) % running.length);
        }
        expect(started).toEqual([...first, ...rest.sort(byUrgency)]);
        expect([queue.running, queue.waiting]).toEqual([0, 0]);
      },
    ),
    { numRuns: 50 },
  );
});

it('keeps the order of a long line', async () => {
  const queue = new AttemptQueue(1);
  const order: number[] = [];
  const all = Array.from({ length: 3_000 }, (_, index) => index);
  await new Promise<void>((resolve) => {
    for (const index of all)
      queue.add('NORMAL', async () => {
        order.push(index);
        if (index === all.length - 1) resolve();
      });
  });
  expect(order).toEqual(all);
});

it('when closed, starts nothing more and waits for what is under way', async () => {
  const queue = new AttemptQueue(2);
  const { started, add, finish } = attempts(queue);
  for (const name of ['a', 'b', 'c']) add(name, 'NORMAL');
  let isClosed = false;
  const closing = queue.close().then(() => {
    isClosed = true;
  });
  add('d', 'URGENT');
  await finish();
  expect(isClosed).toBe(false);
  await finish();
  await closing;
  expect(started).toEqual(['a', 'b']);
  await new AttemptQueue(1).close();
});
