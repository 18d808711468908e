import { ERASED } from '../commands/deliveries.js';
import type { DeliveryCommand } from '../domain/delivery-commands.js';
import type { DeliveryState, Leg } from '../domain/delivery-state.js';
import { deliveryStatus, isClosed } from '../domain/delivery-status.js';
import type { Failure, Instant } from '../domain/vocabulary.js';

/** What one delivery calls for, seen at one moment. Data only: the engine does it, and a replay does not. */
export interface Reaction {
  /** Decisions whose time has come. */
  readonly commands: readonly DeliveryCommand[];
  /** Legs to attempt now. */
  readonly attempts: readonly Leg[];
  /** When to look again, if nothing happens before. */
  readonly wakeAt?: Instant;
  /** Deliveries whose end this one waits for. */
  readonly awaits: readonly string[];
}

const nothing: Reaction = { commands: [], attempts: [], awaits: [] };

/** True once nothing more will happen by itself and nothing is left to be found out. */
export const isOver = (state: DeliveryState): boolean => isClosed(state) && !isAttempting(state);

/** Whether it has an attempt without an outcome. */
export const isAttempting = (state: DeliveryState): boolean =>
  state.tag !== 'absent' && state.legs.some(({ progress }) => progress.tag === 'attempting');

/**
 * The process manager of a delivery. It looks at the state, not at the last event, so that after a crash, a take-over
 * or a lost message the same state leads to the same reaction.
 *
 * @param isBusy legs with an attempt under way in this process
 */
export function react(state: DeliveryState, now: Instant, isBusy: (leg: number) => boolean): Reaction {
  if (state.tag === 'absent' || isClosed(state)) return nothing;
  const { expiresAt } = state.request;
  const times: Instant[] = [];
  const commands: DeliveryCommand[] = [];
  const at = (time: Instant | undefined, command: DeliveryCommand) => {
    if (time === undefined) return;
    if (time <= now) commands.push(command);
    else times.push(time);
  };

  const isUnderWay = state.legs.some((leg) => isBusy(leg.leg) || leg.progress.tag === 'attempting');
  at(expiresAt, { type: 'Expire', now });
  // What is on its way is not declared expired before it has arrived; nothing more is started meanwhile.
  if (commands.length > 0) return { commands: isUnderWay ? [] : commands, attempts: [], awaits: [] };

  // What it was to say cannot be read any more, by anybody.
  if (state.request.erased)
    return {
      commands: isUnderWay ? [] : [{ type: 'Cancel', now, by: 'waybill', reason: ERASED }],
      attempts: [],
      awaits: [],
    };

  if (state.tag === 'held') {
    at(state.holds.schedule, { type: 'ReachSchedule', now });
    at(state.holds.approval?.deadline, { type: 'TimeOutApproval', now });
    return { commands, attempts: [], awaits: state.holds.dependencies, ...earliest(times) };
  }

  const attempts: Leg[] = [];
  for (const leg of state.legs) {
    if (isBusy(leg.leg)) continue;
    if (leg.progress.tag === 'ready') attempts.push(leg);
    if (leg.progress.tag === 'retrying') {
      if (leg.progress.dueAt <= now) attempts.push(leg);
      else times.push(leg.progress.dueAt);
    }
  }
  return { commands, attempts, awaits: [], ...earliest(times) };
}

const earliest = (times: readonly Instant[]): { wakeAt?: Instant } => {
  const first = times.reduce<Instant | undefined>(
    (soonest, time) => (!soonest || time < soonest ? time : soonest),
    undefined,
  );
  return first === undefined ? {} : { wakeAt: first };
};

/** What the end of one delivery means for another that depends on it; undefined while it may still be delivered. */
export function dependencyOutcome(dependency: DeliveryState): { readonly failure?: Failure } | undefined {
  if (dependency.tag === 'absent') return undefined;
  if (deliveryStatus(dependency) === 'DELIVERED') return {};
  // A failed delivery can be retried by a person, so what depends on it goes on waiting, visibly.
  if (dependency.tag !== 'ended' || dependency.as === 'FAILED') return undefined;
  const message = `a delivery that this one depends on was ${dependency.as.toLowerCase()}`;
  return { failure: { category: 'PERMANENT', code: 'DEPENDENCY_FAILED', message } };
}
