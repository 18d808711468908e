/** `npm run bench:rebuild`: how fast read models are made anew, and what those who use them notice of it. */
import { setTimeout as delay } from 'node:timers/promises';
import { temporaryFolder } from '../../test/support/logs.js';
import { startWaybill } from '../../test/support/waybill-process.js';
import { percentiles, rounded } from '../clock.js';
import { startReceiver } from '../receiver.js';
import { prepareLoad } from '../workload.js';
import { command, say } from './command.js';
import { fillLog } from './filled-log.js';
import { MemoryWatch } from './memory.js';
import { Cpu, described, figuresOf, type Made, rebuilt } from './rebuild-once.js';
import { Requesting, statuses, Watch } from './rebuild-watch.js';

const LOOK_MS = 100;
const PATIENCE_MS = 3_600_000;

await command({
  name: 'rebuild',
  about: `Fills an event log, rebuilds one read model after the other, then all together, while deliveries go on, and asks for a page
of deliveries all the time: no answer may be empty or changed. The events are copies of those of one real delivery, each in a stream of its own.`,
  options: {
    events: {
      default: 1_000_000,
      least: 1_000,
      most: 100_000_000,
      says: 'in the log before it begins, two a delivery',
    },
    rate: { default: 500, least: 0, most: 10_000, says: 'deliveries requested each second meanwhile' },
  },
  async run({ events, rate }, cleanUp) {
    const folder = await cleanUp.opened(temporaryFolder(), (made) => made.remove());
    const receiver = await cleanUp.opened(startReceiver(), (open) => open.close());
    await fillLog(folder.path, receiver, events);
    say(`the log has ${events} events; the read models are made for the first time`);
    let start = performance.now();
    const waybill = await cleanUp.opened(startWaybill({ dataDir: folder.path }), (running) => running.stop());
    const untilCaughtUp = async () => {
      for (const since = performance.now(); performance.now() - since < PATIENCE_MS; await delay(LOOK_MS))
        if ((await statuses(waybill)).every(({ exactLagEvents }) => exactLagEvents === 0)) return;
      throw new Error('the read models did not catch up');
    };
    await untilCaughtUp();
    const firstPerSecond = Math.round(events / ((performance.now() - start) / 1_000));
    // Also what else is new to a log that was filled behind its back is not to be measured.
    while ((await waybill.graphql('mutation { makeAuditCheckpoint { treeSize } }')).errors.length > 0)
      await delay(1_000);

    const load = await prepareLoad(waybill, receiver, 'bench-rebuild');
    const watch = await cleanUp.opened(Watch.begin(waybill), async (begun) => begun.stop());
    await delay(5_000);
    const quiet = percentiles(watch.takeQueries());
    const requesting = await cleanUp.opened(Promise.resolve(new Requesting(load, rate)), (begun) => begun.stop());
    const cpu = await Cpu.of(waybill);
    await delay(5_000);
    cpu.restIsBeside();
    const busy = percentiles(watch.takeQueries());
    watch.takeLag();

    const memory = new MemoryWatch(waybill.pid);
    const names = (await statuses(waybill)).map(({ name }) => name);
    const rebuilds: Made[] = [];
    let total = 0;
    start = performance.now();
    for (const name of names) {
      const made = await rebuilt(waybill, cpu, [name]);
      rebuilds.push(made);
      total += made.events;
      say(`${name}: ${described(made)}`);
    }
    const seconds = (performance.now() - start) / 1_000;
    const together = await rebuilt(waybill, cpu, names);
    say(`all together: ${described(together)}`);
    const different = [...rebuilds, together].reduce((sum, made) => sum + made.different, 0);
    memory.stop();
    const during = watch.takeQueries();
    const meanwhile = percentiles(during);
    const lag = watch.takeLag();
    const requested = await requesting.stop();
    await watch.stop();
    await receiver.untilReceived(requested, PATIENCE_MS);
    return [
      { key: 'events', title: 'events in the log at first', value: events },
      { key: 'firstPerSecond', title: 'all read models for the first time, events a second', value: firstPerSecond },
      {
        key: 'perSecond',
        title: 'rebuilds one after the other, events a second',
        value: Math.round(total / seconds),
        budget: '30,000 or more',
      },
      ...rebuilds.flatMap((made) => figuresOf(made, made.names.join())),
      ...figuresOf(together, 'all together'),
      { key: 'different', title: 'rebuilds that were not equal to the live rows', value: different, budget: '0' },
      { key: 'delivered', title: 'deliveries meanwhile', value: requested },
      { key: 'maxLagSeconds', title: 'live read models: lag at most, s', value: rounded(lag.seconds, 2) },
      { key: 'maxLagEvents', title: '… in events', value: lag.events },
      { key: 'queries', title: 'queries meanwhile', value: during.length },
      { key: 'wrongAnswers', title: '… with a wrong or empty answer', value: watch.wrong, budget: '0' },
      { key: 'queryP50Ms', title: 'a page of deliveries, p50 ms', value: meanwhile.p50 },
      { key: 'queryP99Ms', title: '… p99 ms', value: meanwhile.p99, budget: 'at most 100' },
      { key: 'quietQueryP99Ms', title: '… without rebuild and deliveries', value: quiet.p99 },
      { key: 'liveQueryP99Ms', title: '… without rebuild', value: busy.p99 },
      { key: 'peakRssMiB', title: 'resident at most, pages of the log included, MiB', value: memory.peak('rssMib') },
      { key: 'peakOwnMiB', title: 'own memory at most, MiB', value: memory.peak('ownMib') },
    ];
  },
});
