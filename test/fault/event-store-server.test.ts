import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { LogUnavailable, type RecordedEvent } from '../../src/event-store/event-store.js';
import { EventStoreDb } from '../../src/event-store/eventstoredb/event-store-db.js';
import type { EventStoreDbOptions } from '../../src/event-store/eventstoredb/event-store-db-reader.js';
import { type EventStoreProcess, startEventStore } from '../support/eventstoredb/start.js';
import { idsOf, newEvents } from '../support/logs.js';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.js';

/**
 * FAULTS.md, "append times out with unknown outcome" and "event store restarts, subscription ends or stalls": the
 * EventStoreDB adapter against a server that is killed and a network that cuts, drops and stalls. An append that is
 * acknowledged is there once, one that is not at most once, and subscriptions go on with none skipped and none doubled.
 *
 * The short form is part of the tests; `npm run test:fault` runs the long one.
 */
const isLong = process.env.FAULT_LONG === '1';
const KILLS = isLong ? 20 : 3;
const CUTS = isLong ? 100 : 10;
const WRITERS = 24;
/** A connection that is silent for so long is given up. */
const ANSWER_WITHIN_MS = 400;

let server: EventStoreProcess;
let direct: EventStoreDb;
let proxy: TcpProxy;
const open: EventStoreDb[] = [];

beforeAll(async () => {
  server = await startEventStore();
  direct = await EventStoreDb.connect(server.url);
  proxy = await startTcpProxy(server.port);
});
afterEach(async () => {
  proxy.heal();
  await Promise.all(open.splice(0).map((store) => store.close()));
});
afterAll(async () => {
  await direct.close();
  await proxy.close();
  await server.stop();
});

async function connected(url: string, options: EventStoreDbOptions = {}) {
  const troubles: Error[] = [];
  const store = await EventStoreDb.connect(url, { onTrouble: (error) => troubles.push(error), ...options });
  open.push(store);
  return { store, troubles };
}

const throughProxy = (options: EventStoreDbOptions = {}) =>
  connected(`esdb://127.0.0.1:${proxy.port}?tls=false`, { answerWithinMs: ANSWER_WITHIN_MS, ...options });

const newPrefix = () => `fault${randomUUID().replaceAll('-', '')}-`;

/** Appends to streams of its own, one after the other, and knows what it was told of them. */
class Writers {
  /** Stream → the ids that were acknowledged, in order. */
  readonly acknowledged = new Map<string, string[]>();
  /** Stream → the ids of an append that threw. */
  readonly unknown = new Map<string, string[]>();
  appends = 0;
  readonly #store: EventStoreDb;
  readonly #prefix: string;
  readonly #all: Promise<unknown>;
  #isDone = false;

  constructor(store: EventStoreDb, prefix: string) {
    this.#store = store;
    this.#prefix = prefix;
    this.#all = Promise.all(Array.from({ length: WRITERS }, () => this.#write()));
  }

  async finish(): Promise<void> {
    this.#isDone = true;
    await this.#all;
  }

  /** Goes on until so many more appends were answered. */
  async more(count: number): Promise<void> {
    const enough = this.appends + count;
    await expect.poll(() => this.appends, { timeout: 60_000, interval: 2 }).toBeGreaterThanOrEqual(enough);
  }

  async #write(): Promise<void> {
    while (!this.#isDone) {
      const stream = `${this.#prefix}${randomUUID()}`;
      await this.#append(stream, 'no-stream', 2, 1);
      await this.#append(stream, 1, 1, 2);
      await this.#append(stream, 'stream-exists', 3, 5);
    }
  }

  async #append(stream: string, expected: number | 'no-stream' | 'stream-exists', count: number, revision: number) {
    const events = newEvents(count);
    if (this.unknown.has(stream)) return;
    try {
      const result = await this.#store.append(stream, expected, events);
      expect(result).toEqual({ ok: true, revision, position: expect.any(BigInt), idempotent: false });
      this.acknowledged.set(stream, [...(this.acknowledged.get(stream) ?? []), ...idsOf(events)]);
    } catch (error) {
      if (!(error instanceof LogUnavailable)) throw error;
      this.unknown.set(stream, idsOf(events));
    }
    this.appends++;
  }

  /** What is stored: all that was acknowledged, once and in order, then perhaps, and once, what was not. */
  async audit(): Promise<void> {
    for (const [stream, ids] of this.acknowledged) {
      const stored = idsOf(await direct.readStream(stream));
      const unknown = this.unknown.get(stream) ?? [];
      expect([ids, [...ids, ...unknown]]).toContainEqual(stored);
    }
  }
}

/** A subscription that runs beside what the test does, and what it has given. */
function subscribed(store: EventStoreDb, after: bigint, prefix: string) {
  const stop = new AbortController();
  const events: RecordedEvent[] = [];
  let position = after;
  const ended = (async () => {
    for await (const batch of store.subscribe({ after, prefixes: [prefix], signal: stop.signal })) {
      expect(batch.position).toBeGreaterThanOrEqual(position);
      position = batch.position;
      events.push(...batch.events);
    }
  })();
  return {
    events,
    /** All that was written after `after` has come, once and in order; the position is where the log ends. */
    async isComplete() {
      const head = await direct.head();
      await expect.poll(() => position, { timeout: 30_000, interval: 20 }).toBeGreaterThanOrEqual(head);
      const all: RecordedEvent[] = [];
      for (let from = after; ; ) {
        const page = await direct.readAll(from, 1_000);
        from = page.at(-1)?.position ?? from;
        all.push(...page.filter(({ streamId }) => streamId.startsWith(prefix)));
        if (page.length === 0) break;
      }
      expect(idsOf(events)).toEqual(idsOf(all));
      stop.abort();
      await ended;
    },
  };
}

describe('the EventStoreDB adapter', () => {
  it(`survives its server, killed ${KILLS} times with -9`, { timeout: isLong ? 300_000 : 60_000 }, async () => {
    const { store, troubles } = await connected(server.url);
    const prefix = newPrefix();
    const after = await store.head();
    const subscription = subscribed(store, after, prefix);
    const writers = new Writers(store, prefix);
    for (let kills = 0; kills < KILLS; kills++) {
      await writers.more(200);
      // Not a wait for anything: the kill is to come at any moment of what is going on.
      await delay(Math.random() * 50);
      await server.kill();
      await server.restart();
    }
    await writers.more(200);
    await writers.finish();
    expect(troubles.length).toBeGreaterThanOrEqual(KILLS);
    expect(writers.unknown.size).toBe(0);
    await writers.audit();
    await subscription.isComplete();
  });

  it(`survives a network that cuts its connection ${CUTS} times`, { timeout: 60_000 }, async () => {
    const { store, troubles } = await throughProxy();
    const prefix = newPrefix();
    const subscription = subscribed(store, await store.head(), prefix);
    const writers = new Writers(store, prefix);
    for (let cuts = 0; cuts < CUTS; cuts++) {
      await writers.more(50);
      proxy.cut();
    }
    await writers.finish();
    expect(troubles.length).toBeGreaterThanOrEqual(CUTS);
    expect(writers.unknown.size).toBe(0);
    await writers.audit();
    await subscription.isComplete();
  });

  it('finds out what became of appends whose replies were lost', async () => {
    const { store } = await throughProxy({ answerWithinMs: 10_000 });
    const stream = `${newPrefix()}a`;
    await store.append(stream, 'no-stream', newEvents(1));
    const appends = [
      { streamId: stream, expected: 0, events: newEvents(2) },
      { streamId: `${stream}-2`, expected: 'no-stream' as const, events: newEvents(3) },
    ];
    const before = proxy.accepted;
    proxy.dropReplies();
    const answers = store.appendMany(appends);
    const stored = () => Promise.all(appends.map(async ({ streamId }) => (await direct.readLast(streamId))?.id));
    await expect.poll(stored, { timeout: 10_000 }).toEqual(appends.map(({ events }) => events.at(-1)?.id));
    proxy.cut();
    const last = await Promise.all(appends.map(({ streamId }) => direct.readLast(streamId)));
    expect(await answers).toEqual(
      last.map((event) => ({ ok: true, revision: event?.revision, position: event?.position, idempotent: false })),
    );
    for (const { streamId, events } of appends)
      expect(idsOf(await direct.readStream(streamId)).slice(-events.length)).toEqual(idsOf(events));
    // It had to be read: nobody has told this client of a repetition.
    expect(proxy.accepted).toBeGreaterThan(before);
  });

  it('finds out that somebody else was first, although the reply was lost', async () => {
    const { store } = await throughProxy({ answerWithinMs: 10_000 });
    const stream = `${newPrefix()}a`;
    await direct.append(stream, 'no-stream', newEvents(3));
    proxy.dropReplies();
    const answer = store.append(stream, 'no-stream', newEvents(1));
    // Its request has reached the server when another one, sent later, was carried out.
    const other = newEvents(1);
    const later = store.append(`${stream}-2`, 'no-stream', other);
    await expect.poll(async () => (await direct.readLast(`${stream}-2`))?.id).toBe(other[0]?.id);
    proxy.cut();
    expect(await answer).toEqual({ ok: false, reason: 'wrong-revision', actual: 2 });
    expect(await later).toMatchObject({ ok: true, revision: 0 });
  });

  it('gives up a silent connection, and goes on with another one', async () => {
    const { store, troubles } = await throughProxy();
    const prefix = newPrefix();
    const subscription = subscribed(store, await store.head(), prefix);
    const writers = new Writers(store, prefix);
    await writers.more(50);
    const before = proxy.accepted;
    proxy.stall();
    await expect.poll(() => proxy.accepted, { timeout: 10_000 }).toBeGreaterThan(before);
    proxy.heal();
    await writers.more(50);
    await writers.finish();
    expect(troubles.map(({ name }) => name)).toContain('Silence');
    expect(writers.unknown.size).toBe(0);
    await writers.audit();
    await subscription.isComplete();
  });

  it('says that an outcome is unknown when there is no answer for too long', async () => {
    const { store } = await throughProxy({ giveUpAfterMs: 1_000 });
    const prefix = newPrefix();
    const writers = new Writers(store, prefix);
    await writers.more(50);
    proxy.stall();
    await expect.poll(() => writers.unknown.size, { timeout: 10_000 }).toBe(WRITERS);
    const started = performance.now();
    const read = store.readStream('any').catch((error: Error) => error);
    const append = store.append(`${prefix}never`, 'no-stream', newEvents(1)).catch((error: Error) => error);
    expect(await append).toMatchObject({ name: 'LogUnavailable', message: expect.stringContaining('is unknown') });
    expect(await read).toMatchObject({ name: 'LogUnavailable', code: 'LOG_UNAVAILABLE' });
    expect(performance.now() - started).toBeLessThan(5_000);
    proxy.heal();
    await writers.more(50);
    await writers.finish();
    await writers.audit();
  });

  it('notices that nothing comes any more while it only listens', async () => {
    const { store, troubles } = await throughProxy({ lookAfterMs: 100 });
    const prefix = newPrefix();
    const subscription = subscribed(store, await store.head(), prefix);
    await direct.append(`${prefix}a`, 'no-stream', newEvents(1));
    await expect.poll(() => subscription.events.length).toBe(1);
    proxy.stall();
    await direct.append(`${prefix}b`, 'no-stream', newEvents(2));
    await expect.poll(() => troubles.map(({ name }) => name), { timeout: 10_000 }).toContain('Silence');
    proxy.heal();
    await subscription.isComplete();
  });
});
