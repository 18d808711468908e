import { rounded } from '../clock.js';
import { type Figures, LATENCY_RATE, type Latency } from './measure.js';
import type { Name } from './systems.js';

/** What was measured of one system. */
export interface Measured extends Figures {
  readonly name: Name;
  readonly title: string;
  /** Posts a second of the raw loop, the mean of a run before the throughput phase and one after it. */
  readonly rawPerSecond: number;
  readonly latency?: Latency;
}

/** The result of a run; also what `--json` prints. Keys may be added and never change their meaning. */
export interface PeersResult {
  readonly deliveries: number;
  readonly warmUp: number;
  readonly systems: readonly (Measured & {
    /** perSecond / rawPerSecond */
    readonly ofRaw: number;
    /** perSecond / perSecond of Waybill, if that ran. */
    readonly ofWaybill?: number;
  })[];
  readonly skipped: readonly { readonly name: Name; readonly reason: string }[];
  readonly node: string;
  readonly cpus: number;
  /** Of all CPUs, in the second before the run: what else the machine was doing. */
  readonly busyPercentBefore: number;
  readonly commit?: string;
  readonly date: string;
}

export function withRatios(measured: readonly Measured[]): PeersResult['systems'] {
  const waybill = measured.find(({ name }) => name === 'waybill');
  return measured.map((system) => ({
    ...system,
    ofRaw: rounded(system.perSecond / system.rawPerSecond, 3),
    ...(waybill && { ofWaybill: rounded(system.perSecond / waybill.perSecond, 2) }),
  }));
}

/** As Markdown that is legible without being rendered, so that it can be shown as it is. */
export function table({ systems, skipped, ...run }: PeersResult): string {
  const count = (value: number | undefined) => (value === undefined ? '' : Math.round(value).toLocaleString('en-US'));
  const raw = systems.map(({ rawPerSecond }) => rawPerSecond);
  const rows = [
    ['system', 'deliveries/s', 'of raw', 'of Waybill', 'accepted → first byte, ms', 'CPU, µs', 'store, µs'],
    [
      'raw loop: posts, nothing stored',
      count(raw.reduce((sum, each) => sum + each, 0) / raw.length),
      '1.00',
      '',
      '',
      '',
      '',
    ],
    ...systems.map(({ title, perSecond, ofRaw, ofWaybill, latency, cpuMicros, storeCpuMicros }) => [
      title,
      count(perSecond),
      ofRaw.toFixed(2),
      ofWaybill?.toFixed(2) ?? '',
      latency ? `${latency.acceptedToFirstByteMs.p50} / ${latency.acceptedToFirstByteMs.p99}` : '',
      count(cpuMicros),
      count(storeCpuMicros),
    ]),
  ];
  const widths = (rows[0] as string[]).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] as string).length)),
  );
  const lines = rows.map((row) => {
    const cells = row.map((cell, column) => {
      const width = widths[column] as number;
      return column === 0 ? cell.padEnd(width) : cell.padStart(width);
    });
    return `| ${cells.join(' | ')} |`;
  });
  const rule = widths.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  const others = Math.max(...systems.map(({ othersPercent = 0 }) => othersPercent));
  const repeated = systems.filter((system) => system.repeated > 0);
  return [
    ...[lines[0], `| ${rule.join(' | ')} |`, ...lines.slice(1), ''],
    `${count(run.deliveries)} deliveries each; CPU time for one delivery, of the process and of PostgreSQL or Redis; p50 / p99 at ${LATENCY_RATE}/s.`,
    `The raw loop ran between them at ${count(Math.min(...raw))} to ${count(Math.max(...raw))}/s; "of raw" is of the runs next to a system.`,
    `Other processes took up to ${others} % of the machine while a system was measured.`,
    ...repeated.map(({ name, repeated: posts }) => `${name} made ${posts} posts twice.`),
    ...skipped.map(({ name, reason }) => `${name} did not run: ${reason}.`),
    `Node ${run.node}, ${run.cpus} CPUs, ${run.busyPercentBefore} % busy before${run.commit ? `, commit ${run.commit}` : ''}, ${run.date}`,
  ].join('\n');
}
