import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { StreamsService } from '@eventstore/db-client/generated/streams_grpc_pb.js';
import { Metadata, Server, ServerCredentials, type ServiceError, status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { AppendRefused, LogUnavailable, type SubscriptionBatch } from '../../../src/event-store/event-store.js';
import { EventStoreDb } from '../../../src/event-store/eventstoredb/event-store-db.js';
import { EventStoreDbReader } from '../../../src/event-store/eventstoredb/event-store-db-reader.js';
import { subscribeRequest } from '../../../src/event-store/eventstoredb/read-messages.js';
import { Subscription } from '../../../src/event-store/eventstoredb/subscription.js';
import { type EventStoreProcess, startEventStore } from '../../support/eventstoredb/start.js';
import { idsOf, newEvent, newEvents, temporaryFolder } from '../../support/logs.js';
import { LOCALHOST } from '../../support/peers/certificate.js';
import { startTcpProxy } from '../../support/tcp-proxy.js';

const MAX_APPEND_SIZE = 6 * 1024 * 1024;

let server: EventStoreProcess;
let store: EventStoreDb;
beforeAll(async () => {
  server = await startEventStore({ maxAppendSize: MAX_APPEND_SIZE });
  store = await EventStoreDb.connect(server.url);
});
afterAll(async () => {
  await store.close();
  await server.stop();
});

const newStream = () => `test-${randomUUID()}`;
const failure = (promise: Promise<unknown>) => promise.then(String, (error: Error) => error);

describe('a connection string', () => {
  it.each([
    ['nonsense', 'expected esdb:// or esdb+discover:// at the beginning'],
    ['http://admin:s3cret@host:2113', 'expected esdb:// or esdb+discover:// at the beginning'],
    ['esdb://', 'expected the name of a host'],
    ['esdb://admin:s3cret@?tls=false', 'expected the name of a host'],
    ['esdb://admin:s3cret@host:2113?tls=perhaps', 'true or false'],
    ['esdb://admin:s3cret@host:many', 'port number'],
    ['esdb://admin:s3cret@b%zz@host', 'percent-encoded'],
    ['esdb://:s3cret@host', 'expected user:password before the @'],
    ['esdb://s3cret@host', 'expected user:password before the @'],
    ['esdb://admin:s3cret@host?tlsCAFile=/nowhere.pem', 'tlsCAFile: ENOENT'],
  ])('that is wrong is one error, which names it and not its password: %s', async (url, problem) => {
    const warned = vi.spyOn(console, 'warn');
    const error = await failure(EventStoreDb.connect(url));
    expect(error).toMatchObject({ message: expect.stringMatching(/^EVENTSTORE_URL: /) });
    expect(error).toMatchObject({ message: expect.stringContaining(problem) });
    expect(JSON.stringify([error, (error as Error).stack, warned.mock.calls])).not.toContain('s3cret');
    warned.mockRestore();
  });

  it('may have the newer name of the scheme', async () => {
    for (const scheme of ['kurrentdb', 'kdb']) {
      const reader = await EventStoreDbReader.connect(server.url.replace(/^esdb/, scheme));
      await reader.close();
    }
  });

  it('may name several nodes, one of which is asked for the leader', async () => {
    const gone = await freePort();
    const reader = await EventStoreDbReader.connect(`esdb://127.0.0.1:${gone},127.0.0.1:${server.port}?tls=false`);
    expect(await reader.head()).toBe(await store.head());
    await reader.close();
  });
});

describe('connecting', () => {
  it('fails with a clear error when nothing listens', async () => {
    const url = `esdb://127.0.0.1:${await freePort()}?tls=false`;
    const error = await failure(EventStoreDb.connect(url, { connectWithinMs: 300 }));
    expect(error).toMatchObject({ name: 'LogUnavailable', message: expect.stringContaining('cannot be reached') });
    expect(error).toMatchObject({ message: expect.stringContaining('ECONNREFUSED') });
  });

  it('fails within its time when nothing answers', async () => {
    const proxy = await startTcpProxy(server.port);
    proxy.stall();
    const started = performance.now();
    const url = `esdb://127.0.0.1:${proxy.port}?tls=false&defaultDeadline=300`;
    expect(await failure(EventStoreDb.connect(url, { connectWithinMs: 500 }))).toMatchObject({
      name: 'LogUnavailable',
      message: expect.stringContaining('has not answered within 300 ms'),
    });
    expect(performance.now() - started).toBeLessThan(5_000);
    await proxy.close();
  });

  it('waits for a server that is about to start', async () => {
    const port = await freePort();
    const connecting = EventStoreDb.connect(`esdb://127.0.0.1:${port}?tls=false`, { connectWithinMs: 30_000 });
    const late = await startEventStore({ port });
    await (await connecting).close();
    await late.stop();
  });

  it('goes to the leader that a follower names', async () => {
    const follower = await startFollower(server.port);
    const troubles: Error[] = [];
    const url = `esdb://127.0.0.1:${follower.port}?tls=false`;
    const other = await EventStoreDb.connect(url, { onTrouble: (error) => troubles.push(error) });
    const stream = newStream();
    expect(await other.append(stream, 'no-stream', newEvents(1))).toMatchObject({ ok: true, revision: 0 });
    expect(await other.readStream(stream)).toHaveLength(1);
    expect(troubles).toHaveLength(1);
    await other.close();
    follower.stop();
  });
});

describe('with TLS', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let secure: EventStoreProcess;
  beforeAll(async () => {
    folder = await temporaryFolder();
    const tls = { cert: join(folder.path, 'cert.pem'), key: join(folder.path, 'key.pem') };
    await writeFile(tls.cert, LOCALHOST.cert);
    await writeFile(tls.key, LOCALHOST.key);
    secure = await startEventStore({ tls });
  });
  afterAll(async () => {
    await secure.stop();
    await folder.remove();
  });

  it('the user and password of the connection string are those of every call', async () => {
    const other = await EventStoreDb.connect(secure.url);
    const stream = newStream();
    await other.append(stream, 'no-stream', newEvents(1));
    expect(await other.readStream(stream)).toHaveLength(1);
    await other.close();
  });

  it('a wrong password is one clear error, at once', async () => {
    const started = performance.now();
    const error = await failure(EventStoreDb.connect(secure.url.replace('changeit', 'wrong-one')));
    expect(error).toMatchObject({
      message: expect.stringContaining('refuses the user and password of EVENTSTORE_URL'),
    });
    expect(String(error)).not.toContain('wrong-one');
    expect(performance.now() - started).toBeLessThan(5_000);
  });

  it('a certificate that nobody vouches for is an error', async () => {
    const url = secure.url.replace(/&?tlsCAFile=[^&]*/, '');
    const error = await failure(EventStoreDb.connect(url, { connectWithinMs: 300 }));
    expect(error).toMatchObject({ message: expect.stringMatching(/self.signed certificate|UNABLE_TO_VERIFY/i) });
  });
});

describe('an append is refused', () => {
  it.each([
    ['of no event', newStream(), []],
    ['to a stream without a name', '', newEvents(1)],
    ['to a stream with a name that is too long', 'ü'.repeat(513), newEvents(1)],
    ['to a stream of the server itself', '$settings', newEvents(1)],
    ['of an event over 32 MiB', newStream(), [newEvent({ text: 'x'.repeat(32 * 1024 * 1024) })]],
  ])('%s', async (_, stream, events) => {
    await expect(store.append(stream, 'no-stream', events)).rejects.toThrow(AppendRefused);
  });

  it('that is too large for the server, with its limit', async () => {
    const stream = newStream();
    const append = store.append(stream, 'no-stream', [newEvent({ text: 'x'.repeat(MAX_APPEND_SIZE) })]);
    await expect(append).rejects.toThrow(AppendRefused);
    await expect(append).rejects.toThrow(`at most ${MAX_APPEND_SIZE} bytes`);
    expect(await store.readStream(stream)).toEqual([]);
  });

  it('but not for how many there are at once: those wait until others are stored', async () => {
    const appends = Array.from({ length: 30 }, (_, index) => ({
      ...{ streamId: newStream(), expected: 'no-stream' as const },
      events: index % 2 === 0 ? newEvents(1) : [newEvent({ text: 'x'.repeat(4 * 1024 * 1024) })],
    }));
    for (const result of await store.appendMany(appends)) expect(result).toMatchObject({ ok: true, revision: 0 });
  });

  it('but not one that takes several messages', async () => {
    const stream = newStream();
    const events = Array.from({ length: 5 }, () => newEvent({ text: 'x'.repeat(1024 * 1024) }));
    expect(await store.append(stream, 'no-stream', events)).toMatchObject({ ok: true, revision: 4 });
    expect(idsOf(await store.readStream(stream))).toEqual(idsOf(events));
    expect(await store.append(stream, 'no-stream', events)).toMatchObject({ ok: true, idempotent: true });
  });
});

describe('reading', () => {
  it('leaves out what the server keeps for itself, and the head is an event that is given', async () => {
    const result = await store.append(newStream(), 'no-stream', newEvents(1));
    const other = await startEventStore();
    const empty = await EventStoreDb.connect(other.url);
    // The test server records its users in a new log, as the real one does.
    expect(await empty.head()).toBe(0n);
    expect(await empty.readAll(0n, 10)).toEqual([]);
    expect(await empty.readAllBackwards('end', 10)).toEqual([]);
    await empty.close();
    await other.stop();
    const [newest] = await store.readAllBackwards('end', 1);
    expect(result).toMatchObject({ position: newest?.position });
    expect(await store.head()).toBe(newest?.position);
    for (const event of await store.readAll(0n, 1_000)) expect(event.streamId).not.toMatch(/^\$/);
  });

  it('ends a page early when its events are large', async () => {
    const after = await store.head();
    for (let count = 0; count < 6; count++)
      await store.append(newStream(), 'no-stream', [newEvent({ text: 'x'.repeat(4 * 1024 * 1024) })]);
    const page = await store.readAll(after, 100);
    expect(page).toHaveLength(4);
    expect(await store.readAll(page.at(-1)?.position ?? 0n, 100)).toHaveLength(2);
  });
});

describe('a subscription', () => {
  it('takes no more from the server than it can keep, while its consumer is busy', async () => {
    const proxy = await startTcpProxy(server.port);
    const reader = await EventStoreDbReader.connect(`esdb://127.0.0.1:${proxy.port}?tls=false`);
    const prefix = `${newStream()}-`;
    const after = await store.head();
    const count = 40;
    for (let event = 0; event < count; event++)
      await store.append(`${prefix}${event}`, 'no-stream', [newEvent({ text: 'x'.repeat(1024 * 1024) })]);
    await store.append(newStream(), 'no-stream', newEvents(1));
    const before = proxy.bytesToClients;
    const stop = new AbortController();
    const subscription = reader.subscribe({ after, prefixes: [prefix], batchSize: 2, signal: stop.signal });
    const batches = subscription[Symbol.asyncIterator]();
    const first = (await batches.next()).value as SubscriptionBatch;
    // The server could have sent all of it by the time other calls over the same connection are done.
    for (let reads = 0; reads < 500; reads++) await reader.readStream('of-nothing');
    // Two batches, the 16 messages that gRPC keeps, and what is on its way.
    expect(proxy.bytesToClients - before).toBeLessThan(25 * 1024 * 1024);
    const given = [...first.events];
    while (given.length < count) given.push(...((await batches.next()).value as SubscriptionBatch).events);
    expect(given.map(({ streamId }) => streamId)).toEqual(Array.from({ length: count }, (_, n) => `${prefix}${n}`));
    stop.abort();
    await reader.close();
    await proxy.close();
  });

  it('gives each event once, says how far it is and whether it has caught up, and goes on after the server ended it', async () => {
    const stop = new AbortController();
    const event = (position: bigint, streamId = 'a-1') => ({
      ...{ kind: 'event', bytes: 100 },
      event: { ...newEvent(), streamId, revision: 0, position, created: '2026-01-01T00:00:00.000Z' },
    });
    const checkpoint = (position: bigint) => ({ kind: 'checkpoint', position });
    const calls = [
      [event(3n), event(4n, 'b-1'), event(5n)],
      [event(5n), checkpoint(7n), { kind: 'caught-up' }],
      [event(6n), checkpoint(6n), { kind: 'caught-up' }, event(9n), { kind: 'fell-behind' }],
    ];
    const opened: Buffer[] = [];
    const subscription = new Subscription(
      { after: 2n, prefixes: ['a-'], signal: stop.signal },
      {
        ...{ lookAfterMs: 1_000, stalledAfterMs: 1_000, head: async () => 100n, isAnythingAfter: async () => true },
        open: async (request) => {
          const messages = calls[opened.push(request) - 1];
          if (!messages) stop.abort();
          return { call: Object.assign(Readable.from(messages ?? []), { cancel: () => {} }), failed: () => {} };
        },
        onTrouble: () => {},
      },
    );
    const given: unknown[] = [];
    for await (const { events, position, caughtUp } of subscription.batches())
      given.push([events.map((one) => one.position), position, caughtUp]);
    expect(given).toEqual([
      [[3n, 5n], 5n, false],
      [[], 7n, true],
      [[9n], 9n, false],
    ]);
    expect(opened).toEqual([2n, 5n, 7n, 9n].map((after) => subscribeRequest(after, ['a-'])));
  });

  it('that was given nothing although there is something begins anew where it was', async () => {
    const opened: string[] = [];
    const stop = new AbortController();
    const troubles: string[] = [];
    const silent = { on: () => {}, cancel: () => {}, pause: () => {}, resume: () => {}, isPaused: () => false };
    const subscription = new Subscription(
      { after: 5n, signal: stop.signal },
      {
        ...{ lookAfterMs: 5, stalledAfterMs: 40 },
        open: async (request) => {
          opened.push(request.toString('hex'));
          if (opened.length === 3) stop.abort();
          return { call: silent, failed: (error) => troubles.push((error as Error).message) };
        },
        head: async () => 9n,
        isAnythingAfter: async (position) => position < 9n,
        onTrouble: () => {},
      },
    );
    for await (const batch of subscription.batches()) expect(batch).toBeUndefined();
    expect(opened[2]).toBe(opened[0]);
    expect(troubles).toEqual(Array(2).fill('a subscription was given nothing for 40 ms although there is something'));
  });
});

describe('closing', () => {
  it('lets appends under way end, ends subscriptions, and after it everything says that it is closed', async () => {
    const other = await EventStoreDb.connect(server.url);
    const streams = Array.from({ length: 50 }, newStream);
    const appends = Promise.all(streams.map((stream) => other.append(stream, 'no-stream', newEvents(1))));
    const subscription = (async () => {
      for await (const _ of other.subscribe({ after: 0n, signal: new AbortController().signal }));
    })();
    await other.close();
    for (const result of await appends) expect(result).toMatchObject({ ok: true });
    await subscription;
    const closed = [
      other.append(newStream(), 'no-stream', newEvents(1)),
      other.appendMany([{ streamId: newStream(), expected: 'no-stream', events: newEvents(1) }]),
      ...[
        other.readStream('a'),
        other.readLast('a'),
        other.readAll(0n, 1),
        other.readAllBackwards('end', 1),
        other.head(),
      ],
      other.subscribe({ after: 0n, signal: new AbortController().signal })[Symbol.asyncIterator]().next(),
    ];
    for (const call of closed) await expect(call).rejects.toThrow(LogUnavailable);
    await other.close();
  });
});

async function freePort(): Promise<number> {
  const listener = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => listener.once('listening', resolve));
  const address = listener.address();
  await new Promise((resolve) => listener.close(resolve));
  return typeof address === 'object' && address ? address.port : 0;
}

/** A node that does nothing itself, as a follower that is asked for what only the leader may answer. */
async function startFollower(leaderPort: number) {
  const metadata = new Metadata();
  metadata.set('exception', 'not-leader');
  metadata.set('leader-endpoint-host', '127.0.0.1');
  metadata.set('leader-endpoint-port', String(leaderPort));
  const notLeader = { code: status.NOT_FOUND, details: 'Leader info available', metadata } as unknown as ServiceError;
  const refuse = (call: { emit(event: 'error', error: ServiceError): unknown }) => call.emit('error', notLeader);
  const node = new Server();
  node.addService({ read: StreamsService.read, batchAppend: StreamsService.batchAppend } as never, {
    read: refuse,
    batchAppend: refuse,
  });
  const port = await new Promise<number>((resolve, reject) => {
    node.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { port, stop: () => node.forceShutdown() };
}
