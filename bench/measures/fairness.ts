/** `npm run bench:fairness`: what one organization's backlog costs another. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { temporaryFolder } from '../../test/support/logs.js';
import { startWebhookReceiver } from '../../test/support/peers/webhook-receiver.js';
import { startWaybill, type WaybillProcess } from '../../test/support/waybill-process.js';
import { rounded } from '../clock.js';
import { latency } from '../latency.js';
import { startReceiver } from '../receiver.js';
import { prepareLoad } from '../workload.js';
import { command, say } from './command.js';
import { requestMany } from './schedule.js';

/** How long the slow destination takes for each of its posts. */
const SLOW_MS = 250;
const CAUGHT_UP_EVENTS = 500;
/** Ten times what a backlog of 100,000 takes. */
const CATCH_UP_MS = 300_000;
const LOOK_MS = 250;

await command({
  name: 'fairness',
  about: `Measures an organization's urgent deliveries (accepted to first byte) alone, and again while another organization has a
backlog for a destination that takes ${SLOW_MS} ms for each: from when the backlog is stored and in all read models, so that what is measured
is the waiting and not the storing.`,
  options: {
    deliveries: { default: 100_000, least: 1, most: 1_000_000, says: 'backlog of the other organization' },
    rate: { default: 100, least: 1, most: 5_000, says: 'urgent deliveries each second' },
    seconds: { default: 30, least: 1, most: 3_600, says: 'how long each of the two measurements takes' },
  },
  async run({ deliveries, rate, seconds }, cleanUp) {
    const slow = await cleanUp.opened(
      startWebhookReceiver({ record: false, respond: () => ({ status: 204, delayMs: SLOW_MS }) }),
      (open) => open.close(),
    );
    const receiver = await cleanUp.opened(startReceiver(), (open) => open.close());
    const folder = await cleanUp.opened(temporaryFolder(), (made) => made.remove());
    const config = join(folder.path, 'waybill.yaml');
    // An organization has three quarters of what may be under way at most.
    await writeFile(config, JSON.stringify({ engine: { maxUnderWay: Math.max(100_000, deliveries * 2) } }));
    const waybill = await cleanUp.opened(startWaybill({ env: { WAYBILL_CONFIG: config } }), (running) =>
      running.stop(),
    );

    const urgent = async (organizationId: string) => {
      const load = { ...(await prepareLoad(waybill, receiver, organizationId)), priority: 'URGENT' } as const;
      return (await latency(load, rate, seconds)).acceptedToFirstByteMs;
    };
    await urgent('bench-warm-up');
    const alone = await urgent('bench-alone');
    say(`alone: p50 ${alone.p50} ms, p99 ${alone.p99} ms`);
    const backlog = await prepareLoad(waybill, { ...receiver, origin: new URL(slow.url).origin }, 'bench-busy');
    await requestMany(backlog, deliveries);
    await caughtUp(waybill);
    const beside = await urgent('bench-beside');
    const left = await waiting(waybill, 'bench-busy');
    say(`beside ${left} waiting ones: p50 ${beside.p50} ms, p99 ${beside.p99} ms`);
    return [
      { key: 'backlog', title: 'backlog of the other organization', value: deliveries },
      { key: 'backlogAtEnd', title: '… that was left at the end', value: left },
      { key: 'aloneP50Ms', title: 'alone: accepted to first byte, p50 ms', value: alone.p50 },
      { key: 'aloneP99Ms', title: '… p99 ms', value: alone.p99 },
      { key: 'besideP50Ms', title: 'beside the backlog: p50 ms', value: beside.p50 },
      { key: 'besideP99Ms', title: '… p99 ms', value: beside.p99 },
      {
        key: 'ratioP99',
        title: 'p99 beside / p99 alone',
        value: rounded(beside.p99 / alone.p99, 2),
        budget: 'at most 2',
      },
    ];
  },
});

async function caughtUp(waybill: WaybillProcess): Promise<void> {
  for (const deadline = Date.now() + CATCH_UP_MS; ; await delay(LOOK_MS)) {
    const { projections } = await waybill.ask<{ projections: { lagEvents: number }[] }>(
      '{ projections { lagEvents } }',
    );
    // The slow destination's outcomes go on coming.
    if (projections.every(({ lagEvents }) => lagEvents < CAUGHT_UP_EVENTS)) return;
    if (Date.now() > deadline) throw new Error(`after ${CATCH_UP_MS / 1_000} s the read models are not caught up`);
  }
}

async function waiting(waybill: WaybillProcess, organizationId: string): Promise<number> {
  const { deliveries } = await waybill.ask<{ deliveries: { totalCount: number } }>(
    'query ($filter: DeliveryFilter) { deliveries(filter: $filter, first: 1) { totalCount } }',
    { filter: { organizationId, status: ['QUEUED', 'PROCESSING'] } },
  );
  return deliveries.totalCount;
}
