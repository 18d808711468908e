import { Buffer } from 'node:buffer';
import {
  binaryEvent,
  DeadlineExceededError,
  EventStoreDBClient,
  type EventType,
  jsonEvent,
  MaxAppendSizeExceededError,
  StreamDeletedError,
  WrongExpectedVersionError,
} from '@eventstore/db-client';
import { describe, expect, it } from 'vitest';
import {
  bothAppends,
  collect,
  eventStoreForFile,
  idsOf,
  newEvent,
  newEvents,
  newStream,
  revisionsOf,
} from './world.js';

const MAX_APPEND_SIZE = 1024 * 1024;
const world = eventStoreForFile({ maxAppendSize: MAX_APPEND_SIZE });

describe.each(bothAppends)('%s', (_, options) => {
  const append = (
    stream: string,
    events: EventType[],
    expectedRevision: 'any' | 'no_stream' | 'stream_exists' | bigint,
  ) => world.client.appendToStream(stream, events as never, { ...options, expectedRevision });
  const read = (stream: string) => collect(world.client.readStream(stream));

  it.each([
    ['any, of a new stream', 0, 'any'],
    ['any, of an old one', 2, 'any'],
    ['no_stream', 0, 'no_stream'],
    ['stream_exists', 2, 'stream_exists'],
    ['the exact revision', 2, 1n],
  ] as const)('puts events where the stream is as expected: %s', async (_, before, expected) => {
    const stream = newStream();
    const old = newEvents(before);
    if (before > 0) await append(stream, old, 'any');
    const events = newEvents(3);
    const result = await append(stream, events, expected);
    expect(result).toMatchObject({ success: true, nextExpectedRevision: BigInt(before + 2) });
    const stored = await read(stream);
    expect(idsOf(stored)).toEqual([...old, ...events].map(({ id }) => id));
    expect(stored.at(-1)?.event?.position).toEqual(result.position);
  });

  it.each([
    ['no_stream', 4, 'no_stream', 3n],
    ['stream_exists', 0, 'stream_exists', 'no_stream'],
    ['a revision before', 4, 1n, 3n],
    ['a revision beyond', 4, 4n, 3n],
    ['the largest revision', 4, 2n ** 64n - 1n, 3n],
    ['a revision of no stream', 0, 1n, 'no_stream'],
  ] as const)('refuses what is expected wrongly, and says what is there: %s', async (_, before, expected, actual) => {
    const stream = newStream();
    if (before > 0) await append(stream, newEvents(before), 'no_stream');
    const error = await append(stream, newEvents(1), expected).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(WrongExpectedVersionError);
    expect(error).toMatchObject({ streamName: stream, expectedVersion: expected, actualVersion: actual });
    if (before > 0) expect(await read(stream)).toHaveLength(before);
  });

  it('keeps data and metadata byte for byte, JSON or not', async () => {
    const stream = newStream('Grüße 🚀');
    const metadata = { text: 'Ünal ‐ 1830', nested: [null, 1.5, { a: true }] };
    const bytes = Uint8Array.from({ length: 256 }, (_, index) => 255 - index);
    const events = [
      jsonEvent({ type: 'json', data: { text: '"\\ \u0000 \u2028 🚀', number: 1.5e300 }, metadata }),
      jsonEvent({ type: 'text', data: 'CC ‐ 1830' as never }),
      binaryEvent({ type: 'binary', data: bytes, metadata }),
      binaryEvent({ type: 'empty', data: new Uint8Array(), metadata: bytes as never }),
      binaryEvent({ type: 'bom', data: Buffer.from('\ufeffhello') }),
    ];
    const before = Date.now();
    await append(stream, events, 'no_stream');
    const stored = (await read(stream)).map(({ event }) => event);
    expect(stored).toMatchObject([
      { type: 'json', isJson: true, data: events[0]?.data, metadata, streamId: stream },
      { type: 'text', isJson: true, data: 'CC ‐ 1830', metadata: undefined },
      { type: 'binary', isJson: false, data: bytes, metadata },
      { type: 'empty', isJson: false, data: new Uint8Array(), metadata: bytes },
      { type: 'bom', isJson: false, data: new Uint8Array(Buffer.from('\ufeffhello')) },
    ]);
    for (const event of stored) expect(Math.abs(Number(event?.created) - before)).toBeLessThan(10_000);
  });

  it('takes the same events at the same place once, and answers as the first time', async () => {
    const stream = newStream();
    const [first, second] = [newEvents(2), newEvents(2)];
    const results = [await append(stream, first, 'no_stream'), await append(stream, second, 1n)];
    await append(stream, newEvents(1), 'any');
    expect(await append(stream, first, 'no_stream')).toEqual(results[0]);
    expect(await append(stream, second, 1n)).toEqual(results[1]);
    for (const expected of ['any', 'stream_exists'] as const) {
      expect(await append(stream, first, expected)).toEqual(results[0]);
      expect(await append(stream, second.slice(1), expected)).toEqual(results[1]);
      expect(await append(stream, second.slice(0, 1), expected)).toMatchObject({ nextExpectedRevision: 2n });
    }
    expect(await read(stream)).toHaveLength(5);
  });

  it('refuses what is the same only in part, at another place or in another order', async () => {
    const stream = newStream();
    const events = newEvents(2);
    await append(stream, events, 'no_stream');
    for (const [other, expected] of [
      [[...events, newEvent()], 'no_stream'],
      [[...events, newEvent()], 'any'],
      [[events[0], newEvent()], 'stream_exists'],
      [[newEvent(), events[1]], 'no_stream'],
      [[events[1], events[0]], 'no_stream'],
      [events, 0n],
    ] as const)
      await expect(append(stream, [...other] as EventType[], expected)).rejects.toThrow(WrongExpectedVersionError);
    expect(await read(stream)).toHaveLength(2);
  });

  it('takes the same ids again in another stream, and where only the first of them is new', async () => {
    const [stream, other] = [newStream(), newStream()];
    const events = newEvents(2);
    await append(stream, events, 'any');
    expect(await append(other, events, 'any')).toMatchObject({ nextExpectedRevision: 1n });
    // As the real server decides: what begins with a new event is new.
    expect(await append(stream, [newEvent(), ...events], 'any')).toMatchObject({ nextExpectedRevision: 4n });
  });

  it('is idempotent when sent several times at once', async () => {
    for (const expected of ['any', 'no_stream'] as const) {
      const stream = newStream();
      const events = newEvents(3);
      const results = await Promise.all(Array.from({ length: 5 }, () => append(stream, events, expected)));
      for (const result of results) expect(result).toEqual(results[0]);
      expect(revisionsOf(await read(stream))).toEqual([0, 1, 2]);
    }
  });

  it('lets one of many rivals win each revision', async () => {
    const stream = newStream();
    for (const expected of ['no_stream', 0n, 1n] as const) {
      const results = await Promise.allSettled(
        Array.from({ length: 10 }, () => append(stream, [newEvent()], expected)),
      );
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    }
    expect(await read(stream)).toHaveLength(3);
  });

  it('takes an append of no events as a question', async () => {
    const stream = newStream();
    await append(stream, newEvents(2), 'no_stream');
    expect(await append(stream, [], 1n)).toMatchObject({ success: true, nextExpectedRevision: 1n });
    await expect(append(stream, [], 'no_stream')).rejects.toThrow(WrongExpectedVersionError);
  });

  it('refuses a tombstoned stream', async () => {
    const stream = newStream();
    await append(stream, newEvents(1), 'any');
    await world.client.tombstoneStream(stream);
    const error = await append(stream, newEvents(1), 'any').catch((error: unknown) => error);
    expect(error).toBeInstanceOf(StreamDeletedError);
    expect(error).toMatchObject({ streamName: stream });
  });

  it('refuses more than the largest size, and takes as much', async () => {
    const [stream, other] = [newStream(), newStream()];
    const error = await append(stream, newEvents(40_000), 'any').catch((error: unknown) => error);
    expect(error).toBeInstanceOf(MaxAppendSizeExceededError);
    expect(error).toMatchObject({ maxAppendSize: MAX_APPEND_SIZE });
    const data = Buffer.alloc(MAX_APPEND_SIZE - 2 * 'large'.length, 1);
    const large = (data: Uint8Array) => [binaryEvent({ type: 'large', data })];
    await append(other, large(data), 'any');
    await expect(append(stream, large(Buffer.concat([data, Buffer.of(1)])), 'any')).rejects.toThrow(
      MaxAppendSizeExceededError,
    );
    const [stored] = await read(other);
    expect(Buffer.compare(data, stored?.event?.data as unknown as Uint8Array)).toBe(0);
  });

  it('gives up what cannot be done before its deadline', async () => {
    const late = world.client.appendToStream(newStream(), newEvents(30_000), { ...options, deadline: 1 });
    await expect(late).rejects.toThrow(DeadlineExceededError);
  });

  it('refuses a stream name that the log does not take, $all among them', async () => {
    await expect(append('', newEvents(1), 'any')).rejects.toThrow();
    await expect(append('x'.repeat(2_000), newEvents(1), 'any')).rejects.toThrow();
    await expect(append('$all', newEvents(1), 'any')).rejects.toMatchObject({ type: 'access-denied' });
  });
});

describe('BatchAppend', () => {
  it('is what the client uses', async () => {
    const { capabilities } = world.client as unknown as { capabilities: Promise<{ serverVersion: string }> };
    expect((await capabilities).serverVersion).toMatch(/^24\.6\./);
  });

  it('puts an append together that comes in many parts', async () => {
    const stream = newStream();
    const events = newEvents(2_000);
    const result = await world.client.appendToStream(stream, events, { batchAppendSize: 1024 });
    expect(result.nextExpectedRevision).toBe(1_999n);
    expect(idsOf(await collect(world.client.readStream(stream)))).toEqual(events.map(({ id }) => id));
  });

  it('takes thousands at once in the order in which they were sent', async () => {
    const stream = newStream();
    const client = EventStoreDBClient.connectionString(world.server.url);
    // The call that opens the client's stream is overtaken by those that find it open.
    await client.appendToStream(newStream(), newEvent());
    const events = newEvents(5_000);
    const results = await Promise.all(events.map((event) => client.appendToStream(stream, event)));
    expect(results.map(({ nextExpectedRevision }) => Number(nextExpectedRevision))).toEqual([...events.keys()]);
    const chained = await Promise.all(
      newEvents(500).map((event, index) =>
        client.appendToStream(`${stream}-chained`, event, {
          expectedRevision: index === 0 ? 'no_stream' : BigInt(index - 1),
        }),
      ),
    );
    expect(chained.at(-1)?.nextExpectedRevision).toBe(499n);
    await client.dispose();
  });

  it('answers a wrong expectation without an error to a client that asks for it', async () => {
    const stream = newStream();
    const client = new EventStoreDBClient(
      { endpoint: `127.0.0.1:${world.server.port}`, throwOnAppendFailure: false },
      { insecure: true },
    );
    await client.appendToStream(stream, newEvents(2));
    expect(await client.appendToStream(stream, newEvents(1), { expectedRevision: 'no_stream' })).toMatchObject({
      success: false,
    });
    await client.dispose();
  });
});
