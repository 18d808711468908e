import type { AuditShare } from './audit-share.js';
import type { Latency } from './latency.js';
import { STAGES, type Stages } from './stages.js';

/** The result of a run; also what `--json` prints. Keys may be added and never change their meaning. */
export interface BenchResult {
  readonly deliveries: number;
  /** From the first request sent until every delivery was DELIVERED in the read models. */
  readonly seconds: number;
  readonly perSecond: number;
  /** Until every request was accepted. */
  readonly acceptedSeconds: number;
  /** The same posts in a bare loop, the mean of a run before and one after. */
  readonly rawPerSecond: number;
  /** perSecond / rawPerSecond */
  readonly ratio: number;
  readonly latency?: Latency & { readonly rate: number; readonly seconds: number; readonly warmUpSeconds: number };
  /** CPU time of the Waybill process in the throughput phase, for one delivery. */
  readonly cpuMicrosPerDelivery?: number;
  /** The same of PostgreSQL. */
  readonly postgresCpuMicrosPerDelivery?: number;
  /** Of the whole run, mapped pages of the log included. */
  readonly peakRssMiB?: number;
  /** At the end of the run, without what is mapped from files. */
  readonly ownMemoryMiB?: number;
  /** With --profile: what the throughput phase was spent on. */
  readonly profile?: Stages;
  /** With --profile: what of all this is the audit trail's. */
  readonly audit?: AuditShare;
  readonly bulk: number;
  readonly inFlight: number;
  readonly warmUp: number;
  readonly node: string;
  readonly cpus: number;
  /** Of all CPUs, in the second before the run: what else the machine was doing. */
  readonly busyPercentBefore: number;
  readonly commit?: string;
  readonly date: string;
}

/** Figures beside their budgets, which are for 2 cores with everything on one machine. */
export function table(result: BenchResult): string {
  const { latency, cpuMicrosPerDelivery, postgresCpuMicrosPerDelivery, peakRssMiB, ownMemoryMiB } = result;
  const { profile, audit, commit } = result;
  const count = (value: number) => Math.round(value).toLocaleString('en-US');
  const pair = ({ p50, p99 }: { p50: number; p99: number }) => `${p50} / ${p99}`;
  const rows: [string, string, string?][] = [
    ['deliveries', count(result.deliveries)],
    ['all accepted after, s', result.acceptedSeconds.toFixed(2)],
    ['all delivered and visible after, s', result.seconds.toFixed(2)],
    ['deliveries per second', count(result.perSecond), '6,000 or more; the aim is 9,600'],
    ['bare posts per second', count(result.rawPerSecond)],
    ['ratio', result.ratio.toFixed(2)],
  ];
  if (latency)
    rows.push(
      ['accepted to first byte, p50 / p99 ms', pair(latency.acceptedToFirstByteMs), 'at most 6 / 40'],
      ['request due to first byte, p50 / p99 ms', pair(latency.requestToFirstByteMs)],
      ['append to visible, p50 / p99 ms', pair(latency.appendToVisibleMs), 'at most – / 250'],
    );
  if (cpuMicrosPerDelivery !== undefined) rows.push(['CPU of Waybill per delivery, µs', count(cpuMicrosPerDelivery)]);
  if (postgresCpuMicrosPerDelivery !== undefined)
    rows.push(['CPU of PostgreSQL per delivery, µs', count(postgresCpuMicrosPerDelivery)]);
  if (audit)
    rows.push(
      ['the audit trail, of the CPU time of the profiled threads, %', String(audit.profilePercent), 'at most 5'],
      ['… and in PostgreSQL, of its CPU per delivery, µs', `${audit.postgresMicros} of ${audit.postgresAllMicros}`],
    );
  if (peakRssMiB !== undefined) rows.push(['peak memory of Waybill, mapped log included, MiB', count(peakRssMiB)]);
  if (ownMemoryMiB !== undefined) rows.push(['memory of its own at the end, MiB', count(ownMemoryMiB)]);

  const lines = rows.map(
    ([name, value, budget]) => `${name.padEnd(50)}${value.padStart(14)}${budget ? `   (budget: ${budget})` : ''}`,
  );
  const place = `Node ${result.node}, ${result.cpus} CPUs, ${result.busyPercentBefore} % busy before${commit ? `, commit ${commit}` : ''}, ${result.date}`;
  return [...lines, ...(profile ? stageLines(profile) : []), '', place].join('\n');
}

function stageLines({ stages, busyPercent }: Stages): string[] {
  const [main, ...others] = busyPercent;
  return [
    '',
    'CPU time of the profiled threads for one delivery'.padEnd(62) + 'µs'.padStart(8) + '%'.padStart(7),
    ...stages.map(
      ({ stage, micros, percent }) =>
        STAGES[stage].padEnd(62) + micros.toFixed(1).padStart(8) + percent.toFixed(1).padStart(7),
    ),
    `busy: the main thread ${main} %, ${others.length === 1 ? 'the thread' : 'the threads'} of the read models ${others.join(' and ')} %`,
  ];
}
