import type { ProjectionStatus } from '../projections/runner/host.js';
import type { Rebuild } from '../projections/runner/member.js';

/** GraphQL's Int ends there; the contract has it for numbers of events. */
const MOST = 2 ** 31 - 1;
const int = (count: number): number => Math.min(count, MOST);

/** Numbers of events beyond Int are shown as the largest Int, and in full beside it. */
export const presentRebuild = (rebuild: Rebuild) => ({
  ...rebuild,
  processed: int(rebuild.processed),
  total: int(rebuild.total),
  exactProcessed: rebuild.processed,
  exactTotal: rebuild.total,
});

export const presentStatus = (status: ProjectionStatus) => ({
  ...status,
  lagEvents: int(status.lagEvents),
  exactLagEvents: status.lagEvents,
  rebuild: status.rebuild && presentRebuild(status.rebuild),
});
