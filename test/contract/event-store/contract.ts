import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AppendRefused,
  type AppendResult,
  type EventStore,
  type RecordedEvent,
} from '../../../src/event-store/event-store.js';
import { idsOf, newEvent, newEvents } from '../../support/logs.js';
import { compareWithModel } from './model.js';
import { newPrefix, newStream, readAllAfter, subscribed } from './reading.js';

/**
 * What every event store must do, whatever is behind it. The store may be full of other events, and others may write
 * to it meanwhile: every test has streams of its own.
 *
 * @param open opens the same store every time; closed before it is opened again
 * @param options.numRuns default 12: how many random stories are compared with the model
 */
export function eventStoreContract(
  name: string,
  open: () => Promise<EventStore>,
  { numRuns = 12 }: { readonly numRuns?: number } = {},
): void {
  describe(`${name}, as an event store`, () => {
    let store: EventStore;
    beforeAll(async () => {
      store = await open();
    });
    afterAll(() => store.close());

    async function reopen() {
      await store.close();
      store = await open();
    }

    async function appended(stream: string, count: number, expected: number | 'no-stream' = 'no-stream') {
      const events = newEvents(count);
      expect(await store.append(stream, expected, events)).toMatchObject({ ok: true });
      return events;
    }

    const positionOf = (result: AppendResult | undefined): bigint => {
      if (!result?.ok) throw new Error(`not appended: ${JSON.stringify(result)}`);
      return result.position;
    };

    describe('appends', () => {
      it.each([
        ['no-stream', 0, 'no-stream'],
        ['the exact revision', 2, 1],
        ['stream-exists', 2, 'stream-exists'],
      ] as const)('where the stream is as expected: %s', async (_, before, expected) => {
        const stream = newStream();
        const old = before === 0 ? [] : await appended(stream, before);
        const events = newEvents(3);
        const result = await store.append(stream, expected, events);
        expect(result).toMatchObject({ ok: true, revision: before + 2, idempotent: false });
        const stored = await store.readStream(stream);
        expect(idsOf(stored)).toEqual(idsOf([...old, ...events]));
        expect(stored.at(-1)?.position).toBe(positionOf(result));
      });

      it.each([
        ['no-stream', 2, 'no-stream', 1],
        ['a revision before', 2, 0, 1],
        ['a revision beyond', 2, 2, 1],
        ['a revision of no stream', 0, 0, undefined],
        ['stream-exists', 0, 'stream-exists', undefined],
      ] as const)('nothing elsewhere, and says where the stream is: %s', async (_, before, expected, actual) => {
        const stream = newStream();
        if (before > 0) await appended(stream, before);
        const result = await store.append(stream, expected, newEvents(1));
        expect(result).toEqual({ ok: false, reason: 'wrong-revision', actual });
        expect(await store.readStream(stream)).toHaveLength(before);
      });

      it('everything as it is: text of all kinds, numbers, nesting, metadata', async () => {
        const stream = newStream();
        const event = {
          ...newEvent({
            text: 'Grüße 🚀 "\\ \u0000 \u2028',
            number: 1.5e300,
            nested: [{ a: [null, true, ''] }],
            __proto: {},
          }),
          metadata: { schemaVersion: '1', organizationId: 'a', $correlationId: 'c', actor: 'Ada Ünal' },
        };
        const before = Date.now();
        const result = await store.append(stream, 'no-stream', [event]);
        const [stored] = await store.readStream(stream);
        expect(stored).toEqual({
          ...event,
          streamId: stream,
          revision: 0,
          position: positionOf(result),
          created: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/),
        });
        // The store's clock may be another machine's.
        expect(Math.abs(Date.parse(stored?.created ?? '') - before)).toBeLessThan(60_000);
      });

      it('at least one event', async () => {
        const stream = newStream();
        await expect(store.append(stream, 'no-stream', [])).rejects.toThrow(AppendRefused);
        expect(await store.readStream(stream)).toEqual([]);
      });

      it('many independent streams, each with an answer of its own, in order', async () => {
        const taken = newStream();
        await appended(taken, 1);
        const streams = Array.from({ length: 20 }, () => newStream());
        const results = await store.appendMany([
          ...streams.map((streamId, index) => ({
            streamId,
            expected: 'no-stream' as const,
            events: newEvents(1 + (index % 3)),
          })),
          { streamId: taken, expected: 'no-stream', events: newEvents(1) },
          { streamId: taken, expected: 0, events: newEvents(1) },
        ]);
        for (const index of streams.keys()) expect(results[index]).toMatchObject({ ok: true, revision: index % 3 });
        expect(results.at(-2)).toMatchObject({ ok: false, reason: 'wrong-revision', actual: 0 });
        expect(results.at(-1)).toMatchObject({ ok: true, revision: 1 });
        expect(await store.appendMany([])).toEqual([]);
      });

      it('one of many at each revision of a stream', async () => {
        const stream = newStream();
        const winners: (string | undefined)[] = [];
        for (const expected of ['no-stream', 0, 1, 2] as const) {
          const rivals = Array.from({ length: 8 }, () => store.append(stream, expected, newEvents(1)));
          const results = await Promise.all(rivals);
          const won = results.filter((result) => result.ok);
          expect(won).toHaveLength(1);
          for (const lost of results.filter((result) => !result.ok))
            expect(lost).toMatchObject({ reason: 'wrong-revision' });
          winners.push(String(positionOf(won[0])));
        }
        expect((await store.readStream(stream)).map(({ position }) => String(position))).toEqual(winners);
      });
    });

    it('has each revision of a stream for one of those who race for it, and all of them in the end', async () => {
      const stream = newStream();
      const racers = Array.from({ length: 5 }, async (_, racer) => {
        const won: [number, string][] = [];
        for (let expected: number | 'no-stream' = 'no-stream'; won.length < 8; ) {
          const event = newEvent({ racer, nth: won.length });
          const result: AppendResult = await store.append(stream, expected, [event]);
          if (result.ok) won.push([result.revision, event.id]);
          expected = (result.ok ? result.revision : result.actual) ?? 'no-stream';
        }
        return won;
      });
      const won = (await Promise.all(racers)).flat().sort(([one], [other]) => one - other);
      const stored = await store.readStream(stream);
      expect(stored.map(({ revision, id }) => [revision, id])).toEqual(won);
      expect(won.map(([revision]) => revision)).toEqual(won.map((_, index) => index));
    });

    it('shows what it has acknowledged to whoever reads next, in every way', async () => {
      const stream = newStream();
      for (const expected of ['no-stream', 0, 1] as const) {
        const [event] = newEvents(1) as [ReturnType<typeof newEvent>];
        const position = positionOf(await store.append(stream, expected, [event]));
        expect(await store.readLast(stream)).toMatchObject({ id: event.id, position });
        expect((await store.readStream(stream)).at(-1)).toMatchObject({ id: event.id, position });
        expect(await store.head()).toBeGreaterThanOrEqual(position);
        expect(await store.readAll(position - 1n, 1)).toMatchObject([{ id: event.id, position }]);
        expect(await store.readAllBackwards(position + 1n, 1)).toMatchObject([{ id: event.id, position }]);
      }
    });

    it('does what the model of an event store does, whatever that is', { timeout: 60_000 }, () =>
      compareWithModel({ store: () => store, reopen }, numRuns),
    );

    describe('takes the same events at the same place once', () => {
      it.each([
        ['a new stream', 'no-stream', 0],
        ['an old one', 1, 2],
      ] as const)('in %s, also when others came after', async (_, expected, revision) => {
        const stream = newStream();
        if (expected === 1) await appended(stream, 2);
        const events = newEvents(1);
        const first = await store.append(stream, expected, events);
        await appended(stream, 2, revision);
        expect(await store.append(stream, expected, events)).toEqual({ ...first, idempotent: true });
        expect(await store.readStream(stream)).toHaveLength(revision + 3);
      });

      it('when sent twice at once', async () => {
        const stream = newStream();
        const events = newEvents(3);
        const results = await Promise.all([1, 2, 3].map(() => store.append(stream, 'no-stream', events)));
        expect(new Set(results.map(positionOf)).size).toBe(1);
        expect(idsOf(await store.readStream(stream))).toEqual(idsOf(events));
      });

      it('at the end of a stream that need only exist, where exactly they are its newest', async () => {
        const stream = newStream();
        const [one, two, three] = (await appended(stream, 3)) as [RecordedEvent, RecordedEvent, RecordedEvent];
        const extend = (events: Parameters<EventStore['append']>[2]) => store.append(stream, 'stream-exists', events);
        for (const newest of [[three], [two, three], [one, two, three]])
          expect(await extend(newest)).toMatchObject({ ok: true, revision: 2, idempotent: true });
        const more = newEvents(2);
        const [first, second] = await Promise.all([extend(more), extend(more)]);
        expect(first).toMatchObject({ ok: true, revision: 4, idempotent: false });
        // Of two that race, which came first is not always known.
        expect(second).toEqual({ ...first, idempotent: expect.any(Boolean) });
        await reopen();
        expect(await extend(more)).toEqual({ ...first, idempotent: true });
        expect(idsOf(await store.readStream(stream))).toEqual(idsOf([one, two, three, ...more]));
        expect(await extend(newEvents(1))).toMatchObject({ ok: true, revision: 5, idempotent: false });
      });

      it('after the store was opened anew', async () => {
        const stream = newStream();
        const events = newEvents(2);
        const first = await store.append(stream, 'no-stream', events);
        await reopen();
        expect(await store.append(stream, 'no-stream', events)).toEqual({ ...first, idempotent: true });
        expect(await store.append(stream, 'no-stream', newEvents(2))).toMatchObject({ ok: false, actual: 1 });
        expect(await store.append(stream, 1, newEvents(1))).toMatchObject({ ok: true, revision: 2 });
      });

      it('but not when they are the same only in part, in another order or at another place', async () => {
        const stream = newStream();
        const [one, two] = (await appended(stream, 2)) as [RecordedEvent, RecordedEvent];
        const wrong = { ok: false, reason: 'wrong-revision', actual: 1 };
        expect(await store.append(stream, 'no-stream', [one, two, newEvent()])).toEqual(wrong);
        expect(await store.append(stream, 'no-stream', [one, newEvent()])).toEqual(wrong);
        expect(await store.append(stream, 'no-stream', [newEvent(), two])).toEqual(wrong);
        expect(await store.append(stream, 'no-stream', [two, one])).toEqual(wrong);
        expect(await store.append(stream, 0, [one, two])).toEqual(wrong);
        expect(await store.append(stream, 0, [two])).toMatchObject({ ok: true, revision: 1, idempotent: true });
        expect(idsOf(await store.readStream(stream))).toEqual(idsOf([one, two]));
      });
    });

    describe('reads', () => {
      it('a stream backwards, from its end or a revision', async () => {
        const stream = newStream();
        const events = idsOf(await appended(stream, 5)).reverse();
        const backwards = async (range: { from?: number; limit?: number } = {}) =>
          idsOf(await store.readStream(stream, { ...range, direction: 'backwards' }));
        expect(await backwards()).toEqual(events);
        expect(await backwards({ limit: 2 })).toEqual(events.slice(0, 2));
        expect(await backwards({ from: 2 })).toEqual(events.slice(2));
        expect(await backwards({ from: 3, limit: 3 })).toEqual(events.slice(1, 4));
        expect(await backwards({ from: 0 })).toEqual(events.slice(4));
        expect(await store.readStream(newStream(), { direction: 'backwards' })).toEqual([]);
      });

      it('everything backwards, from the end or a position', async () => {
        const [first, second, third] = await store
          .append(newStream(), 'no-stream', newEvents(3))
          .then((result) => store.readAllBackwards(positionOf(result) + 1n, 3))
          .then((read) => read.reverse());
        expect(await store.readAllBackwards((third as RecordedEvent).position, 2)).toEqual([second, first]);
        expect(await store.readAllBackwards((third as RecordedEvent).position, 1)).toEqual([second]);
        const newest = await store.readAllBackwards('end', 1);
        expect(newest[0]?.position).toBeGreaterThanOrEqual((third as RecordedEvent).position);
        expect(await store.readAllBackwards(0n, 10)).toEqual([]);
      });

      it('a stream from a revision on, up to a limit', async () => {
        const stream = newStream();
        const events = idsOf(await appended(stream, 5));
        expect(idsOf(await store.readStream(stream))).toEqual(events);
        expect(idsOf(await store.readStream(stream, { from: 2 }))).toEqual(events.slice(2));
        expect(idsOf(await store.readStream(stream, { limit: 2 }))).toEqual(events.slice(0, 2));
        expect(idsOf(await store.readStream(stream, { from: 1, limit: 3 }))).toEqual(events.slice(1, 4));
        expect(await store.readStream(stream, { from: 5 })).toEqual([]);
        expect((await store.readStream(stream)).map(({ revision }) => revision)).toEqual([0, 1, 2, 3, 4]);
      });

      it('nothing of a stream that is not there, nor of one whose name only begins alike', async () => {
        const stream = newStream();
        await appended(`${stream}0`, 1);
        expect(await store.readStream(stream)).toEqual([]);
        expect(await store.readLast(stream)).toBeUndefined();
      });

      it('the last event of a stream', async () => {
        const stream = newStream();
        await appended(stream, 2);
        const [third] = await appended(stream, 1, 1);
        await appended(`${stream}0`, 1);
        expect(await store.readLast(stream)).toMatchObject({ id: third?.id, revision: 2, streamId: stream });
      });

      it('everything in the order of positions, which only rise', async () => {
        const prefix = newPrefix();
        const before = await store.head();
        const [one, other] = [newStream(prefix), newStream(prefix)];
        const events = [
          ...(await appended(one, 2)),
          ...(await appended(other, 1)),
          ...(await appended(one, 1, 1)),
          ...(await appended(other, 2, 0)),
        ];
        const all = await readAllAfter(store, before);
        expect(idsOf(all.filter(({ streamId }) => streamId.startsWith(prefix)))).toEqual(idsOf(events));
        for (const [index, event] of all.entries())
          expect(event.position).toBeGreaterThan(all[index - 1]?.position ?? before);
        expect(await store.head()).toBeGreaterThanOrEqual(all.at(-1)?.position ?? -1n);
      });

      it('everything after a position, up to a limit, never the event at the position itself', async () => {
        const before = await store.head();
        await appended(newStream(), 5);
        const all = await readAllAfter(store, before);
        const [first, second, third] = all as [RecordedEvent, RecordedEvent, RecordedEvent];
        expect(await store.readAll(before, 1)).toEqual([first]);
        expect(await store.readAll(first.position, 2)).toEqual([second, third]);
        const end = await store.head();
        expect((await store.readAll(end, 10)).filter(({ position }) => position <= end)).toEqual([]);
      });

      it('events of many streams under one position each', async () => {
        const before = await store.head();
        await Promise.all(Array.from({ length: 10 }, () => appended(newStream(), 3)));
        const positions = (await readAllAfter(store, before)).map(({ position }) => position);
        expect(positions.length).toBeGreaterThanOrEqual(30);
        expect(new Set(positions).size).toBe(positions.length);
      });
    });

    describe('subscriptions', () => {
      it('give history, then what comes, each event once and in order', async () => {
        const prefix = newPrefix();
        const after = await store.head();
        const history = await appended(newStream(prefix), 5);
        const live: { id: string }[] = [];
        const { events, batches } = await subscribed(
          store,
          { after, prefixes: [prefix], batchSize: 2 },
          async (all, batch) => {
            if (batch.caughtUp && live.length === 0) live.push(...(await appended(newStream(prefix), 3)));
            return all.length >= 8;
          },
        );
        expect(idsOf(events)).toEqual(idsOf([...history, ...live]));
        expect(Math.max(...batches.map((batch) => batch.events.length))).toBeLessThanOrEqual(2);
        for (const [index, { position }] of batches.entries())
          expect(position).toBeGreaterThanOrEqual(batches[index - 1]?.position ?? after);
      });

      it('start anywhere: the position of any batch is a checkpoint', async () => {
        const prefix = newPrefix();
        const after = await store.head();
        const stream = newStream(prefix);
        for (let revision = -1; revision < 5; revision++)
          await appended(stream, 1, revision === -1 ? 'no-stream' : revision);
        const whole = await subscribed(store, { after, prefixes: [prefix], batchSize: 2 }, (all) => all.length >= 6);
        for (const { position } of whole.batches) {
          const rest = whole.events.filter((event) => event.position > position);
          const again = await subscribed(
            store,
            { after: position, prefixes: [prefix] },
            (all) => all.length >= rest.length,
          );
          expect(idsOf(again.events)).toEqual(idsOf(rest));
        }
      });

      it('have only the streams they ask for, and all when they do not', async () => {
        const [prefix, second, third] = [newPrefix(), newPrefix(), newPrefix()];
        const after = await store.head();
        const mine = [...(await appended(newStream(prefix), 1)), ...(await appended(newStream(second), 1))];
        const others = await appended(newStream(third), 1);
        await appended(`x${newStream(prefix)}`, 1);
        const last = await appended(newStream(prefix), 1);
        const some = await subscribed(store, { after, prefixes: [prefix, second] }, (all) =>
          idsOf(all).includes(last[0]?.id ?? ''),
        );
        expect(idsOf(some.events)).toEqual(idsOf([...mine, ...last]));
        const every = await subscribed(store, { after }, (all) => idsOf(all).includes(last[0]?.id ?? ''));
        expect(idsOf(every.events)).toEqual(expect.arrayContaining(idsOf([...mine, ...others, ...last])));
      });

      it('say when they have caught up, though the filter left nothing, and how far they have looked', async () => {
        const after = await store.head();
        for (let count = 0; count < 3; count++) await appended(newStream(), 2);
        const head = await store.head();
        const { events, batches } = await subscribed(
          store,
          { after, prefixes: [newPrefix()] },
          (_, batch) => batch.caughtUp && batch.position >= head,
        );
        expect(events).toEqual([]);
        expect(batches.at(-1)?.position).toBeGreaterThanOrEqual(head);
      });

      it('say that they have caught up where there is no history at all', async () => {
        const after = await store.head();
        const { batches } = await subscribed(store, { after, prefixes: [newPrefix()] }, (_, batch) => batch.caughtUp);
        expect(batches.at(-1)).toMatchObject({ events: [], caughtUp: true });
      });

      it('that are slow hold up neither appends nor other subscriptions, and miss nothing', async () => {
        const prefix = newPrefix();
        const stream = newStream(prefix);
        const after = await store.head();
        await appended(stream, 1);
        const stop = new AbortController();
        const slow = store
          .subscribe({ after, prefixes: [prefix], batchSize: 10, signal: stop.signal })
          [Symbol.asyncIterator]();
        const seen = [...((await slow.next()).value?.events ?? [])];
        for (let revision = 0; revision < 50; revision++) await appended(stream, 1, revision);
        const fast = await subscribed(store, { after, prefixes: [prefix] }, (all) => all.length >= 51);
        while (seen.length < 51) seen.push(...((await slow.next()).value?.events ?? []));
        expect(idsOf(seen)).toEqual(idsOf(fast.events));
        stop.abort();
        expect(await slow.next()).toMatchObject({ done: true });
      });

      it('end promptly when told to, while they wait and before they begin', async () => {
        const stop = new AbortController();
        const waiting = store
          .subscribe({ after: await store.head(), prefixes: [newPrefix()], signal: stop.signal })
          [Symbol.asyncIterator]();
        while (!(await waiting.next()).value?.caughtUp);
        const next = (async () => {
          for (let step = await waiting.next(); !step.done; ) step = await waiting.next();
        })();
        // No event comes any more, so it is not one that ends it.
        stop.abort();
        await next;
        const never = store.subscribe({ after: 0n, signal: AbortSignal.abort() })[Symbol.asyncIterator]();
        expect(await never.next()).toMatchObject({ done: true });
      });

      it('can be left in the middle', async () => {
        const prefix = newPrefix();
        const after = await store.head();
        await appended(newStream(prefix), 3);
        const stop = new AbortController();
        for await (const { events } of store.subscribe({
          after,
          prefixes: [prefix],
          batchSize: 1,
          signal: stop.signal,
        }))
          if (events.length > 0) break;
        stop.abort();
        await appended(newStream(prefix), 1);
      });
    });
  });
}
