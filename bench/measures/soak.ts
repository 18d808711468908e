/** `npm run bench:soak`: whether memory stays flat under load that goes on. */
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startWaybill } from '../../test/support/waybill-process.js';
import { rounded } from '../clock.js';
import { startReceiver } from '../receiver.js';
import { prepareLoad } from '../workload.js';
import { command, say } from './command.js';
import { MemoryWatch, slope } from './memory.js';
import { requestMany } from './schedule.js';

const TELL_EVERY_S = 30;
const PATIENCE_MS = 120_000;

await command({
  name: 'soak',
  about: `Requests deliveries at a steady rate, each one HTTP POST, and looks at the memory of the server once a second: all that is
resident, what is its own, and the heap of each of its threads. The slopes are of what comes after the warm-up.`,
  options: {
    seconds: { default: 600, least: 10, most: 86_400, says: 'how long' },
    rate: { default: 1_000, least: 1, most: 10_000, says: 'deliveries requested each second' },
    warmup: { default: 120, least: 0, most: 3_600, says: 'seconds that the slopes leave out' },
  },
  async run({ seconds, rate, warmup }, cleanUp) {
    const folder = await cleanUp.opened(mkdtemp(join(tmpdir(), 'waybill-heaps-')), (made) =>
      rm(made, { recursive: true, force: true }),
    );
    const receiver = await cleanUp.opened(startReceiver(), (open) => open.close());
    const probe = new URL('heap-probe.mjs', import.meta.url).href;
    const waybill = await cleanUp.opened(
      startWaybill({ nodeOptions: ['--import', probe], env: { HEAP_PROBE: folder } }),
      (running) => running.stop(),
    );
    const load = await prepareLoad(waybill, receiver, 'bench-soak');
    const memory = new MemoryWatch(waybill.pid);
    const heaps = new Map<string, [at: number, mib: number][]>();

    const startedAt = performance.now();
    const elapsed = () => (performance.now() - startedAt) / 1_000;
    let requested = 0;
    for (let second = 0; second < seconds; second++) {
      const batch = requestMany(load, rate);
      await delay(Math.max(0, (second + 1 - elapsed()) * 1_000));
      await batch; // one that cannot keep up is asked for less, and the rate that was reached is told
      requested += rate;
      for (const thread of readdirSync(folder)) {
        const points = heaps.get(thread) ?? [];
        heaps.set(thread, points);
        const mib = Number(readFileSync(join(folder, thread), 'utf8'));
        if (mib > 0) points.push([elapsed(), mib]);
      }
      if ((second + 1) % TELL_EVERY_S === 0) {
        const last = memory.samples.at(-1);
        const each = [...heaps]
          .map(([thread, points]) => `${thread} ${Math.round(points.at(-1)?.[1] ?? 0)}`)
          .join(', ');
        say(`${second + 1} s: resident ${last?.rssMib}, own ${last?.ownMib} MiB; heaps: ${each} MiB`);
      }
    }
    const lasted = elapsed();
    await receiver.untilReceived(requested, PATIENCE_MS);
    memory.stop();

    const perMinute = (points: readonly (readonly [number, number])[]) =>
      rounded(60 * slope(points.filter(([at]) => at >= Math.min(warmup, lasted / 2))), 2);
    const series = (of: 'rssMib' | 'ownMib') => memory.samples.map((sample) => [sample.at, sample[of]] as const);
    return [
      { key: 'deliveries', title: 'deliveries', value: requested },
      { key: 'perSecond', title: 'deliveries per second', value: Math.round(requested / lasted) },
      { key: 'peakRssMiB', title: 'resident at most, pages of the log included, MiB', value: memory.peak('rssMib') },
      { key: 'rssMiBPerMinute', title: '… slope, MiB a minute', value: perMinute(series('rssMib')) },
      { key: 'peakOwnMiB', title: 'own memory at most, MiB', value: memory.peak('ownMib') },
      { key: 'ownMiBPerMinute', title: '… slope, MiB a minute', value: perMinute(series('ownMib')), budget: 'flat' },
      ...[...heaps].map(([thread, points]) => ({
        key: `heapMiBPerMinute.${thread}`,
        title: `heap of ${thread}: slope, MiB a minute`,
        value: perMinute(points),
        budget: 'flat',
      })),
    ];
  },
});
