import { describe, expect, it } from 'vitest';
import { DEFAULT_STEPS } from './args.js';
import { RULES } from './history.js';
import { planOf } from './plan.js';
import { KNOWN_BUGS, type KnownBug } from './planted-bugs.js';
import { shortest } from './shrink.js';
import { type Outcome, Simulation } from './simulation.js';

/** Each kind is found within so many seeds. */
const SEEDS = 150;
/** Most take one or two seeds; the machine may have other things to do. */
const TIMEOUT_MS = 300_000;

async function found(bug: KnownBug): Promise<Outcome | undefined> {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const outcome = await new Simulation(planOf(seed, DEFAULT_STEPS), bug).run();
    if (outcome.violation) return outcome;
  }
  return undefined;
}

describe('a defect is found', () => {
  const broken = new Set<string>();

  for (const bug of KNOWN_BUGS)
    it(bug.name, { timeout: TIMEOUT_MS }, async () => {
      const { rule } = (await found(bug))?.violation ?? {};
      expect(bug.breaks).toContain(rule);
      if (rule) broken.add(rule);
    });

  it('by every invariant, so that there is none that cannot be broken', () => {
    expect([...broken].sort()).toEqual(Object.keys(RULES).sort());
  });
});

it('a broken seed is brought down to what it takes', { timeout: TIMEOUT_MS }, async () => {
  const bug = KNOWN_BUGS.find(({ name }) => name === 'each attempt has a key of its own');
  const outcome = bug && (await found(bug));
  if (!outcome) throw new Error('the bug was not found');
  const plan = planOf(outcome.seed, DEFAULT_STEPS);
  const best = await shortest(plan, outcome, bug);
  expect(best.outcome.violation?.rule).toBe(outcome.violation?.rule);
  expect(best.plan.steps.length).toBeLessThan(5);
  // And it can be had again.
  expect((await new Simulation(best.plan, bug).run()).hash).toBe(best.outcome.hash);
});
