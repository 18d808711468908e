import type { EventStore, RecordedEvent } from '../../src/event-store/event-store.js';
import { newEvents, newStream } from './events.js';

const PAGE = 500;
/** Streams are read one after the other, as a command reads the one it is about. */
const STREAM_READS = 3_000;

const perSecond = (count: number, startedAt: number) => Math.round(count / ((performance.now() - startedAt) / 1_000));

/** Reads streams of a few events each, as they come in the log after `after`. */
export async function streamReads(
  store: EventStore,
  after: bigint,
): Promise<{ readonly readsPerSecond: number; readonly eventsPerSecond: number }> {
  const streams = new Set<string>();
  for (let from = after; streams.size < STREAM_READS; ) {
    const page = await store.readAll(from, PAGE);
    if (page.length === 0) break;
    for (const { streamId } of page) streams.add(streamId);
    from = (page.at(-1) as RecordedEvent).position;
  }
  const startedAt = performance.now();
  let events = 0;
  for (const streamId of streams) events += (await store.readStream(streamId)).length;
  return { readsPerSecond: perSecond(streams.size, startedAt), eventsPerSecond: perSecond(events, startedAt) };
}

/** Reads `count` events after `after` in pages. @returns events per second */
export async function globalReads(store: EventStore, after: bigint, count: number): Promise<number> {
  const startedAt = performance.now();
  let read = 0;
  for (let from = after; read < count; ) {
    const page = await store.readAll(from, PAGE);
    if (page.length === 0) break;
    read += page.length;
    from = (page.at(-1) as RecordedEvent).position;
  }
  return perSecond(read, startedAt);
}

/** Follows the log from `after` until it has caught up. @returns events per second */
export async function catchUp(store: EventStore, after: bigint): Promise<number> {
  const stop = new AbortController();
  const startedAt = performance.now();
  let read = 0;
  for await (const { events, caughtUp } of store.subscribe({ after, signal: stop.signal })) {
    read += events.length;
    if (caughtUp) stop.abort();
  }
  return perSecond(read, startedAt);
}

/** Appends as fast as it goes and follows with a subscription. @returns events per second, from the first append to the last one seen */
export async function live(store: EventStore, count: number, inFlight: number): Promise<number> {
  const stop = new AbortController();
  const events = newEvents(count);
  let next = 0;
  const appender = async () => {
    for (let event = events[next++]; event; event = events[next++])
      await store.append(newStream(), 'no-stream', [event]);
  };
  let startedAt = 0;
  let seen = 0;
  let appending: Promise<unknown> | undefined;
  for await (const batch of store.subscribe({ after: await store.head(), signal: stop.signal })) {
    seen += batch.events.length;
    if (!appending) {
      startedAt = performance.now();
      appending = Promise.all(Array.from({ length: inFlight }, appender));
    }
    if (seen >= count) stop.abort();
  }
  const rate = perSecond(seen, startedAt);
  await appending;
  return rate;
}
