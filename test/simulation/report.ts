import { describePlan } from './describe.js';
import { RULES, type Violation } from './history.js';
import type { Plan } from './plan.js';

export interface BrokenSeed extends Violation {
  readonly seed: number;
  /** What was done, by the shortest plan that was found. */
  readonly plan: readonly string[];
  /** What happened then. */
  readonly history: readonly string[];
}

export interface SimulateResult {
  readonly seeds: { readonly from: number; readonly count: number; readonly done: number };
  readonly steps: number;
  readonly seconds: number;
  readonly seedsPerSecond: number;
  readonly virtualHours: number;
  /** How often each kind of event was recorded and each kind of thing was done. */
  readonly counts: Readonly<Record<string, number>>;
  readonly broken: readonly BrokenSeed[];
}

export const brokenSeed = (seed: number, violation: Violation, plan: Plan, history: readonly string[]): BrokenSeed => ({
  seed,
  ...violation,
  plan: describePlan(plan),
  history,
});

/** For people. */
export function describeBroken({ seed, rule, detail, plan, history }: BrokenSeed, steps: number): string {
  return [
    `Seed ${seed} breaks “${rule}”: ${RULES[rule]}.`,
    detail,
    '',
    'What was done, as far as it takes:',
    ...plan.map((line) => `  ${line}`),
    '',
    'What happened:',
    ...history,
    '',
    `Again: npm run simulate -- --seed ${seed} --steps ${steps}`,
    '',
  ].join('\n');
}

export function describeResult({
  seeds,
  steps,
  seconds,
  seedsPerSecond,
  virtualHours,
  broken,
}: SimulateResult): string {
  const from = seeds.count === 1 ? `Seed ${seeds.from}` : `${seeds.done} of ${seeds.count} seeds from ${seeds.from} on`;
  const kept = broken.length === 0 ? 'every invariant held' : `${broken.length} broke an invariant`;
  const rate = `${seconds.toFixed(1)} s (${seedsPerSecond.toFixed(1)} seeds/s, ${virtualHours.toFixed(1)} virtual hours)`;
  return `${from}, ${steps} steps each, in ${rate}: ${kept}.\n`;
}
