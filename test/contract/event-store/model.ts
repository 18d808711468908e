import fc from 'fast-check';
import { expect } from 'vitest';
import type {
  AppendResult,
  EventStore,
  NewEvent,
  RecordedEvent,
  StreamAppend,
} from '../../../src/event-store/event-store.js';
import { newEvents } from '../../support/logs.js';
import { newPrefix, readAllAfter, readAllDownTo, subscribed } from './reading.js';

type Answer =
  | { readonly ok: true; readonly revision: number; readonly idempotent: boolean }
  | (AppendResult & { ok: false });

/** What an event store is: lists of events by stream, and who may add to them. */
class Model {
  readonly #streams = new Map<string, NewEvent[]>();

  stream(streamId: string): NewEvent[] {
    const found = this.#streams.get(streamId) ?? [];
    this.#streams.set(streamId, found);
    return found;
  }

  append({ streamId, expected, events }: StreamAppend): Answer {
    const there = this.stream(streamId);
    const actual = there.length === 0 ? undefined : there.length - 1;
    const place =
      expected === 'no-stream' ? 0 : expected === 'stream-exists' ? there.length - events.length : expected + 1;
    if (this.#areAt(place, there, events)) return { ok: true, revision: place + events.length - 1, idempotent: true };
    if (expected === 'stream-exists' ? actual === undefined : place !== there.length)
      return { ok: false, reason: 'wrong-revision', actual };
    there.push(...events);
    return { ok: true, revision: there.length - 1, idempotent: false };
  }

  areNewest({ streamId, events }: StreamAppend): boolean {
    const there = this.stream(streamId);
    return this.#areAt(there.length - events.length, there, events);
  }

  #areAt(place: number, there: readonly NewEvent[], events: readonly NewEvent[]): boolean {
    return place >= 0 && events.every(({ id }, index) => there[place + index]?.id === id);
  }
}

/** Names of which one is the beginning of another. */
const name = fc.constantFrom('a', 'ab', 'b-1', 'b-2');
const limit = fc.integer({ min: 1, max: 9 });
const append = fc.record({
  name,
  size: fc.integer({ min: 1, max: 4 }),
  /** Mostly where the stream is. */
  expected: fc.oneof(
    { weight: 6, arbitrary: fc.constant('right' as const) },
    { weight: 2, arbitrary: fc.constantFrom('no-stream' as const, 'stream-exists' as const) },
    { weight: 1, arbitrary: fc.nat({ max: 9 }) },
  ),
});
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      appendAtOnce: fc.uniqueArray(append, { minLength: 1, maxLength: 4, selector: (each) => each.name }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ repeat: fc.nat(), shorterBy: fc.nat({ max: 1 }) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      readStream: name,
      from: fc.option(fc.nat({ max: 9 }), { nil: undefined }),
      limit: fc.option(limit, { nil: undefined }),
      direction: fc.constantFrom('forwards' as const, 'backwards' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ readAllFrom: fc.nat(), limit }) },
  { weight: 1, arbitrary: fc.record({ readAllBackwards: limit }) },
  {
    weight: 1,
    arbitrary: fc.record({ subscribeFrom: fc.nat(), batchSize: limit, to: fc.constantFrom('', 'a', 'b-') }),
  },
  { weight: 1, arbitrary: fc.constant({ reopen: true }) },
);
type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

/** The store under test; `reopen` closes it and opens it again. */
export interface Opened {
  store(): EventStore;
  reopen(): Promise<void>;
}

/** Does random things to a store, which others may use meanwhile, and compares each answer with the model's. */
export async function compareWithModel(opened: Opened, numRuns: number): Promise<void> {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30, size: 'max' }), async (steps) => {
      const run = new Run(opened, await opened.store().head());
      for (const each of steps) await run.take(each);
      await run.check();
    }),
    { numRuns },
  );
}

class Run {
  readonly #opened: Opened;
  readonly #prefix = newPrefix();
  readonly #start: bigint;
  readonly #model = new Model();
  readonly #done: StreamAppend[] = [];
  /** Where each append's last event went, by stream and revision. */
  readonly #positions = new Map<string, bigint>();

  constructor(opened: Opened, start: bigint) {
    this.#opened = opened;
    this.#start = start;
  }

  get #store(): EventStore {
    return this.#opened.store();
  }

  async take(step: Step): Promise<void> {
    if ('appendAtOnce' in step) await this.#append(step.appendAtOnce);
    else if ('repeat' in step) await this.#repeat(step.repeat, step.shorterBy);
    else if ('readStream' in step) await this.#readStream(step);
    else if ('readAllFrom' in step) {
      const { events, from } = await this.#eventsFrom(step.readAllFrom);
      expect(await this.#mine(readAllAfter(this.#store, from, step.limit))).toEqual(events);
    } else if ('readAllBackwards' in step) {
      const { events } = await this.#eventsFrom(0);
      const backwards = await this.#mine(readAllDownTo(this.#store, this.#start, step.readAllBackwards));
      expect(backwards.reverse()).toEqual(events);
    } else if ('subscribeFrom' in step) await this.#subscribe(step);
    else await this.#opened.reopen();
  }

  /** All that was stored, in the order in which the store has put it. */
  async check(): Promise<void> {
    const all = await this.#mine(readAllAfter(this.#store, this.#start, 100));
    for (const [index, event] of all.entries())
      expect(event.position).toBeGreaterThan(all[index - 1]?.position ?? this.#start);
    for (const [place, position] of this.#positions)
      expect(all.find((event) => placeOf(event.streamId, event.revision) === place)?.position).toBe(position);
    for (const streamId of new Set(this.#done.map((append) => append.streamId))) {
      const own = all.filter((event) => event.streamId === streamId);
      expect(own.map(asNew)).toEqual(this.#model.stream(streamId));
      expect(own.map(({ revision }) => revision)).toEqual(own.map((_, index) => index));
      expect(await this.#store.readStream(streamId)).toEqual(own);
    }
  }

  async #append(appends: readonly { name: string; size: number; expected: unknown }[]): Promise<void> {
    const chosen = appends.map(({ name, size, expected }): StreamAppend => {
      const streamId = this.#prefix + name;
      const { length } = this.#model.stream(streamId);
      const right = length === 0 ? ('no-stream' as const) : length - 1;
      return { streamId, expected: expected === 'right' ? right : (expected as number), events: newEvents(size) };
    });
    const answers = chosen.map((each) => this.#model.append(each));
    const results = await this.#store.appendMany(chosen);
    expect(results).toEqual(
      answers.map((answer) => (answer.ok ? { ...answer, position: expect.any(BigInt) } : answer)),
    );
    for (const [index, result] of results.entries()) this.#remember(chosen[index] as StreamAppend, result);
  }

  async #repeat(which: number, shorterBy: number): Promise<void> {
    const append = this.#done[which % Math.max(this.#done.length, 1)];
    if (!append) return;
    const again = { ...append, events: append.events.slice(0, Math.max(append.events.length - shorterBy, 1)) };
    // Where anything fits, a repetition that comes late is nobody's promise.
    if (again.expected === 'stream-exists' && !this.#model.areNewest(again)) return;
    const answer = this.#model.append(again);
    const result = await this.#store.append(again.streamId, again.expected, again.events);
    expect(result).toEqual(answer.ok ? { ...answer, position: expect.any(BigInt) } : answer);
    this.#remember(again, result);
  }

  async #readStream({ readStream, ...range }: Extract<Step, { readStream: string }>): Promise<void> {
    const streamId = this.#prefix + readStream;
    const { from, limit, direction } = range;
    const stored = this.#model.stream(streamId).map((event, revision) => ({ ...event, streamId, revision }));
    const inOrder = direction === 'forwards' ? stored.slice(from ?? 0) : stored.slice(0, (from ?? 99) + 1).reverse();
    const asked = { direction, ...(from !== undefined && { from }), ...(limit !== undefined && { limit }) };
    const read = await this.#store.readStream(streamId, asked);
    expect(read.map(({ position: _, created: __, ...event }) => event)).toEqual(inOrder.slice(0, limit));
    expect((await this.#store.readLast(streamId))?.id).toEqual(stored.at(-1)?.id);
  }

  async #subscribe({ subscribeFrom, batchSize, to }: Extract<Step, { subscribeFrom: number }>): Promise<void> {
    const { events, from } = await this.#eventsFrom(subscribeFrom);
    const prefix = this.#prefix + to;
    const expected = events.filter(({ streamId }) => streamId.startsWith(prefix));
    const head = await this.#store.head();
    const options = { after: from, prefixes: [prefix], batchSize };
    const seen = await subscribed(this.#store, options, (_, batch) => batch.caughtUp && batch.position >= head);
    expect(seen.events).toEqual(expected);
  }

  /** Our own events after one of them, or after all that was before us, as reading everything gives them. */
  async #eventsFrom(which: number): Promise<{ readonly events: RecordedEvent[]; readonly from: bigint }> {
    const all = await this.#mine(readAllAfter(this.#store, this.#start, 100));
    const index = which % (all.length + 1);
    return { events: all.slice(index), from: all[index - 1]?.position ?? this.#start };
  }

  async #mine(read: Promise<RecordedEvent[]>): Promise<RecordedEvent[]> {
    return (await read).filter(({ streamId }) => streamId.startsWith(this.#prefix));
  }

  #remember(append: StreamAppend, result: AppendResult): void {
    this.#done.push(append);
    if (!result.ok) return;
    const place = placeOf(append.streamId, result.revision);
    // The same events are at the same position for ever.
    expect(result.position).toBe(this.#positions.get(place) ?? result.position);
    this.#positions.set(place, result.position);
  }
}

const placeOf = (streamId: string, revision: number): string => `${streamId}@${revision}`;
const asNew = ({ id, type, data, metadata }: RecordedEvent): NewEvent => ({ id, type, data, metadata });
