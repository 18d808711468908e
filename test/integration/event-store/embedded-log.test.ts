import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import { EmbeddedLogReader } from '../../../src/event-store/embedded-log-reader.js';
import { LogCorrupted } from '../../../src/event-store/embedded-record.js';
import { AppendRefused, type EventReader, type SubscriptionBatch } from '../../../src/event-store/event-store.js';
import { idsOf, newEvent, newEvents, temporaryFolder } from '../../support/logs.js';
import { changeTables } from './tables.js';

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let log: EmbeddedLog;
beforeEach(async () => {
  folder = await temporaryFolder();
  log = EmbeddedLog.open(folder.path);
});
afterEach(async () => {
  await log.close();
  await folder.remove();
});

async function reopen() {
  await log.close();
  log = EmbeddedLog.open(folder.path);
}

/** Batches of a subscription, one by one. */
function subscription(reader: EventReader, after = 0n, prefixes?: string[]) {
  const stop = new AbortController();
  const iterator = reader
    .subscribe({ after, ...(prefixes && { prefixes }), signal: stop.signal })
    [Symbol.asyncIterator]();
  return {
    next: async () => (await iterator.next()).value as SubscriptionBatch,
    stop: () => stop.abort(),
  };
}

describe('an empty log', () => {
  it('has its head at 0 and nothing to read', async () => {
    expect(await log.head()).toBe(0n);
    expect(await log.readAll(0n, 10)).toEqual([]);
    const { next, stop } = subscription(log);
    expect(await next()).toEqual({ events: [], position: 0n, caughtUp: true });
    stop();
  });
});

describe('closing', () => {
  it('keeps everything, and positions go on from there', async () => {
    await log.append('a', 'no-stream', newEvents(2));
    await log.append('b', 'no-stream', newEvents(1));
    const before = await log.readAll(0n, 10);
    await reopen();
    expect(await log.readAll(0n, 10)).toEqual(before);
    expect(await log.head()).toBe(3n);
    expect(await log.append('a', 1, newEvents(1))).toMatchObject({ ok: true, revision: 2, position: 4n });
  });

  it('waits for appends under way', async () => {
    const appends = Array.from({ length: 50 }, (_, index) => log.append(`s-${index}`, 'no-stream', newEvents(1)));
    await reopen();
    for (const result of await Promise.all(appends)) expect(result).toMatchObject({ ok: true });
    expect(await log.head()).toBe(50n);
  });

  it('ends subscriptions, though nobody has aborted them', async () => {
    const { next, stop } = subscription(log);
    try {
      await next();
      const end = next().catch((error: Error) => error.message);
      await log.close();
      expect([undefined, expect.stringContaining('closed')]).toContainEqual(await end);
    } finally {
      stop();
      log = EmbeddedLog.open(folder.path);
    }
  });

  it('refuses what comes after', async () => {
    await log.close();
    await expect(log.append('a', 'no-stream', newEvents(1))).rejects.toThrow('closed');
    log = EmbeddedLog.open(folder.path);
  });
});

describe('subscriptions', () => {
  it('say how far they have looked, also when what comes is not for them', async () => {
    const { next, stop } = subscription(log, 0n, ['mine-']);
    expect(await next()).toMatchObject({ position: 0n, caughtUp: true });
    await log.append('other-1', 'no-stream', newEvents(3));
    expect(await next()).toEqual({ events: [], position: 3n, caughtUp: true });
    stop();
  });

  it('are not caught up while there is more than a batch to read', async () => {
    await log.append('a', 'no-stream', newEvents(700));
    await reopen();
    const { next, stop } = subscription(log);
    expect(await next()).toMatchObject({ position: 500n, caughtUp: false });
    expect(await next()).toMatchObject({ position: 700n, caughtUp: true });
    stop();
  });

  it('have the same events from memory and from disk', async () => {
    await log.append('a', 'no-stream', [newEvent({ text: 'ü', list: [1, null, { a: true }] })]);
    const fromMemory = await subscription(log).next();
    await reopen();
    const fromDisk = await subscription(log).next();
    expect(fromMemory).toEqual(fromDisk);
  });

  it('hear of every append of many at once in few batches', async () => {
    const { next, stop } = subscription(log);
    await next();
    await Promise.all(Array.from({ length: 200 }, (_, index) => log.append(`s-${index}`, 'no-stream', newEvents(1))));
    let [batches, seen] = [0, 0];
    for (; seen < 200; batches++) seen += (await next()).events.length;
    expect(batches).toBeLessThan(20);
    stop();
  });
});

describe('a reader beside the writer', () => {
  it('sees each append once it is acknowledged', async () => {
    await log.append('a', 'no-stream', newEvents(1));
    const reader = EmbeddedLogReader.open(folder.path);
    expect(await reader.head()).toBe(1n);
    const { next, stop } = subscription(reader);
    expect((await next()).position).toBe(1n);
    const [event] = newEvents(1);
    if (event) await log.append('a', 0, [event]);
    expect(await reader.readLast('a')).toMatchObject({ id: event?.id, revision: 1 });
    expect(idsOf((await next()).events)).toEqual([event?.id]);
    stop();
    await reader.close();
    expect(await log.append('a', 1, newEvents(1))).toMatchObject({ ok: true });
  });
});

describe('appends of one turn', () => {
  it('find what those before them have appended, and are one after the other in the log', async () => {
    const [first, second, third] = [newEvents(2), newEvents(1), newEvents(2)];
    const results = await log.appendMany([
      { streamId: 'a', expected: 'no-stream', events: first },
      { streamId: 'b', expected: 'stream-exists', events: newEvents(1) },
      { streamId: 'a', expected: 1, events: second },
      { streamId: 'a', expected: 'stream-exists', events: second },
      { streamId: 'a', expected: 'stream-exists', events: [first[1], second[0]] as never },
      { streamId: 'a', expected: 'stream-exists', events: third },
      { streamId: 'a', expected: 2, events: newEvents(1) },
      { streamId: 'a', expected: 'no-stream', events: first },
    ]);
    expect(results).toEqual([
      { ok: true, revision: 1, position: 2n, idempotent: false },
      { ok: false, reason: 'wrong-revision', actual: undefined },
      { ok: true, revision: 2, position: 3n, idempotent: false },
      { ok: true, revision: 2, position: 3n, idempotent: true },
      { ok: true, revision: 2, position: 3n, idempotent: true },
      { ok: true, revision: 4, position: 5n, idempotent: false },
      { ok: false, reason: 'wrong-revision', actual: 4 },
      { ok: true, revision: 1, position: 2n, idempotent: true },
    ]);
    expect(idsOf(await log.readAll(0n, 10))).toEqual(idsOf([...first, ...second, ...third]));
  });

  it('may be more, and larger, than one commit takes', async () => {
    const large = Array.from({ length: 6 }, (_, n) =>
      log.append(`l-${n}`, 'no-stream', [newEvent({ text: 'x'.repeat(3e6) })]),
    );
    const many = Array.from({ length: 40 }, (_, n) => log.append(`m-${n}`, 'no-stream', newEvents(100)));
    const positions = (await Promise.all([...large, ...many])).map((result) => result.ok && Number(result.position));
    expect(positions).toEqual([...large.map((_, n) => 1 + n), ...many.map((_, n) => 106 + 100 * n)]);
    await reopen();
    expect(await log.head()).toBe(4_006n);
  });
});

describe('a long history', () => {
  it('leaves turns to others while a subscription reads it', async () => {
    await Promise.all(Array.from({ length: 50 }, (_, n) => log.append(`s-${n}`, 'no-stream', newEvents(100))));
    await reopen();
    const stop = new AbortController();
    let [turns, batches] = [0, 0];
    const turn = () => {
      turns++;
      if (!stop.signal.aborted) setImmediate(turn);
    };
    setImmediate(turn);
    for await (const { caughtUp } of log.subscribe({ after: 0n, batchSize: 100, signal: stop.signal })) {
      batches++;
      if (caughtUp) stop.abort();
    }
    expect(batches).toBe(50);
    expect(turns).toBeGreaterThanOrEqual(40);
  });
});

describe('an append that the log cannot take', () => {
  const large = () => newEvent({ text: 'x'.repeat(33 * 1024 * 1024) });

  it('is refused as a whole when an event is too large, and nothing is taken from the next', async () => {
    await expect(log.append('a', 'no-stream', [newEvent(), large()])).rejects.toThrow(AppendRefused);
    expect(await log.readStream('a')).toEqual([]);
    expect(await log.append('a', 'no-stream', newEvents(1))).toMatchObject({ ok: true, revision: 0, position: 1n });
  });

  it('is refused as a whole when its events are too large together, or too many', async () => {
    const each = 'x'.repeat(24 * 1024 * 1024);
    const events = Array.from({ length: 3 }, () => newEvent({ text: each }));
    await expect(log.append('a', 'no-stream', events)).rejects.toThrow(AppendRefused);
    const [event] = newEvents(1);
    await expect(log.append('a', 'no-stream', new Array(70_000).fill(event))).rejects.toThrow(AppendRefused);
    expect(await log.append('a', 'no-stream', events.slice(0, 2))).toMatchObject({ ok: true, position: 2n });
  });

  it.each([
    ['no characters', ''],
    ['1,025 characters', 's'.repeat(1_025)],
    ['1,026 bytes', 'é'.repeat(513)],
    ['a control character', 'a\u0000b'],
    ['half a character', 'a\ud800'],
  ])('leaves no trace when the name of its stream has %s', async (_, name) => {
    await expect(log.append(name, 'no-stream', newEvents(2))).rejects.toThrow(AppendRefused);
    await log.append('a', 'no-stream', newEvents(1));
    expect((await log.readAll(0n, 10)).map(({ streamId }) => streamId)).toEqual(['a']);
  });

  it('leaves no trace when its data is no JSON', async () => {
    const unwritable = newEvent({ count: 1n as unknown as number });
    await expect(log.append('a', 'no-stream', [newEvent(), unwritable])).rejects.toThrow();
    expect(await log.append('a', 'no-stream', newEvents(1))).toMatchObject({ ok: true, revision: 0, position: 1n });
  });
});

describe('a damaged record', () => {
  /** Changes one byte of one record behind the log's back. */
  async function damage(position: number) {
    await log.close();
    await changeTables(folder.path, async ({ records }) => {
      const bytes = Buffer.from(records.get(position) as Buffer);
      bytes[20] = (bytes[20] as number) ^ 0x01;
      await records.put(position, bytes);
    });
    log = EmbeddedLog.open(folder.path);
  }

  it('is never handed out, and its position is named', async () => {
    await log.append('a', 'no-stream', newEvents(3));
    await damage(2);
    await expect(log.readStream('a')).rejects.toThrow(LogCorrupted);
    await expect(log.readAll(0n, 10)).rejects.toThrow('position 2');
    await expect(subscription(log).next()).rejects.toThrow(LogCorrupted);
    expect(await log.readStream('a', { from: 2 })).toHaveLength(1);
    expect(await log.readAll(0n, 1)).toHaveLength(1);
  });
});
