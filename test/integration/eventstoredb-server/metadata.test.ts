import { type StreamMetadata, WrongExpectedVersionError } from '@eventstore/db-client';
import { describe, expect, it } from 'vitest';
import { collect, eventStoreForFile, newEvent, newEvents, newStream, revisionsOf } from './world.js';

const world = eventStoreForFile();
const read = (stream: string, options = {}) => collect(world.client.readStream(stream, options));

async function streamWith(metadata: StreamMetadata, count: number) {
  const stream = newStream();
  await world.client.setStreamMetadata(stream, metadata);
  if (count > 0) await world.client.appendToStream(stream, newEvents(count));
  return stream;
}

describe('metadata', () => {
  it.each<[string, StreamMetadata<{ turkey?: string }>]>([
    [
      'all that the server knows',
      {
        ...{ maxAge: 2, cacheControl: 15, truncateBefore: 1, maxCount: 12 },
        acl: { readRoles: ['a'], writeRoles: ['b'], deleteRoles: ['c'], metaReadRoles: ['d'], metaWriteRoles: ['e'] },
      },
    ],
    ['what only the caller knows', { maxCount: 12, turkey: '🦃' }],
  ])('is kept as it was set: %s', async (_, metadata) => {
    const stream = newStream();
    expect(await world.client.getStreamMetadata(stream)).toEqual({ streamName: stream });
    await world.client.setStreamMetadata(stream, metadata);
    expect(await world.client.getStreamMetadata(stream)).toMatchObject({ streamName: stream, metadata });
    await world.client.setStreamMetadata(stream, { maxCount: 1 });
    expect((await world.client.getStreamMetadata(stream)).metadata).toEqual({ maxCount: 1 });
  });

  it('is a stream of its own, of which only the newest event is left', async () => {
    const stream = await streamWith({ maxCount: 3 }, 0);
    await world.client.setStreamMetadata(stream, { maxCount: 4 }, { expectedRevision: 0n });
    const stale = world.client.setStreamMetadata(stream, { maxCount: 5 }, { expectedRevision: 0n });
    await expect(stale).rejects.toThrow(WrongExpectedVersionError);
    const events = await read(`$$${stream}`);
    expect(events.map(({ event }) => event)).toMatchObject([
      { type: '$metadata', revision: 1n, data: { $maxCount: 4 }, isJson: true },
    ]);
  });

  it('that is not JSON says nothing', async () => {
    const stream = await streamWith({ maxCount: 1 }, 2);
    await world.client.appendToStream(`$$${stream}`, { ...newEvent('$metadata'), data: 'none' } as never);
    expect(await read(stream)).toHaveLength(2);
  });
});

describe('a stream with', () => {
  it('$maxCount has so many events, the newest', async () => {
    const stream = await streamWith({ maxCount: 2 }, 20);
    expect(revisionsOf(await read(stream))).toEqual([18, 19]);
    expect(revisionsOf(await read(stream, { maxCount: 1 }))).toEqual([18]);
    expect(revisionsOf(await read(stream, { direction: 'backwards', fromRevision: 'end' }))).toEqual([19, 18]);
    expect(await read(stream, { direction: 'backwards', fromRevision: 17n })).toEqual([]);
    await world.client.appendToStream(stream, newEvents(1));
    expect(revisionsOf(await read(stream))).toEqual([19, 20]);
  });

  it('$tb has the events from there on, and goes on where it was', async () => {
    const stream = await streamWith({ truncateBefore: 3 }, 5);
    expect(revisionsOf(await read(stream))).toEqual([3, 4]);
    expect(revisionsOf(await read(stream, { fromRevision: 1n, maxCount: 1 }))).toEqual([3]);
    await world.client.setStreamMetadata(stream, { truncateBefore: 50 });
    expect(await read(stream)).toEqual([]);
    const result = await world.client.appendToStream(stream, newEvents(1), { expectedRevision: 4n });
    expect(result.nextExpectedRevision).toBe(5n);
    await world.client.setStreamMetadata(stream, {});
    expect(revisionsOf(await read(stream))).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it('$maxAge has the events that are young enough', async () => {
    const stream = await streamWith({ maxAge: 3 }, 2);
    expect(revisionsOf(await read(stream))).toEqual([0, 1]);
    await expect.poll(() => read(stream), { timeout: 20_000 }).toEqual([]);
    await world.client.appendToStream(stream, newEvents(1));
    expect(revisionsOf(await read(stream))).toEqual([2]);
    expect(revisionsOf(await read(stream, { direction: 'backwards', fromRevision: 'end' }))).toEqual([2]);
    await world.client.setStreamMetadata(stream, { maxAge: 3_600 });
    expect(revisionsOf(await read(stream))).toEqual([0, 1, 2]);
  });

  it('metadata but no events exists to those who expect it to, and is not found by readers', async () => {
    const stream = await streamWith({ maxCount: 3 }, 0);
    await expect(read(stream)).rejects.toThrow('not found');
    await world.client.appendToStream(stream, newEvents(1), { expectedRevision: 'stream_exists' });
    expect(revisionsOf(await read(stream))).toEqual([0]);
  });
});
