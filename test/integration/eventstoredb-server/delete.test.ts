import { StreamDeletedError, StreamNotFoundError, WrongExpectedVersionError } from '@eventstore/db-client';
import { describe, expect, it } from 'vitest';
import { bothAppends, collect, eventStoreForFile, idsOf, newEvents, newStream, revisionsOf } from './world.js';

const world = eventStoreForFile();
const read = (stream: string) => collect(world.client.readStream(stream));
const readMetadata = async (stream: string) => (await world.client.getStreamMetadata(stream)).metadata;

async function appended(count: number, stream = newStream()) {
  await world.client.appendToStream(stream, newEvents(count));
  return stream;
}

describe.each([
  ['deletes', 'deleteStream', StreamNotFoundError],
  ['tombstones', 'tombstoneStream', StreamDeletedError],
] as const)('%s', (_, remove, gone) => {
  it.each(['any', 3n] as const)('a stream that is where it is expected: %s', async (expectedRevision) => {
    const stream = await appended(4);
    const { position } = await world.client[remove](stream, { expectedRevision });
    expect(position?.commit).toBe(position?.prepare);
    await expect(read(stream)).rejects.toThrow(gone);
    const [last] = await collect(world.client.readAll({ direction: 'backwards', fromPosition: 'end', maxCount: 1 }));
    expect(last?.event?.position).toEqual(position);
  });

  it.each([
    ['a revision before', 2n],
    ['a revision beyond', 4n],
    ['no stream', 'no_stream'],
  ] as const)('nothing where it is not: %s', async (_, expectedRevision) => {
    const stream = await appended(4);
    const error = await world.client[remove](stream, { expectedRevision }).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(WrongExpectedVersionError);
    expect(error).toMatchObject({
      streamName: stream,
      expectedVersion: expectedRevision === 'no_stream' ? -1n : expectedRevision,
      actualVersion: 3n,
    });
    expect(await read(stream)).toHaveLength(4);
  });

  it('nothing that is tombstoned', async () => {
    const stream = await appended(1);
    await world.client.tombstoneStream(stream);
    await expect(world.client[remove](stream)).rejects.toThrow(StreamDeletedError);
  });
});

describe('a tombstone', () => {
  it('can be where there was no stream, and nothing comes after it', async () => {
    const stream = newStream();
    await world.client.tombstoneStream(stream, { expectedRevision: 'no_stream' });
    await expect(read(stream)).rejects.toThrow(StreamDeletedError);
    await expect(appended(1, stream)).rejects.toThrow(StreamDeletedError);
    await world.server.restart();
    await expect(read(stream)).rejects.toThrow(StreamDeletedError);
    await expect(appended(1, stream)).rejects.toThrow(StreamDeletedError);
  });
});

describe('a deletion', () => {
  it.each(['any', 'no_stream'] as const)('of a stream that is not there is refused: %s', async (expectedRevision) => {
    const error = await world.client.deleteStream(newStream(), { expectedRevision }).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(WrongExpectedVersionError);
    expect(error).toMatchObject({ actualVersion: -1n });
  });

  it('of a stream that only has metadata is none of a stream that is not there', async () => {
    const stream = newStream();
    await world.client.setStreamMetadata(stream, { cacheControl: 10 });
    await world.client.deleteStream(stream, { expectedRevision: 'no_stream' });
    await expect(read(stream)).rejects.toThrow(StreamNotFoundError);
  });

  it('leaves the events in $all', async () => {
    const stream = await appended(2);
    await world.client.deleteStream(stream);
    const all = await collect(world.client.readAll());
    expect(all.filter(({ event }) => event?.streamId === stream)).toHaveLength(2);
  });

  describe.each(bothAppends)('is over with the next append (%s)', (_, options) => {
    it.each(['any', 'no_stream', 3n] as const)('that expects %s: the stream goes on', async (expectedRevision) => {
      const stream = await appended(4);
      await world.client.setStreamMetadata(stream, { cacheControl: 10 });
      await world.client.deleteStream(stream);
      const events = newEvents(2);
      const result = await world.client.appendToStream(stream, events, { ...options, expectedRevision });
      expect(result.nextExpectedRevision).toBe(5n);
      expect(idsOf(await read(stream))).toEqual(events.map(({ id }) => id));
      expect(revisionsOf(await read(stream))).toEqual([4, 5]);
      expect(await readMetadata(stream)).toEqual({ truncateBefore: 4 });
      const again = world.client.appendToStream(stream, newEvents(1), { ...options, expectedRevision: 'no_stream' });
      await expect(again).rejects.toThrow(WrongExpectedVersionError);
      await world.server.restart();
      expect(revisionsOf(await read(stream))).toEqual([4, 5]);
    });

    it('but not with one that expects that the stream exists, or where it is not', async () => {
      const stream = await appended(4);
      await world.client.deleteStream(stream);
      const append = (expectedRevision: 'stream_exists' | bigint) =>
        world.client.appendToStream(stream, newEvents(1), { ...options, expectedRevision });
      await expect(append('stream_exists')).rejects.toThrow(StreamDeletedError);
      await expect(append(2n)).rejects.toThrow(WrongExpectedVersionError);
      await expect(read(stream)).rejects.toThrow(StreamNotFoundError);
    });

    it('that is one of many rivals', async () => {
      const stream = await appended(2);
      await world.client.deleteStream(stream);
      const rivals = Array.from({ length: 10 }, () =>
        world.client.appendToStream(stream, newEvents(1), { ...options, expectedRevision: 'no_stream' }),
      );
      const results = await Promise.allSettled(rivals);
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      expect(revisionsOf(await read(stream))).toEqual([2]);
    });
  });

  it('is over when metadata is set: the stream is empty, and goes on', async () => {
    const stream = await appended(3);
    await world.client.deleteStream(stream);
    await world.client.setStreamMetadata(stream, { maxCount: 100 });
    expect(await readMetadata(stream)).toEqual({ maxCount: 100, truncateBefore: 3 });
    expect(await read(stream)).toEqual([]);
    await appended(1, stream);
    expect(revisionsOf(await read(stream))).toEqual([3]);
  });

  it('can be repeated', async () => {
    const stream = await appended(1);
    await world.client.deleteStream(stream);
    await world.client.deleteStream(stream);
    await expect(read(stream)).rejects.toThrow(StreamNotFoundError);
  });
});
