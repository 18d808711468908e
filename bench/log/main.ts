/** `npm run bench:log`: what the event log does in a second. See HELP in args.ts. */
import { execFileSync, type StdioOptions } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { CleanUp } from '../../demo/clean-up.js';
import type { EventStore } from '../../src/event-store/event-store.js';
import { UsageError } from '../args.js';
import { rounded } from '../clock.js';
import { busyPercent } from '../process-stats.js';
import { appends } from './appends.js';
import { HELP, type LogBenchOptions, parse } from './args.js';
import { newEvents, newStream } from './events.js';
import { catchUp, globalReads, live, streamReads } from './reads.js';
import { type LogBenchResult, table } from './report.js';
import { benchStore } from './stores.js';

const BATCH = 100;
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

async function benchmark(options: LogBenchOptions): Promise<void> {
  const cleanUp = new CleanUp();
  try {
    const result = await run(options, cleanUp);
    process.stdout.write(`${options.json ? JSON.stringify(result, null, 2) : table(result)}\n`);
  } catch (error) {
    if (cleanUp.isClosing) return;
    if (error instanceof UsageError) throw error;
    say(`The bench failed: ${(error as Error).message}`);
    process.exitCode = 1;
  } finally {
    await cleanUp.close();
  }
}

async function run(options: LogBenchOptions, cleanUp: CleanUp): Promise<LogBenchResult> {
  const busyPercentBefore = await busyPercent(1_000);
  if (busyPercentBefore > 10)
    say(`The machine is ${busyPercentBefore} % busy with other things: the figures will say little about the log.`);
  const bench = await cleanUp.opened(benchStore(options), (made) => made.remove());
  let store = await bench.open();
  await cleanUp.opened(Promise.resolve(), () => store.close());
  const after = await store.head();

  await appends(store, { count: 2_000, size: 1, inFlight: 64 });
  say('appends');
  const one = await appends(store, { count: 1_000, size: 1, inFlight: 1 });
  const some = await appends(store, { count: 4_000, size: 1, inFlight: 32 });
  const many = await appends(store, { count: 10_000, size: 1, inFlight: 256 });
  const filled = 17_000;
  const inBatches = await appends(store, {
    count: Math.floor(Math.min(options.events - filled, 50_000) / BATCH),
    size: BATCH,
    inFlight: 16,
  });
  await fill(store, options.events - filled - 50_000);
  const bytes = await bench.bytes();
  await store.close();

  say('reads');
  const openedAt = performance.now();
  store = await bench.open();
  await store.head();
  const openMs = performance.now() - openedAt;
  const streams = await streamReads(store, after);
  const readAllPerSecond = await globalReads(store, after, options.events);
  const catchUpPerSecond = await catchUp(store, after);
  const livePerSecond = await live(store, 20_000, 256);
  return {
    store: bench.name,
    events: options.events,
    appends: { '1': one, '32': some, '256': many, inBatchesOf100: inBatches },
    streamReads: streams,
    readAllPerSecond,
    catchUpPerSecond,
    livePerSecond,
    openMs: rounded(openMs, 1),
    ...(bytes !== undefined && { bytesPerEvent: Math.round(bytes / options.events) }),
    node: process.versions.node,
    cpus: availableParallelism(),
    busyPercentBefore,
    ...commit(),
    date: new Date().toISOString(),
  };
}

/** Nothing is measured here: it makes the log as long as it is asked to be. */
async function fill(store: EventStore, events: number): Promise<void> {
  const chunk = 50 * BATCH;
  for (let left = events; left > 0; left -= chunk) {
    const batches = Array.from({ length: Math.ceil(Math.min(left, chunk) / BATCH) }, () => newEvents(BATCH));
    await store.appendMany(
      batches.map((batch) => ({ streamId: newStream(), expected: 'no-stream' as const, events: batch })),
    );
  }
}

/** Empty outside a checkout. */
function commit(): { readonly commit?: string } {
  try {
    const stdio: StdioOptions = ['ignore', 'pipe', 'ignore'];
    return { commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8', stdio }).trim() };
  } catch {
    return {};
  }
}
