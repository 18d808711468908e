import type { AppendResult, EventStore, ExpectedRevision } from '../../src/event-store/event-store.js';
import { type Percentiles, percentiles } from '../clock.js';
import { newEvents, newStream } from './events.js';

export interface Appends {
  readonly perSecond: number;
  readonly eventsPerSecond: number;
  readonly latencyMs: Percentiles;
  /** CPU time of this process, all threads, for one append; a server's is not in it. */
  readonly cpuMicros: number;
  /** The same of the thread that runs JavaScript alone: the share of it that is not idle. */
  readonly mainThreadMicros: number;
}

/** As many events as a delivery usually has. */
const STREAM_LENGTH = 5;

/** So many appends of so many events each, always so many of them under way. One event extends a stream, many begin one. */
export async function appends(
  store: EventStore,
  { count, size, inFlight }: { readonly count: number; readonly size: number; readonly inFlight: number },
): Promise<Appends> {
  const batches = Array.from({ length: count }, () => newEvents(size));
  const latencies: number[] = [];
  let next = 0;
  const appender = async () => {
    let streamId = newStream();
    let expected: ExpectedRevision = 'no-stream';
    for (let batch = batches[next++]; batch; batch = batches[next++]) {
      const startedAt = performance.now();
      const result: AppendResult = await store.append(streamId, expected, batch);
      latencies.push(performance.now() - startedAt);
      if (!result.ok) throw new Error(`an append was refused: the stream is at ${result.actual}`);
      expected = result.revision;
      if (size === 1 && result.revision + 1 < STREAM_LENGTH) continue;
      streamId = newStream();
      expected = 'no-stream';
    }
  };

  const startedAt = performance.now();
  const cpu = process.cpuUsage();
  const idle = performance.eventLoopUtilization();
  await Promise.all(Array.from({ length: inFlight }, appender));
  const seconds = (performance.now() - startedAt) / 1_000;
  const { user, system } = process.cpuUsage(cpu);
  const { active } = performance.eventLoopUtilization(idle);
  return {
    perSecond: Math.round(count / seconds),
    eventsPerSecond: Math.round((count * size) / seconds),
    latencyMs: percentiles(latencies),
    cpuMicros: Math.round((user + system) / count),
    mainThreadMicros: Math.round((active * 1_000) / count),
  };
}
