/** `npm run bench:peers`: Waybill beside others at the same work. See HELP in args.ts, and README.md. */
import { execFileSync, type StdioOptions } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { CleanUp } from '../../demo/clean-up.js';
import { REPOSITORY } from '../../test/support/waybill-process.js';
import { UsageError } from '../args.js';
import { busyPercent } from '../process-stats.js';
import { rawLoop } from '../raw.js';
import { type BenchReceiver, startReceiver } from '../receiver.js';
import { HELP, type PeersOptions, parse } from './args.js';
import type { Contestant } from './contestant.js';
import { latency, throughput } from './measure.js';
import { startPeersPostgres } from './postgres.js';
import { redisVersion } from './redis.js';
import { type Measured, type PeersResult, table, withRatios } from './report.js';
import { needsPostgres, needsRedis, type Servers, start, title } from './systems.js';

/** Until the loop is compiled: its first 10,000 posts take twice as long as those after them. */
const RAW_WARM_UP = 20_000;

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

async function benchmark(options: PeersOptions): Promise<void> {
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

async function run(options: PeersOptions, cleanUp: CleanUp): Promise<PeersResult> {
  const { deliveries, warmUp, only } = options;
  const busyPercentBefore = await busyPercent(1_000);
  if (busyPercentBefore > 10)
    say(`The machine is ${busyPercentBefore} % busy with other things: the figures will say little.`);
  const receiver = await cleanUp.opened(startReceiver(), (open) => open.close());
  const servers: Servers = {
    postgres: only.some(needsPostgres)
      ? await cleanUp.opened(startPeersPostgres(), (server) => server.close())
      : undefined,
    redisVersion: only.some(needsRedis) ? await redisVersion() : undefined,
  };
  const skipped = only
    .filter((name) => needsRedis(name) && servers.redisVersion === undefined)
    .map((name) => ({ name, reason: 'there is no redis-server on the PATH' }));

  if (skipped.length === only.length) throw new Error(skipped[0]?.reason);

  const measured: Measured[] = [];
  await rawLoop(receiver, Math.min(deliveries, RAW_WARM_UP));
  for (const name of only.filter((each) => !skipped.some((one) => one.name === each))) {
    const starting = start(name, servers, receiver).then(stoppedOnce);
    const contestant = await cleanUp.opened(starting, (running) => running.stop());
    const figures = await measure(contestant, receiver, options);
    await contestant.stop();
    measured.push({ name, title: title(name, servers), ...figures });
    const { perSecond, rawPerSecond, othersPercent = 0 } = figures;
    say(`${name}: ${perSecond}/s, bare posts ${rawPerSecond}/s, ${othersPercent} % of the machine taken by others`);
  }
  const place = commit();
  return {
    ...{ deliveries, warmUp, systems: withRatios(measured), skipped },
    node: process.versions.node,
    cpus: availableParallelism(),
    busyPercentBefore,
    ...(place !== undefined && { commit: place }),
    date: new Date().toISOString(),
  };
}

async function measure(
  contestant: Contestant,
  receiver: BenchReceiver,
  { deliveries, warmUp, latencySeconds, latencyWarmUp }: PeersOptions,
): Promise<Omit<Measured, 'name' | 'title'>> {
  if (warmUp > 0) await throughput(contestant, receiver, warmUp);
  const rawBefore = await rawLoop(receiver, deliveries);
  const figures = await throughput(contestant, receiver, deliveries);
  const rawAfter = await rawLoop(receiver, deliveries);
  const rawPerSecond = Math.round((rawBefore + rawAfter) / 2);
  if (latencySeconds === 0) return { ...figures, rawPerSecond };
  if (latencyWarmUp > 0) await latency(contestant, receiver, latencyWarmUp);
  return { ...figures, rawPerSecond, latency: await latency(contestant, receiver, latencySeconds) };
}

/** It is stopped when it was measured, and by Ctrl-C at any time. */
function stoppedOnce(contestant: Contestant): Contestant {
  let stopping: Promise<void> | undefined;
  return {
    ...contestant,
    stop() {
      stopping ??= contestant.stop();
      return stopping;
    },
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
