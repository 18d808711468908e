/** `npm run bench:timers`: what scheduled deliveries cost in memory, and how punctual they are. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { removeDataDir, startWaybill, type WaybillProcess } from '../../test/support/waybill-process.js';
import { percentiles, rounded, wallClockOffsetMs } from '../clock.js';
import { ownMemoryMib } from '../process-stats.js';
import { startReceiver } from '../receiver.js';
import { type Load, prepareLoad } from '../workload.js';
import { command, type Figure, say } from './command.js';
import { MemoryWatch } from './memory.js';
import { requestMany } from './schedule.js';

const DAY_MS = 86_400_000;
/** After a start: claiming, folding, loading what is due soon. */
const SETTLE_MS = 30_000;
/** With nothing to do, until the heaps of all threads are tidied. */
const REST_MS = 60_000;

await command({
  name: 'timers',
  about: `Stores deliveries that are due tomorrow and looks at the memory of the server meanwhile and after a restart; then has
others come due at a steady rate, with more of them pending, and measures from the moment each was due until its receiver
had the first byte. PostgreSQL is not part of the server process.`,
  options: {
    scheduled: { default: 1_000_000, least: 0, most: 10_000_000, says: 'deliveries that are due tomorrow' },
    pending: { default: 100_000, least: 1, most: 1_000_000, says: 'deliveries that come due one after the other' },
    lead: { default: 120, least: 1, most: 3_600, says: '… the first of them so many seconds from their request' },
    rate: { default: 500, least: 1, most: 5_000, says: '… so many each second' },
    seconds: { default: 60, least: 1, most: 3_600, says: 'how long they are watched' },
    lean: { default: 0, least: 0, most: 1, says: '1: as `npm run start:lean` starts it' },
  },
  async run({ scheduled, pending, lead, rate, seconds, lean }, cleanUp) {
    const script = lean ? 'start:lean' : 'start';
    const dataDir = await cleanUp.opened(mkdtemp(join(tmpdir(), 'waybill-timers-')), async (folder) => {
      await removeDataDir(folder);
      await rm(folder, { recursive: true, force: true });
    });
    const receiver = await cleanUp.opened(startReceiver(), (open) => open.close());
    let waybill = await startWaybill({ dataDir, script });
    await cleanUp.opened(Promise.resolve(), () => waybill.stop());
    const load = await prepareLoad(waybill, receiver, 'bench-timers');

    const storing = new MemoryWatch(waybill.pid);
    const tomorrow = Date.now() + DAY_MS;
    const startedAt = performance.now();
    await requestMany(load, scheduled, (number) => ({ scheduledAt: new Date(tomorrow + number).toISOString() }));
    const storedSeconds = (performance.now() - startedAt) / 1_000;
    await delay(5_000); // checkpoints and read models have their share of it
    storing.stop();
    say(`stored after ${Math.round(storedSeconds)} s; own memory at most ${storing.peak('ownMib')} MiB`);

    await delay(REST_MS);
    const atRest = ownMemoryMib(waybill.pid) ?? 0;
    say(`own memory ${REST_MS / 1_000} s later ${atRest} MiB`);

    await waybill.stop();
    const stoppedAt = performance.now();
    waybill = await startWaybill({ dataDir, script });
    const startSeconds = (performance.now() - stoppedAt) / 1_000;
    const started = new MemoryWatch(waybill.pid);
    await delay(SETTLE_MS);
    started.stop();
    say(`started again after ${startSeconds.toFixed(1)} s; own memory at most ${started.peak('ownMib')} MiB`);

    const late = await lateness({ ...load, waybill }, { pending, lead, rate, seconds });
    return [
      { key: 'scheduled', title: 'scheduled deliveries', value: scheduled },
      { key: 'storedPerSecond', title: 'stored per second', value: Math.round(scheduled / storedSeconds) },
      ...memory('Storing', 'while they are stored', storing),
      {
        key: 'ownAtRestMiB',
        title: `… and ${REST_MS / 1_000} s later`,
        value: atRest,
        budget: 'at most 512',
      },
      { key: 'restartSeconds', title: 'restart until it is ready, s', value: rounded(startSeconds, 2) },
      ...memory('Restarted', 'after a restart', started),
      { key: 'pending', title: 'deliveries that come due, so many pending', value: pending },
      { key: 'perSecond', title: '… so many each second', value: rate },
      { key: 'measured', title: '… measured', value: late.measured },
      { key: 'dueToFirstByteP50Ms', title: 'due to first byte at the receiver, p50 ms', value: late.p50 },
      { key: 'dueToFirstByteP99Ms', title: '… p99 ms', value: late.p99, budget: 'at most 1,000' },
      { key: 'dueToFirstByteMaxMs', title: '… longest ms', value: late.longest },
      { key: 'early', title: '… before they were due', value: late.early, budget: 'none' },
    ];
  },
});

function memory(key: string, when: string, watch: MemoryWatch): Figure[] {
  const [own, resident] = [watch.peak('ownMib'), watch.peak('rssMib')];
  return [
    { key: `own${key}MiB`, title: `own memory ${when}, at most, MiB`, value: own, budget: 'at most 512' },
    { key: `rss${key}MiB`, title: '… with pages of the log that the kernel can drop, MiB', value: resident },
  ];
}

interface Due {
  readonly pending: number;
  readonly lead: number;
  readonly rate: number;
  readonly seconds: number;
}

async function lateness(load: Load & { readonly waybill: WaybillProcess }, { pending, lead, rate, seconds }: Due) {
  const { receiver } = load;
  await receiver.forget();
  const firstDueAt = Math.ceil(Date.now() + lead * 1_000);
  const dueAt = (number: number) => firstDueAt + Math.round((number * 1_000) / rate);
  const ids = await requestMany(load, pending, (number) => ({ scheduledAt: new Date(dueAt(number)).toISOString() }));
  if (Date.now() > firstDueAt) throw new Error('the first were due before the last were stored: try a longer --lead');
  const measured = Math.min(pending, rate * seconds);
  say(`${pending} pending; the first is due in ${Math.round((firstDueAt - Date.now()) / 1_000)} s`);
  await delay(dueAt(measured) - Date.now());
  await receiver.untilReceived(measured, 60_000);
  const arrivals = await receiver.arrivals();
  const offset = wallClockOffsetMs();
  const delays = ids
    .slice(0, measured)
    .map((id, number) => (arrivals.get(`${id}_1`) ?? Number.POSITIVE_INFINITY) + offset - dueAt(number));
  const { p50, p99 } = percentiles(delays);
  return {
    ...{ measured, p50, p99 },
    longest: rounded(
      delays.reduce((most, each) => Math.max(most, each), 0),
      1,
    ),
    // A millisecond for the clocks of two processes, whose offset is taken to that precision.
    early: delays.filter((each) => each < -1).length,
  };
}
