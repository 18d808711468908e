import { describe, expect, it } from 'vitest';
import { DEFAULT_STEPS } from './args.js';
import { planOf } from './plan.js';
import { KNOWN_BUGS } from './planted-bugs.js';
import { shortest } from './shrink.js';
import { type Outcome, Simulation } from './simulation.js';

/** Each kind is found within so many seeds. */
const SEEDS = 40;

async function found(bug: (typeof KNOWN_BUGS)[number]): Promise<Outcome | undefined> {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const outcome = await new Simulation(planOf(seed, DEFAULT_STEPS), bug).run();
    if (outcome.violation) return outcome;
  }
  return undefined;
}

describe('a defect is found', () => {
  for (const bug of KNOWN_BUGS)
    it(bug.name, { timeout: 60_000 }, async () => {
      const outcome = await found(bug);
      expect(bug.breaks).toContain(outcome?.violation?.rule);
    });
});

it('a broken seed is brought down to what it takes', { timeout: 60_000 }, async () => {
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
