import fc from 'fast-check';
import { expect, it } from 'vitest';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import type { AppendResult, ExpectedRevision, NewEvent, RecordedEvent } from '../../../src/event-store/event-store.js';
import { newEvents, temporaryFolder } from '../../support/logs.js';

interface Append {
  readonly streamId: string;
  readonly expected: ExpectedRevision;
  readonly events: readonly NewEvent[];
}

/** What an event store is: a list, and who may write to it. */
class Model {
  readonly all: (NewEvent & { streamId: string; revision: number })[] = [];

  stream(streamId: string) {
    return this.all.filter((event) => event.streamId === streamId);
  }

  append({ streamId, expected, events }: Append): AppendResult {
    const there = this.stream(streamId);
    const actual = there.length === 0 ? undefined : there.length - 1;
    const isRight =
      expected === 'no-stream'
        ? actual === undefined
        : expected === 'stream-exists'
          ? actual !== undefined
          : expected === actual;
    if (isRight) {
      for (const [index, event] of events.entries())
        this.all.push({ ...event, streamId, revision: there.length + index });
      return this.#answer(there.length + events.length - 1, streamId, false);
    }
    const first = expected === 'no-stream' ? 0 : expected === 'stream-exists' ? -1 : expected + 1;
    const isSame = first >= 0 && events.every((event, index) => there[first + index]?.id === event.id);
    if (isSame) return this.#answer(first + events.length - 1, streamId, true);
    return { ok: false, reason: 'wrong-revision', actual };
  }

  #answer(revision: number, streamId: string, idempotent: boolean): AppendResult {
    const index = this.all.findIndex((event) => event.streamId === streamId && event.revision === revision);
    return { ok: true, revision, position: BigInt(index + 1), idempotent };
  }
}

const streams = fc.constantFrom('a', 'ab', 'b-1', 'b-2');
const append = fc.record({
  streamId: streams,
  size: fc.integer({ min: 1, max: 4 }),
  /** Mostly where the stream is. */
  expected: fc.oneof(
    { weight: 6, arbitrary: fc.constant('right' as const) },
    { weight: 1, arbitrary: fc.constantFrom('no-stream' as const, 'stream-exists' as const) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 9 }) },
  ),
});
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ appendAtOnce: fc.array(append, { minLength: 1, maxLength: 5 }) }) },
  { weight: 2, arbitrary: fc.record({ repeat: fc.nat(), shorterBy: fc.nat({ max: 1 }) }) },
  {
    weight: 2,
    arbitrary: fc.record({ readStream: streams, from: fc.nat({ max: 9 }), limit: fc.integer({ min: 1, max: 9 }) }),
  },
  { weight: 2, arbitrary: fc.record({ readAfter: fc.nat({ max: 40 }), limit: fc.integer({ min: 1, max: 9 }) }) },
  { weight: 1, arbitrary: fc.constant({ reopen: true }) },
);

const withoutStore = ({ position: _, created: __, ...event }: RecordedEvent) => event;

it('the embedded log is a list of events, whatever is appended, read and reopened in whatever order', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40, size: 'max' }), async (steps) => {
      const folder = await temporaryFolder();
      let log = EmbeddedLog.open(folder.path);
      const model = new Model();
      const done: Append[] = [];
      try {
        for (const each of steps) {
          if ('appendAtOnce' in each) {
            const expectedAnswers: AppendResult[] = [];
            const appends = each.appendAtOnce.map(({ streamId, size, expected }): Append => {
              const length = model.stream(streamId).length;
              const right = length === 0 ? 'no-stream' : length - 1;
              const chosen = { streamId, expected: expected === 'right' ? right : expected, events: newEvents(size) };
              // What comes later of the same turn finds what came before.
              expectedAnswers.push(model.append(chosen));
              return chosen;
            });
            expect(await log.appendMany(appends)).toEqual(expectedAnswers);
            done.push(...appends);
          } else if ('repeat' in each) {
            const again = done[each.repeat % Math.max(done.length, 1)];
            // A repetition where anything fits is another append.
            if (!again || again.expected === 'stream-exists') continue;
            const events = again.events.slice(0, Math.max(again.events.length - each.shorterBy, 1));
            const expectedAnswer = model.append({ ...again, events });
            expect(await log.append(again.streamId, again.expected, events)).toEqual(expectedAnswer);
          } else if ('readStream' in each) {
            const { readStream, from, limit } = each;
            const stored = model.stream(readStream);
            const read = await log.readStream(readStream, { from, limit });
            expect(read.map(withoutStore)).toEqual(stored.slice(from, from + limit));
            const last = await log.readLast(readStream);
            expect(last && withoutStore(last)).toEqual(stored.at(-1));
          } else if ('readAfter' in each) {
            const read = await log.readAll(BigInt(each.readAfter), each.limit);
            expect(read.map(withoutStore)).toEqual(model.all.slice(each.readAfter, each.readAfter + each.limit));
            expect(read.map(({ position }) => Number(position))).toEqual(
              read.map((_, index) => each.readAfter + 1 + index),
            );
          } else {
            await log.close();
            log = EmbeddedLog.open(folder.path);
          }
          expect(await log.head()).toBe(BigInt(model.all.length));
        }
      } finally {
        await log.close();
        await folder.remove();
      }
    }),
    { numRuns: 40 },
  );
});
