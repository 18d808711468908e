/** `npm run simulate`: the engine in virtual time, seed by seed. See HELP in args.ts. */
import { SingleBar } from 'cli-progress';
import { HELP, parse, type SimulateOptions, UsageError } from './args.js';
import { planOf } from './plan.js';
import { type BrokenSeed, brokenSeed, describeBroken, describeResult, type SimulateResult } from './report.js';
import { shortest } from './shrink.js';
import { type Outcome, Simulation } from './simulation.js';

try {
  const options = parse(process.argv.slice(2));
  if (options) await simulate(options);
  else process.stdout.write(HELP);
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  process.stderr.write(`${error.message}. --help shows the options.\n`);
  process.exitCode = 2;
}

async function simulate(options: SimulateOptions): Promise<void> {
  const { seed: first, seeds, steps, keepGoing, json } = options;
  const bar = process.stderr.isTTY && seeds > 1 ? startBar(seeds) : undefined;
  const say = (text: string) => void (json || process.stdout.write(text));
  const startedAt = performance.now();
  const broken: BrokenSeed[] = [];
  const counts = new Map<string, number>();
  let [done, virtualMs] = [0, 0];
  for (let seed = first; seed < first + seeds; seed++) {
    const outcome = await new Simulation(planOf(seed, steps)).run();
    done++;
    virtualMs += outcome.virtualMs;
    for (const [what, count] of outcome.counts) counts.set(what, (counts.get(what) ?? 0) + count);
    if (options.history) say(`${outcome.history().join('\n')}\n`);
    if (outcome.violation) {
      const shown = await examined(outcome, options);
      broken.push(shown);
      bar?.stop();
      say(describeBroken(shown, steps));
      if (!keepGoing) break;
      bar?.start(seeds, done, { broken: broken.length });
    }
    bar?.update(done, { broken: broken.length });
  }
  bar?.stop();
  const seconds = (performance.now() - startedAt) / 1_000;
  const result: SimulateResult = {
    seeds: { from: first, count: seeds, done },
    ...{ steps, seconds, broken },
    seedsPerSecond: done / seconds,
    virtualHours: virtualMs / 3_600_000,
    counts: Object.fromEntries([...counts].sort(([one], [other]) => (one < other ? -1 : 1))),
  };
  process.stdout.write(json ? `${JSON.stringify(result, null, 2)}\n` : describeResult(result));
  if (broken.length > 0) process.exitCode = 1;
}

async function examined(outcome: Outcome, { steps, shrink }: SimulateOptions): Promise<BrokenSeed> {
  const plan = planOf(outcome.seed, steps);
  const best = shrink ? await shortest(plan, outcome) : { plan, outcome };
  if (!best.outcome.violation) throw new Error('a shorter history that breaks nothing');
  return brokenSeed(outcome.seed, best.outcome.violation, best.plan, best.outcome.history());
}

function startBar(seeds: number): SingleBar {
  const format = '{bar} {percentage}% {value}/{total} seeds, {broken} broken, {eta_formatted} left';
  const bar = new SingleBar({ format, stream: process.stderr, etaBuffer: 200 });
  bar.start(seeds, 0, { broken: 0 });
  return bar;
}
