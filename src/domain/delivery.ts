import type { AttemptRef, DeliveryEvent, DeliveryRequested } from './delivery-events.js';
import { absent, type DeliveryState, evolve, type Leg, legIsOpen } from './delivery-state.js';
import { badInput, type Decision, record, reject } from './rejection.js';
import { type RetryPolicy, reactionTo, retryDelayMs } from './retry-policy.js';
import type { Failure, FieldProblem, Instant } from './vocabulary.js';

/** What can be asked of a delivery. `now` and `random` are arguments: deciding is pure. */
export type DeliveryCommand =
  | {
      readonly type: 'RequestDelivery';
      readonly id: string;
      readonly now: Instant;
      readonly request: DeliveryRequested['data'];
    }
  | { readonly type: 'ReachSchedule'; readonly now: Instant }
  | {
      readonly type: 'ResolveDependency';
      readonly now: Instant;
      readonly deliveryId: string;
      readonly failure?: Failure;
    }
  | { readonly type: 'Approve'; readonly now: Instant; readonly approver: string; readonly comment?: string }
  | { readonly type: 'Reject'; readonly now: Instant; readonly approver: string; readonly reason: string }
  | { readonly type: 'TimeOutApproval'; readonly now: Instant }
  | { readonly type: 'StartAttempt'; readonly now: Instant; readonly leg: number; readonly provider: string }
  | {
      readonly type: 'RecordOutcome';
      readonly now: Instant;
      readonly attempt: AttemptRef;
      readonly outcome: AttemptOutcome;
      readonly policy: RetryPolicy;
      readonly random: number;
    }
  | {
      readonly type: 'DeclareInDoubt';
      readonly now: Instant;
      readonly leg: number;
      readonly resolution: 'resend' | 'hold';
    }
  | { readonly type: 'Expire'; readonly now: Instant }
  | { readonly type: 'Cancel'; readonly now: Instant; readonly by: string; readonly reason?: string }
  | { readonly type: 'Retry'; readonly now: Instant; readonly by: string };

export type AttemptOutcome =
  | {
      readonly kind: 'accepted';
      readonly providerMessageId?: string;
      readonly delivered: boolean;
      readonly warning?: string;
    }
  | { readonly kind: 'rejected'; readonly failure: Failure; readonly retryAfterMs?: number };

type Existing = Exclude<DeliveryState, { tag: 'absent' }>;
type Result = Decision<DeliveryEvent>;

export function decide(command: DeliveryCommand, state: DeliveryState): Result {
  if (command.type === 'RequestDelivery') return request(command, state);
  if (state.tag === 'absent') return reject('NOT_FOUND', 'there is no such delivery');
  switch (command.type) {
    case 'ReachSchedule':
      return reachSchedule(command.now, state);
    case 'ResolveDependency':
      return resolveDependency(command, state);
    case 'Approve':
      return approve(command, state);
    case 'Reject':
      return rejectApproval(command, state);
    case 'TimeOutApproval':
      return timeOutApproval(command.now, state);
    case 'StartAttempt':
      return startAttempt(command, state);
    case 'RecordOutcome':
      return recordOutcome(command, state);
    case 'DeclareInDoubt':
      return declareInDoubt(command, state);
    case 'Expire':
      return expire(command.now, state);
    case 'Cancel':
      return cancel(command, state);
    case 'Retry':
      return retry(command, state);
  }
}

export const delivery = { category: 'delivery', initial: absent, decide, evolve } as const;

/** Problems that depend on the clock or on the delivery's own identity; the shape was checked at intake. */
function timeProblems(id: string, request: DeliveryRequested['data'], now: Instant): FieldProblem[] {
  const problems: FieldProblem[] = [];
  const { scheduledAt, expiresAt, dependsOn = [], approval } = request;
  if (scheduledAt !== undefined && scheduledAt < now) problems.push({ path: 'scheduledAt', problem: 'is in the past' });
  if (expiresAt !== undefined && expiresAt <= now) problems.push({ path: 'expiresAt', problem: 'is in the past' });
  if (scheduledAt !== undefined && expiresAt !== undefined && expiresAt <= scheduledAt)
    problems.push({ path: 'expiresAt', problem: 'must be after scheduledAt' });
  for (const [index, dependency] of dependsOn.entries())
    if (dependency === id) problems.push({ path: `dependsOn.${index}`, problem: 'a delivery cannot depend on itself' });
  if (approval && approval.minimum > approval.approvers.length)
    problems.push({ path: 'approval.minimum', problem: 'is more than there are approvers' });
  return problems;
}

function request(command: Extract<DeliveryCommand, { type: 'RequestDelivery' }>, state: DeliveryState): Result {
  if (state.tag !== 'absent') return repeat(state, command.request.fingerprint);
  const problems = timeProblems(command.id, command.request, command.now);
  if (problems.length > 0) return badInput(problems);
  return record({ type: 'DeliveryRequested', at: command.now, data: command.request });
}

/** The key is known: the same request again changes nothing, another one is a mistake. */
export function repeat(state: Existing, fingerprint: string | undefined): Result {
  if (state.request.fingerprint === fingerprint) return record();
  const problem = 'was used before, for another request';
  return reject('IDEMPOTENCY_CONFLICT', `this idempotency key ${problem}`, [{ path: 'idempotencyKey', problem }]);
}

function reachSchedule(now: Instant, state: Existing): Result {
  if (state.tag !== 'held' || state.holds.schedule === undefined || now < state.holds.schedule) return record();
  return record({ type: 'ScheduleReached', at: now, data: {} });
}

function resolveDependency(
  { now, deliveryId, failure }: Extract<DeliveryCommand, { type: 'ResolveDependency' }>,
  state: Existing,
): Result {
  if (state.tag !== 'held' || !state.holds.dependencies.includes(deliveryId)) return record();
  if (failure) return record({ type: 'DependencyFailed', at: now, data: { deliveryId, failure } });
  return record({ type: 'DependencySatisfied', at: now, data: { deliveryId } });
}

const noDecisionOpen = () => reject('CONFLICT', 'this delivery does not wait for an approval');

function approve({ now, approver, comment }: Extract<DeliveryCommand, { type: 'Approve' }>, state: Existing): Result {
  const approval = state.tag === 'held' ? state.holds.approval : undefined;
  if (!approval) return noDecisionOpen();
  if (!approval.approvers.includes(approver)) return notAnApprover();
  if (approval.approvedBy.includes(approver)) return record();
  return record({
    type: 'ApprovalGranted',
    at: now,
    data: { approver, ...(comment !== undefined && { comment }) },
  });
}

function rejectApproval(
  { now, approver, reason }: Extract<DeliveryCommand, { type: 'Reject' }>,
  state: Existing,
): Result {
  const approval = state.tag === 'held' ? state.holds.approval : undefined;
  if (!approval) return noDecisionOpen();
  if (!approval.approvers.includes(approver)) return notAnApprover();
  return record({ type: 'ApprovalRejected', at: now, data: { approver, reason } });
}

const notAnApprover = () => reject('FORBIDDEN', 'only a named approver can decide this');

function timeOutApproval(now: Instant, state: Existing): Result {
  const deadline = state.tag === 'held' ? state.holds.approval?.deadline : undefined;
  if (deadline === undefined || now < deadline) return record();
  return record({ type: 'ApprovalTimedOut', at: now, data: {} });
}

/** The leg's next attempt, on its current route. */
export function nextAttempt(leg: Leg, provider: string, startedAt: Instant): AttemptRef {
  const route = leg.routes[leg.route];
  if (!route) throw new Error(`leg ${leg.leg} has no route ${leg.route}`);
  return {
    leg: leg.leg,
    number: leg.attempts + 1,
    route: leg.route,
    channel: route.channel,
    provider,
    ...(route.destinationId !== undefined && { destinationId: route.destinationId }),
    startedAt,
  };
}

const legOf = (state: Existing, number: number): Leg => {
  const leg = state.legs.find((candidate) => candidate.leg === number);
  if (!leg) throw new Error(`there is no leg ${number}`);
  return leg;
};

function startAttempt(
  { now, leg: number, provider }: Extract<DeliveryCommand, { type: 'StartAttempt' }>,
  state: Existing,
): Result {
  const leg = legOf(state, number);
  const mayStart = state.tag === 'active' && (leg.progress.tag === 'ready' || leg.progress.tag === 'retrying');
  if (!mayStart) return reject('CONFLICT', `leg ${number} is not waiting for an attempt`);
  return record({ type: 'AttemptStarted', at: now, data: nextAttempt(leg, provider, now) });
}

/** True when the state already holds this attempt's outcome, or a later attempt. */
const isRecorded = ({ progress, attempts }: Leg, { number }: AttemptRef): boolean =>
  progress.tag === 'attempting' || progress.tag === 'doubtful'
    ? progress.attempt.number !== number
    : attempts >= number;

function recordOutcome(
  { now, attempt, outcome, policy, random }: Extract<DeliveryCommand, { type: 'RecordOutcome' }>,
  state: Existing,
): Result {
  const leg = legOf(state, attempt.leg);
  if (isRecorded(leg, attempt)) return record();
  if (outcome.kind === 'accepted') {
    const { delivered, providerMessageId, warning } = outcome;
    const data = {
      delivered,
      ...(providerMessageId !== undefined && { providerMessageId }),
      ...(warning !== undefined && { warning }),
      ...attempt,
    };
    return record({ type: 'AttemptSucceeded', at: now, data });
  }
  const { failure, retryAfterMs } = outcome;
  const failed: DeliveryEvent = {
    type: 'AttemptFailed',
    at: now,
    data: { failure, ...(retryAfterMs !== undefined && { retryAfterMs }), ...attempt },
  };
  // A delivery that was cancelled meanwhile keeps the truth about the attempt, but nothing follows from it.
  if (state.tag === 'ended') return record(failed);
  return record(failed, consequence(leg, attempt, failure, { now, policy, random, retryAfterMs: retryAfterMs ?? 0 }));
}

function consequence(
  leg: Leg,
  attempt: AttemptRef,
  failure: Failure,
  { now, policy, random, retryAfterMs }: { now: Instant; policy: RetryPolicy; random: number; retryAfterMs: number },
): DeliveryEvent {
  if (reactionTo[failure.category] === 'retry') {
    const failedAttempts = attempt.number <= leg.attempts ? leg.routeAttempts : leg.routeAttempts + 1;
    const delayMs = retryDelayMs(policy, failedAttempts, random, retryAfterMs);
    if (delayMs !== undefined) {
      const dueAt = new Date(Date.parse(now) + delayMs).toISOString();
      return { type: 'RetryScheduled', at: now, data: { leg: leg.leg, dueAt } };
    }
  }
  const next = attempt.route + 1;
  if (next < leg.routes.length)
    return { type: 'FallbackChosen', at: now, data: { leg: leg.leg, route: next, failure } };
  return { type: 'LegDeadLettered', at: now, data: { leg: leg.leg, failure } };
}

function declareInDoubt(
  { now, leg: number, resolution }: Extract<DeliveryCommand, { type: 'DeclareInDoubt' }>,
  state: Existing,
): Result {
  const { progress } = legOf(state, number);
  if (progress.tag !== 'attempting') return record();
  return record({ type: 'AttemptInDoubt', at: now, data: { resolution, ...progress.attempt } });
}

function expire(now: Instant, state: Existing): Result {
  const { expiresAt } = state.request;
  const isOpen = state.tag === 'held' || state.tag === 'active';
  if (!isOpen || expiresAt === undefined || now < expiresAt) return record();
  return record({ type: 'DeliveryExpired', at: now, data: {} });
}

function cancel({ now, by, reason }: Extract<DeliveryCommand, { type: 'Cancel' }>, state: Existing): Result {
  if (state.tag === 'ended' && state.as === 'CANCELLED') return record();
  if (state.tag !== 'held' && state.tag !== 'active')
    return reject('CONFLICT', 'this delivery has ended and can no longer be cancelled');
  return record({ type: 'DeliveryCancelled', at: now, data: { by, ...(reason !== undefined && { reason }) } });
}

function retry({ now, by }: Extract<DeliveryCommand, { type: 'Retry' }>, state: Existing): Result {
  if (state.tag === 'ended' && state.as !== 'FAILED')
    return reject('CONFLICT', `this delivery is ${state.as.toLowerCase()} and cannot be retried; request it again`);
  if (state.tag === 'held') return reject('CONFLICT', 'this delivery is held and was not attempted yet');
  const legs = state.legs.filter(({ progress }) => progress.tag === 'failed' || progress.tag === 'doubtful');
  const chosen = state.tag === 'ended' ? state.legs.filter(legIsOpen) : legs;
  if (chosen.length === 0) return reject('CONFLICT', 'no leg of this delivery has failed');
  const round = Math.max(...state.legs.map((leg) => leg.round)) + 1;
  return record({ type: 'DeliveryRetried', at: now, data: { legs: chosen.map((leg) => leg.leg), round, by } });
}
