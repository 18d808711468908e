import type { PlantedBug } from './instance.js';
import type { Plan, PlannedStep } from './plan.js';
import { type Outcome, Simulation } from './simulation.js';

/** Runs of one search: at some 30 ms each, it ends while somebody still waits for it. */
const MOST_RUNS = 400;

/**
 * A plan that breaks the same invariant with as few steps as can be found by leaving some out, and in the calmest
 * surroundings; and what happens then.
 */
export async function shortest(
  plan: Plan,
  broken: Outcome,
  bug?: PlantedBug,
): Promise<{ readonly plan: Plan; readonly outcome: Outcome }> {
  let best = { plan, outcome: broken };
  let runs = 0;
  const isStillBroken = async (candidate: Plan): Promise<boolean> => {
    if (runs++ >= MOST_RUNS) return false;
    const outcome = await new Simulation(candidate, bug).run();
    if (outcome.violation?.rule !== broken.violation?.rule) return false;
    best = { plan: candidate, outcome };
    return true;
  };
  await isStillBroken({ ...plan, doubtful: 0 });
  for (let size = plan.steps.length; size >= 1; size = Math.floor(size / 2)) {
    let isShorter = true;
    while (isShorter) {
      isShorter = false;
      // From the end: what comes last matters least to what comes before.
      for (let end = best.plan.steps.length; end > 0; end -= size) {
        const { steps } = best.plan;
        const kept = [...steps.slice(0, Math.max(end - size, 0)), ...steps.slice(end)];
        if (await isStillBroken({ ...best.plan, steps: kept })) isShorter = true;
      }
      if (size > 1) break;
    }
  }
  for (let instances = best.plan.instances - 1; instances >= 1; instances--) {
    const steps = best.plan.steps.filter((step) => !isOf(step, instances));
    if (!(await isStillBroken({ ...best.plan, instances, steps }))) break;
  }
  return best;
}

const isOf = (step: PlannedStep, instances: number): boolean =>
  'instance' in step && step.instance !== undefined && step.instance >= instances;
