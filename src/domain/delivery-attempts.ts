import type { DeliveryCommand, Existing, Failover, RecordReport, Result } from './delivery-commands.js';
import type { AttemptRef, Bounced, DeliveryEvent, Route } from './delivery-events.js';
import { evolve, type Leg } from './delivery-state.js';
import { record, reject } from './rejection.js';
import { REPORT_LIMIT, unreported } from './reports.js';
import { type RetryPolicy, reactionTo, retryDelayMs } from './retry-policy.js';
import { CONFIRMED_BY_ACCEPTANCE, type Failure, type Instant } from './vocabulary.js';

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

export function startAttempt(
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

export function recordOutcome(
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
  const { failure } = outcome;
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

export function takeDetour(
  { now, leg: number, route, failure }: Extract<DeliveryCommand, { type: 'TakeDetour' }>,
  state: Existing,
): Result {
  const leg = legOf(state, number);
  const isWaiting = leg.progress.tag === 'ready' || leg.progress.tag === 'retrying';
  if (state.tag !== 'active' || !isWaiting || leg.route !== route || route + 1 >= leg.routes.length) return record();
  return record({ type: 'FallbackChosen', at: now, data: { leg: number, route: route + 1, failure } });
}

export function declareInDoubt(
  { now, leg: number, attempt, resolution, lookup }: Extract<DeliveryCommand, { type: 'DeclareInDoubt' }>,
  state: Existing,
): Result {
  const { progress } = legOf(state, number);
  if (progress.tag !== 'attempting' || (attempt ?? progress.attempt.number) !== progress.attempt.number)
    return record();
  const data = { resolution, ...(lookup !== undefined && { lookup }), ...progress.attempt };
  return record({ type: 'AttemptInDoubt', at: now, data });
}

export function resolveAttempt(
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
export function recordReport(command: RecordReport, state: Existing): Result {
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
