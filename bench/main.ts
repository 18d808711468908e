/** `npm run bench`: what Waybill does in a second, and how long one delivery takes. See HELP in args.ts. */
import { execFileSync, type StdioOptions } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { CleanUp } from '../demo/clean-up.js';
import { testDatabase } from '../test/support/postgres.js';
import { postgresPid, REPOSITORY, startWaybill, type WaybillProcess } from '../test/support/waybill-process.js';
import { type BenchOptions, HELP, parse, UsageError } from './args.js';
import { connectionMeter, profiledPercent } from './audit-share.js';
import { monotonicMs, rounded } from './clock.js';
import { latency } from './latency.js';
import { busyPercent, cpuMicros, familyCpuMicros, ownMemoryMib, peakRssMib, threadMicros } from './process-stats.js';
import { readProfiles } from './profiles.js';
import { rawLoop } from './raw.js';
import { startReceiver } from './receiver.js';
import { type BenchResult, table } from './report.js';
import { stagesOf } from './stages.js';
import { throughput } from './throughput.js';
import { prepareLoad } from './workload.js';

const say = (words: string) => void process.stderr.write(`${words}\n`);

try {
  const options = parse(process.argv.slice(2));
  if (options) await benchmark(options);
  else process.stdout.write(HELP);
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  say(`${error.message}. --help shows the options.`);
  process.exitCode = 2;
}

async function benchmark(options: BenchOptions): Promise<void> {
  const cleanUp = new CleanUp();
  try {
    const result = await run(options, cleanUp);
    process.stdout.write(`${options.json ? JSON.stringify(result, null, 2) : table(result)}\n`);
  } catch (error) {
    if (cleanUp.isClosing) return;
    say(`The bench failed: ${(error as Error).message}`);
    process.exitCode = 1;
  } finally {
    await cleanUp.close();
  }
}

async function run(options: BenchOptions, cleanUp: CleanUp): Promise<BenchResult> {
  const { deliveries, bulk, inFlight, outstanding, warmUp, latencyRate, latencySeconds, latencyWarmUp } = options;
  const busyPercentBefore = await busyPercent(1_000);
  if (busyPercentBefore > 10)
    say(`The machine is ${busyPercentBefore} % busy with other things: the figures will say little about Waybill.`);
  const receiver = await cleanUp.opened(startReceiver(), (open) => open.close());
  const profile =
    options.profile === ''
      ? await cleanUp.opened(mkdtemp(join(tmpdir(), 'waybill-profile-')), (folder) => rm(folder, { recursive: true }))
      : options.profile;
  const nodeOptions = profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`];
  // A database of the bench's own says which of its connections has used how much.
  const database = profile === undefined ? undefined : await cleanUp.opened(testDatabase(), (open) => open.close());
  const env = database && { DATABASE_URL: database.url };
  const waybill = await cleanUp.opened(
    startWaybill({ nodeOptions, eventStoreDb: options.eventstoredb, ...(env && { env }) }),
    (running) => running.stop(),
  );
  say(`Waybill is ready at ${waybill.url}`);

  const warming = { deliveries: warmUp, bulk, inFlight, outstanding };
  if (warmUp > 0) await throughput(await prepareLoad(waybill, receiver, 'bench-warm-up'), warming);
  if (warmUp > 0) await rawLoop(receiver, warmUp);
  const rawBefore = await rawLoop(receiver, deliveries);
  say(`bare posts: ${Math.round(rawBefore)}/s`);

  const load = await prepareLoad(waybill, receiver, 'bench-throughput');
  const connections = database && (await connectionMeter(database.url));
  const cpu = await cpuMeter(waybill);
  const threads = scriptThreads(waybill);
  const from = monotonicMs();
  const { acceptedSeconds, seconds } = await throughput(load, { deliveries, bulk, inFlight, outstanding });
  const to = monotonicMs();
  const used = cpu();
  const cpuMicros = threads();
  const usedBy = await connections?.();
  say(`deliveries: ${Math.round(deliveries / seconds)}/s`);
  const rawAfter = await rawLoop(receiver, deliveries);
  say(`bare posts: ${Math.round(rawAfter)}/s`);

  if (latencySeconds > 0) say(`latency: ${latencyRate}/s for ${latencyWarmUp} + ${latencySeconds} s`);
  const timed = async (seconds: number) =>
    seconds > 0
      ? await latency(await prepareLoad(waybill, receiver, 'bench-latency'), latencyRate, seconds)
      : undefined;
  if (latencySeconds > 0) await timed(latencyWarmUp);
  const timing = await timed(latencySeconds);

  const [peakRssMiB, ownMemoryMiB] = [peakRssMib(waybill.pid), ownMemoryMib(waybill.pid)];
  const cpuMicrosOfAll = scriptThreads(waybill, new Map())();
  // Profiles are written when it ends.
  if (profile !== undefined) await waybill.stop();
  const profiles = profile === undefined ? undefined : await readProfiles(profile);
  const rawPerSecond = (rawBefore + rawAfter) / 2;
  const each = (micros: number | undefined) => (micros === undefined ? undefined : Math.round(micros / deliveries));
  return defined({
    deliveries,
    seconds: rounded(seconds, 3),
    perSecond: Math.round(deliveries / seconds),
    acceptedSeconds: rounded(acceptedSeconds, 3),
    rawPerSecond: Math.round(rawPerSecond),
    ratio: rounded(deliveries / seconds / rawPerSecond, 3),
    latency: timing && { rate: latencyRate, seconds: latencySeconds, warmUpSeconds: latencyWarmUp, ...timing },
    cpuMicrosPerDelivery: each(used.waybill),
    postgresCpuMicrosPerDelivery: each(used.postgres),
    ...{ peakRssMiB, ownMemoryMiB },
    profile: profiles && stagesOf(profiles, { from, to, cpuMicros, deliveries }),
    audit:
      profiles && usedBy
        ? {
            profilePercent: profiledPercent(profiles, '/dist/audit/', cpuMicrosOfAll),
            postgresMicros: each(usedBy.get('waybill-audit')) ?? 0,
            postgresAllMicros: each([...usedBy.values()].reduce((sum, micros) => sum + micros, 0)) ?? 0,
          }
        : undefined,
    ...{ bulk, inFlight, warmUp },
    node: process.versions.node,
    cpus: availableParallelism(),
    busyPercentBefore,
    commit: commit(),
    date: new Date().toISOString(),
  }) as BenchResult;
}

/** @returns a function that tells how much CPU time was used since */
async function cpuMeter({ pid, dataDir }: WaybillProcess) {
  const postmaster = await postgresPid(dataDir);
  const read = () => ({
    waybill: cpuMicros(pid),
    postgres: postmaster === undefined ? undefined : familyCpuMicros(postmaster),
  });
  const before = read();
  const since = (now: number | undefined, then: number | undefined) =>
    now === undefined || then === undefined ? undefined : now - then;
  return () => {
    const now = read();
    return { waybill: since(now.waybill, before.waybill), postgres: since(now.postgres, before.postgres) };
  };
}

/**
 * @returns a function that tells how much CPU time was used since by the main thread, and by the one of the read models: the
 *   busiest of the others
 */
function scriptThreads({ pid }: WaybillProcess, before = threadMicros(pid)): () => readonly number[] {
  return () => {
    const used = [...threadMicros(pid)].map(([id, micros]) => ({ id, micros: micros - (before.get(id) ?? 0) }));
    const main = used.find(({ id }) => id === pid);
    const others = used.filter((thread) => thread !== main).map(({ micros }) => micros);
    return main ? [main.micros, Math.max(...others)] : [];
  };
}

/** Undefined outside a checkout. */
function commit(): string | undefined {
  try {
    const stdio: StdioOptions = ['ignore', 'pipe', 'ignore'];
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: REPOSITORY, encoding: 'utf8', stdio }).trim();
  } catch {
    return undefined;
  }
}

function defined(value: object): object {
  return Object.fromEntries(Object.entries(value).filter(([, inner]) => inner !== undefined));
}
