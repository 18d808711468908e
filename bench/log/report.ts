import type { Appends } from './appends.js';

/** The result of a run; also what `--json` prints. Keys may be added and never change their meaning. */
export interface LogBenchResult {
  readonly store: string;
  /** In the log when reading and opening were measured. */
  readonly events: number;
  /** By how many appends are under way at once: one event each, and 16 of 100 events each. */
  readonly appends: Readonly<Record<'1' | '32' | '256' | 'inBatchesOf100', Appends>>;
  /** Whole streams, one after the other. */
  readonly streamReads: { readonly readsPerSecond: number; readonly eventsPerSecond: number };
  /** Events in pages of 500, decoded. */
  readonly readAllPerSecond: number;
  /** Events of a subscription that starts at the beginning, until it has caught up. */
  readonly catchUpPerSecond: number;
  /** Events of a subscription at the head while 256 appends are always under way. */
  readonly livePerSecond: number;
  /** Until the log says where its head is. */
  readonly openMs: number;
  /** On disk, index and free pages included. */
  readonly bytesPerEvent?: number;
  readonly node: string;
  readonly cpus: number;
  /** Of all CPUs, in the second before the run: what else the machine was doing. */
  readonly busyPercentBefore: number;
  readonly commit?: string;
  readonly date: string;
}

/** What is to be reached on 2 cores; through the adapter, with the server among them. */
const AIMS = {
  embedded: { single: '20,000 or more', batches: '100,000 or more', reads: '150,000 or more' },
  adapter: { single: '5,500 or more', batches: '20,000 or more', reads: '15,000 or more' },
};

/** Figures beside their aims. */
export function table(result: LogBenchResult): string {
  const aims = result.store === 'embedded' ? AIMS.embedded : AIMS.adapter;
  const count = (value: number) => Math.round(value).toLocaleString('en-US');
  const { appends, streamReads, bytesPerEvent, commit } = result;
  const latency = ({ latencyMs }: Appends) => `${latencyMs.p50} / ${latencyMs.p99}`;
  const micros = ({ cpuMicros, mainThreadMicros }: Appends) => `${cpuMicros} / ${mainThreadMicros}`;
  const rows: [string, string, string?][] = [
    ['appends per second, 1 in flight', count(appends[1].perSecond)],
    ['                    32 in flight', count(appends[32].perSecond)],
    ['                    256 in flight', count(appends[256].perSecond), aims.single],
    ['latency p50 / p99 ms, 1 in flight', latency(appends[1])],
    ['                      32 in flight', latency(appends[32])],
    ['                      256 in flight', latency(appends[256])],
    ['CPU µs per append, all threads / main thread', micros(appends[256])],
    ['events per second in batches of 100', count(appends.inBatchesOf100.eventsPerSecond), aims.batches],
    ['streams read per second', count(streamReads.readsPerSecond)],
    ['events of streams read per second', count(streamReads.eventsPerSecond)],
    ['events read per second', count(result.readAllPerSecond), aims.reads],
    ['events per second, subscription catching up', count(result.catchUpPerSecond)],
    ['events per second, subscription at the head', count(result.livePerSecond)],
    ['opening, ms', count(result.openMs), 'at most 2,000 at 1,000,000 events'],
  ];
  if (bytesPerEvent !== undefined) rows.push(['bytes on disk per event', count(bytesPerEvent)]);
  const lines = rows.map(
    ([name, value, aim]) => `${name.padEnd(50)}${value.padStart(14)}${aim ? `   (aim: ${aim})` : ''}`,
  );
  const place = `${result.store}, ${count(result.events)} events, Node ${result.node}, ${result.cpus} CPUs, ${result.busyPercentBefore} % busy before${commit ? `, commit ${commit}` : ''}, ${result.date}`;
  return [...lines, '', place].join('\n');
}
