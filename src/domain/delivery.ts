import type { AttemptRef, Bounced, DeliveryEvent, DeliveryRequested, Route } from './delivery-events.js';
import { absent, type DeliveryState, evolve, type Leg, legIsOpen } from './delivery-state.js';
import { badInput, type Decision, record, reject } from './rejection.js';
import { REPORT_LIMIT, type ReportKind, unreported } from './reports.js';
import { type RetryPolicy, reactionTo, retryDelayMs } from './retry-policy.js';
import { type Channel, CONFIRMED_BY_ACCEPTANCE, type Failure, type FieldProblem, type Instant } from './vocabulary.js';

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
  | {
      readonly type: 'StartAttempt';
      readonly now: Instant;
      readonly leg: number;
      readonly provider: string;
      readonly providerReason?: string;
    }
  | {
      readonly type: 'RecordOutcome';
      readonly now: Instant;
      readonly attempt: AttemptRef;
      readonly outcome: AttemptOutcome;
      readonly policy: RetryPolicy;
      readonly random: number;
      readonly failover?: Failover;
    }
  /** The leg's current route cannot be used for now, and the leg has another one. */
  | {
      readonly type: 'TakeDetour';
      readonly now: Instant;
      readonly leg: number;
      readonly route: number;
      readonly failure: Failure;
    }
  | {
      readonly type: 'DeclareInDoubt';
      readonly now: Instant;
      readonly leg: number;
      readonly resolution: 'resend' | 'hold';
      /** The attempt that is meant; any that is under way when it is left out. */
      readonly attempt?: number;
      readonly lookup?: 'not-found' | 'unknown';
    }
  | {
      readonly type: 'ResolveAttempt';
      readonly now: Instant;
      readonly leg: number;
      readonly attempt: number;
      readonly outcome: 'sent' | 'not-sent';
      readonly by: string;
      readonly note?: string;
    }
  | RecordReport
  | { readonly type: 'Expire'; readonly now: Instant }
  | { readonly type: 'Cancel'; readonly now: Instant; readonly by: string; readonly reason?: string }
  | { readonly type: 'Retry'; readonly now: Instant; readonly by: string };

/** A provider says what became of a message it had accepted. */
export interface RecordReport {
  readonly type: 'RecordReport';
  readonly now: Instant;
  readonly kind: ReportKind;
  readonly leg: number;
  /** The leg's current one when it is left out. */
  readonly round?: number;
  /** Whose configuration the message was sent with, or which address it went to: that tells the route. */
  readonly via: { readonly destinationId?: string; readonly channel: Channel; readonly address?: string };
  readonly provider: string;
  readonly reportId: string;
  readonly happenedAt: Instant;
  readonly recipient: string;
  /** Of a bounce. */
  readonly failure?: Failure;
}

/** What a failed attempt with one of several providers of a channel leads to. */
export type Failover =
  /** All of these have failed it; there is another one, which is tried at once. */
  | { readonly tag: 'next'; readonly tried: readonly string[] }
  /** There is none left, and one before has failed in a way that may pass. */
  | { readonly tag: 'again' };

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
    case 'TakeDetour':
      return takeDetour(command, state);
    case 'DeclareInDoubt':
      return declareInDoubt(command, state);
    case 'ResolveAttempt':
      return resolveAttempt(command, state);
    case 'RecordReport':
      return recordReport(command, state);
    case 'Expire':
      return expire(command.now, state);
    case 'Cancel':
      return cancel(command, state);
    case 'Retry':
      return retry(command, state);
  }
}

export const delivery = {
  category: 'delivery',
  initial: absent,
  decide,
  evolve,
  /** Who was erased gets no new key for what an attempt under way still has to say. */
  subject: (state: DeliveryState) =>
    state.tag === 'absent' || state.request.erased ? undefined : state.request.subject,
} as const;

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
export function nextAttempt(leg: Leg, provider: string, startedAt: Instant, providerReason?: string): AttemptRef {
  const route = leg.routes[leg.route];
  if (!route) throw new Error(`leg ${leg.leg} has no route ${leg.route}`);
  return {
    leg: leg.leg,
    number: leg.attempts + 1,
    route: leg.route,
    channel: route.channel,
    provider,
    ...(route.destinationId !== undefined && { destinationId: route.destinationId }),
    ...(providerReason !== undefined && { providerReason }),
    startedAt,
  };
}

const legOf = (state: Existing, number: number): Leg => {
  const leg = state.legs.find((candidate) => candidate.leg === number);
  if (!leg) throw new Error(`there is no leg ${number}`);
  return leg;
};

function startAttempt(
  { now, leg: number, provider, providerReason }: Extract<DeliveryCommand, { type: 'StartAttempt' }>,
  state: Existing,
): Result {
  const leg = legOf(state, number);
  const mayStart = state.tag === 'active' && (leg.progress.tag === 'ready' || leg.progress.tag === 'retrying');
  if (!mayStart) return reject('CONFLICT', `leg ${number} is not waiting for an attempt`);
  return record({ type: 'AttemptStarted', at: now, data: nextAttempt(leg, provider, now, providerReason) });
}

/** True when the state already holds this attempt's outcome, or a later attempt. */
const isRecorded = ({ progress, attempts }: Leg, { number }: AttemptRef): boolean =>
  progress.tag === 'attempting' || progress.tag === 'doubtful'
    ? progress.attempt.number !== number
    : attempts >= number;

function recordOutcome(
  { now, attempt, outcome, policy, random, failover }: Extract<DeliveryCommand, { type: 'RecordOutcome' }>,
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
  const { retryAfterMs } = outcome;
  // What a provider answers may repeat the address.
  const failure = state.request.erased ? { ...outcome.failure, message: '[erased]' } : outcome.failure;
  const failed: DeliveryEvent = {
    type: 'AttemptFailed',
    at: now,
    data: { failure, ...(retryAfterMs !== undefined && { retryAfterMs }), ...attempt },
  };
  // A delivery that was cancelled meanwhile keeps the truth about the attempt, but nothing follows from it.
  if (state.tag === 'ended') return record(failed);
  return record(
    failed,
    consequence(leg, attempt, failure, { now, policy, random, failover, retryAfterMs: retryAfterMs ?? 0 }),
  );
}

interface Circumstances {
  readonly now: Instant;
  readonly policy: RetryPolicy;
  readonly random: number;
  readonly failover: Failover | undefined;
  readonly retryAfterMs: number;
}

function consequence(
  leg: Leg,
  attempt: AttemptRef,
  failure: Failure,
  { now, policy, random, failover, retryAfterMs }: Circumstances,
): DeliveryEvent {
  if (failover?.tag === 'next')
    return { type: 'RetryScheduled', at: now, data: { leg: leg.leg, dueAt: now, tried: failover.tried } };
  if (reactionTo[failure.category] === 'retry' || failover?.tag === 'again') {
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

function takeDetour(
  { now, leg: number, route, failure }: Extract<DeliveryCommand, { type: 'TakeDetour' }>,
  state: Existing,
): Result {
  const leg = legOf(state, number);
  const isWaiting = leg.progress.tag === 'ready' || leg.progress.tag === 'retrying';
  if (state.tag !== 'active' || !isWaiting || leg.route !== route || route + 1 >= leg.routes.length) return record();
  return record({ type: 'FallbackChosen', at: now, data: { leg: number, route: route + 1, failure } });
}

function declareInDoubt(
  { now, leg: number, attempt, resolution, lookup }: Extract<DeliveryCommand, { type: 'DeclareInDoubt' }>,
  state: Existing,
): Result {
  const { progress } = legOf(state, number);
  if (progress.tag !== 'attempting' || (attempt ?? progress.attempt.number) !== progress.attempt.number)
    return record();
  const data = { resolution, ...(lookup !== undefined && { lookup }), ...progress.attempt };
  return record({ type: 'AttemptInDoubt', at: now, data });
}

function resolveAttempt(
  { now, leg: number, attempt, outcome, by, note }: Extract<DeliveryCommand, { type: 'ResolveAttempt' }>,
  state: Existing,
): Result {
  const leg = state.legs.find((candidate) => candidate.leg === number);
  if (!leg || attempt < 1 || attempt > leg.attempts) return reject('NOT_FOUND', 'there is no such attempt');
  const { progress, resolved } = leg;
  if (progress.tag !== 'doubtful' || progress.attempt.number !== attempt) {
    const isKnown = resolved?.attempt === attempt && (resolved.outcome === 'not-sent') === (outcome === 'not-sent');
    return isKnown ? record() : reject('CONFLICT', 'this attempt is not in doubt, or not any more');
  }
  const sent = CONFIRMED_BY_ACCEPTANCE.has(progress.attempt.channel) ? 'delivered' : 'sent';
  const data = { outcome: outcome === 'sent' ? sent : outcome, by, ...(note !== undefined && { note }) } as const;
  return record({ type: 'AttemptResolved', at: now, data: { ...data, ...progress.attempt } });
}

/** Never undone and never twice: reports come in any order, late, and more than once. */
function recordReport(command: RecordReport, state: Existing): Result {
  const { now, kind, via, provider, reportId, happenedAt, recipient, failure } = command;
  const leg = state.legs.find((candidate) => candidate.leg === command.leg);
  const route = leg ? routeOf(leg, via) : -1;
  const round = command.round ?? leg?.round ?? 0;
  if (!leg || route === -1 || round > leg.round) return reject('NOT_FOUND', 'there is no such attempt');
  const { seen, delivered } = leg.reports ?? unreported;
  if (seen.includes(reportId)) return record();
  const isCurrent = route === leg.route && round === leg.round;
  if (kind === 'Delivered' && isCurrent && delivered.includes(recipient)) return record();
  const decides = kind === 'Delivered' || kind === 'Bounced';
  if (seen.length >= (decides ? 2 * REPORT_LIMIT : REPORT_LIMIT)) return record();
  const data = { leg: leg.leg, round, route, provider, reportId, happenedAt, recipient };
  if (kind !== 'Bounced') return record({ type: kind, at: now, data });
  const bounced: Bounced = { type: 'Bounced', at: now, data: { ...data, failure: failure ?? UNEXPLAINED } };
  const after = evolve(state, bounced);
  const next = after.tag === 'absent' ? undefined : after.legs.find((candidate) => candidate.leg === leg.leg);
  const hasNext = state.tag !== 'ended' && next?.progress.tag === 'bounced' && leg.route + 1 < leg.routes.length;
  if (!hasNext || !next.failure) return record(bounced);
  const fallback = { leg: leg.leg, route: leg.route + 1, failure: next.failure };
  return record<DeliveryEvent>(bounced, { type: 'FallbackChosen', at: now, data: fallback });
}

const UNEXPLAINED: Failure = { category: 'PERMANENT', code: 'BOUNCED', message: 'the provider gives no reason' };

function routeOf(leg: Leg, { destinationId, channel, address }: RecordReport['via']): number {
  if (destinationId !== undefined) return leg.routes.findIndex((route) => route.destinationId === destinationId);
  const bare = (route: Route) => route.destinationId === undefined && route.channel === channel;
  const named = leg.routes.findIndex(
    (route) => bare(route) && address !== undefined && route.address?.toLowerCase() === address.toLowerCase(),
  );
  return named === -1 ? leg.routes.findIndex(bare) : named;
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

const RETRIABLE: ReadonlySet<string> = new Set(['failed', 'bounced', 'doubtful']);

function retry({ now, by }: Extract<DeliveryCommand, { type: 'Retry' }>, state: Existing): Result {
  if (state.tag === 'ended' && state.as !== 'FAILED')
    return reject('CONFLICT', `this delivery is ${state.as.toLowerCase()} and cannot be retried; request it again`);
  if (state.request.erased) return reject('CONFLICT', 'the data of whoever this delivery was for was erased');
  if (state.tag === 'held') return reject('CONFLICT', 'this delivery is held and was not attempted yet');
  const legs = state.legs.filter(({ progress }) => RETRIABLE.has(progress.tag));
  const chosen = state.tag === 'ended' ? state.legs.filter(legIsOpen) : legs;
  if (chosen.length === 0) return reject('CONFLICT', 'no leg of this delivery has failed');
  const round = Math.max(...state.legs.map((leg) => leg.round)) + 1;
  return record({ type: 'DeliveryRetried', at: now, data: { legs: chosen.map((leg) => leg.leg), round, by } });
}
