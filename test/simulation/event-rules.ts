import type { DeliveryEvent, Route } from '../../src/domain/delivery-events.js';
import { absent, type Leg } from '../../src/domain/delivery-state.js';
import { isClosed } from '../../src/domain/delivery-status.js';
import { type RetryPolicy, reactionTo } from '../../src/domain/retry-policy.js';
import { type Case, type Existing, legOf, stateOf } from './cases.js';
import type { Violation } from './history.js';
import { providersOf } from './providers.js';
import type { Scheduler } from './scheduler.js';
import type { SimulatedDatabase } from './simulated-database.js';

/** How far an instance's idea of the database's clock may be off, ms. */
export const CLOCK_TOLERANCE_MS = 250;
/** When nothing is wrong, timers fire within this, ms … */
const LATEST_MS = 1_500;
/** … as soon as all that was wrong before is over: leases have run out, and the engine has looked ahead. */
const SETTLED_AFTER_MS = 30_000;
/** Longest time from when an event was made to when it is stored: an instance is stopped, the log is slow. */
const LONGEST_STORING_MS = 150_000;

/** What people can still want of a delivery that has ended. */
const BY_PEOPLE: ReadonlySet<string> = new Set<DeliveryEvent['type']>([
  'DeliveryRetried',
  'ProcessResumed',
  'EventSkipped',
]);

export interface EventRuleParts {
  readonly scheduler: Scheduler;
  readonly database: SimulatedDatabase;
  readonly cases: ReadonlyMap<string, Case>;
  readonly policyOf: (route: Route) => RetryPolicy;
  /** Virtual time since which nothing is wrong. */
  readonly calmSinceMs: () => number | undefined;
}

type Of<Type extends DeliveryEvent['type']> = Extract<DeliveryEvent, { type: Type }>;
type Outcome = Of<'AttemptSucceeded' | 'AttemptFailed'>;
type Complaint = Violation | undefined;

const complaint = (rule: Violation['rule'], detail: string): Violation => ({ rule, detail });

/** What an event must be true to: the state it is recorded in, the clock, the policy, the provider's answers. */
export class EventRules {
  /** Calls whose answer was recorded, by what it was recorded as. */
  readonly recorded = { AttemptSucceeded: new Set<number>(), AttemptFailed: new Set<number>() };
  readonly #parts: EventRuleParts;

  constructor(parts: EventRuleParts) {
    this.#parts = parts;
  }

  /** An event that the engine has made is dated by the database's clock. */
  ofTime({ type, at }: DeliveryEvent): Complaint {
    const lateMs = this.#parts.database.nowMs - Date.parse(at);
    if (lateMs >= -CLOCK_TOLERANCE_MS && lateMs <= LONGEST_STORING_MS) return undefined;
    return complaint('times are kept', `${type} says ${at}, ${Math.round(lateMs)} ms before the database’s clock`);
  }

  /** @param previous the event before it in the same append */
  of(found: Case, before: Existing, event: DeliveryEvent, previous: DeliveryEvent | undefined): Complaint {
    const isTruth = event.type.startsWith('Attempt') && event.type !== 'AttemptStarted';
    if (isClosed(before) && !isTruth && !BY_PEOPLE.has(event.type))
      return complaint('ended is ended', `${event.type} although it has ended`);
    switch (event.type) {
      case 'AttemptStarted':
        return this.#ofStart(before, event) ?? this.#ofAttempt(found, before, event);
      case 'AttemptSucceeded':
      case 'AttemptFailed':
        return this.#ofAttempt(found, before, event) ?? this.#ofReceipt(found, event);
      case 'RetryScheduled':
        return this.#ofRetry(before, event, previous);
      case 'FallbackChosen':
      case 'LegDeadLettered':
        return this.#ofGivingUp(before, event, previous);
      case 'ScheduleReached':
        return this.#ofTimer(event.type, before.tag === 'held' ? before.holds.schedule : undefined);
      case 'ApprovalTimedOut':
        return this.#ofTimer(event.type, before.tag === 'held' ? before.holds.approval?.deadline : undefined);
      case 'DeliveryExpired':
        return this.#ofDue(event.type, before.request.expiresAt);
      case 'ApprovalGranted':
      case 'ApprovalRejected':
        return ofDecision(before, event);
      case 'DependencySatisfied':
      case 'DependencyFailed':
        return this.#ofDependency(before, event);
      default:
        return undefined;
    }
  }

  #ofStart(before: Existing, { type, data }: Of<'AttemptStarted'>): Complaint {
    const { progress } = legOf(before, data.leg) as Leg;
    if (before.tag !== 'active' || (progress.tag !== 'ready' && progress.tag !== 'retrying'))
      return complaint('call for a reason', `${type} while it is ${before.tag}, leg ${data.leg} ${progress.tag}`);
    return progress.tag === 'retrying' ? this.#ofDue(type, progress.dueAt) : undefined;
  }

  #ofAttempt(found: Case, before: Existing, { type, data }: Outcome | Of<'AttemptStarted'>): Complaint {
    const leg = legOf(before, data.leg) as Leg;
    const underWay = 'attempt' in leg.progress ? leg.progress.attempt : undefined;
    if (data.route !== (underWay?.route ?? leg.route))
      return complaint('routes in order', `${type} on route ${data.route} while it is the turn of ${leg.route}`);
    if (data.number !== (underWay?.number ?? leg.attempts + 1))
      return complaint('attempts as allowed', `${type} of attempt ${data.number} after ${leg.attempts} attempts`);
    const place = `${data.leg}/${leg.round}/${data.route}`;
    const attempts = (found.attempts.get(place) ?? new Set()).add(data.number);
    found.attempts.set(place, attempts);
    const most = this.#mostAttempts(leg.routes[data.route] as Route) + (found.wishes.get(place) ?? 0);
    if (attempts.size <= most) return undefined;
    return complaint('attempts as allowed', `${attempts.size} attempts on a route that allows ${most}`);
  }

  #ofReceipt(found: Case, event: Outcome): Complaint {
    const { leg, number, route } = event.data;
    const words = event.type === 'AttemptSucceeded' ? event.data.providerMessageId : event.data.failure.message;
    const form = event.type === 'AttemptSucceeded' ? /^call-(\d+)$/ : /^call (\d+) was /;
    const named = form.exec(words ?? '')?.[1];
    // Failures that no provider had a part in: no destination, no room.
    if (named === undefined && event.type === 'AttemptFailed') return undefined;
    const call = found.calls.find((each) => each.call.number === Number(named));
    const isOfAttempt = call?.leg === leg && call.route === route && (call.attempt ?? number) === number;
    const isTrue = isOfAttempt && (event.type === 'AttemptFailed' || call.call.isAccepted);
    const recorded = this.recorded[event.type];
    const isNew = !recorded.has(Number(named));
    recorded.add(Number(named));
    if (isTrue && isNew) return undefined;
    return complaint('receipts agree', `${event.type} of attempt ${number}, leg ${leg}, rests on "${words}"`);
  }

  #ofRetry(before: Existing, { type, at, data }: Of<'RetryScheduled'>, previous: DeliveryEvent | undefined): Complaint {
    const failed = failureBefore(data.leg, previous);
    if (!failed) return complaint('attempts as allowed', `${type} without a failed attempt`);
    const leg = legOf(before, data.leg) as Leg;
    const route = leg.routes[leg.route] as Route;
    const { maxAttempts } = this.#parts.policyOf(route);
    const { category } = failed.data.failure;
    const told = `${type} after ${category} on attempt ${leg.routeAttempts} of the route`;
    // Another provider of the channel is tried at once, and after the last of them the first one again.
    const hasChoice = this.#mostAttempts(route) > maxAttempts;
    const isExhausted = leg.routeAttempts >= maxAttempts;
    if (isExhausted ? !data.tried : reactionTo[category] === 'next' && !hasChoice)
      return complaint('attempts as allowed', told);
    const soonestMs = Date.parse(at) + (data.tried ? 0 : (failed.data.retryAfterMs ?? 0));
    if (Date.parse(data.dueAt) >= soonestMs) return undefined;
    return complaint('times are kept', `${told} before the provider wants it`);
  }

  #ofGivingUp(
    before: Existing,
    event: Of<'FallbackChosen' | 'LegDeadLettered'>,
    previous: DeliveryEvent | undefined,
  ): Complaint {
    const { type, data } = event;
    const leg = legOf(before, data.leg) as Leg;
    const isNext = type === 'FallbackChosen' ? event.data.route === leg.route + 1 : leg.route === leg.routes.length - 1;
    if (!isNext) return complaint('routes in order', `${type} on route ${leg.route} of ${leg.routes.length}`);
    // Rather than wait for a destination that is not called for now, the next route is taken.
    if (type === 'FallbackChosen' && data.failure.code === 'CIRCUIT_OPEN') return undefined;
    const failed = failureBefore(data.leg, previous);
    if (!failed) return complaint('dead letters at last', `${type} without a failed attempt`);
    const { maxAttempts } = this.#parts.policyOf(leg.routes[leg.route] as Route);
    const { category } = failed.data.failure;
    if (leg.routeAttempts >= maxAttempts || reactionTo[category] === 'next') return undefined;
    const told = `${type} after ${category} on attempt ${leg.routeAttempts} of ${maxAttempts}`;
    return complaint('dead letters at last', told);
  }

  /** What the policy says, and once more for each other provider that the route leaves open. */
  #mostAttempts(route: Route): number {
    const isOpen = route.destinationId === undefined && route.provider === undefined;
    return this.#parts.policyOf(route).maxAttempts + (isOpen ? Math.max(providersOf(route.channel) - 1, 0) : 0);
  }

  /** Not before its time, and when nothing is wrong, soon after it. */
  #ofTimer(what: string, due: string | undefined): Complaint {
    const { scheduler, database, calmSinceMs } = this.#parts;
    const lateMs = due === undefined ? 0 : database.nowMs - Date.parse(due);
    const calmMs = scheduler.nowMs - (calmSinceMs() ?? scheduler.nowMs);
    if (lateMs <= LATEST_MS || calmMs - lateMs <= SETTLED_AFTER_MS) return this.#ofDue(what, due);
    return complaint('times are kept', `${what} ${Math.round(lateMs)} ms late`);
  }

  #ofDue(what: string, due: string | undefined): Complaint {
    if (due === undefined) return complaint('times are kept', `${what} of nothing`);
    const earlyMs = Date.parse(due) - this.#parts.database.nowMs;
    if (earlyMs <= CLOCK_TOLERANCE_MS) return undefined;
    return complaint('times are kept', `${what} ${Math.round(earlyMs)} ms early`);
  }

  #ofDependency(before: Existing, { type, data }: Of<'DependencySatisfied' | 'DependencyFailed'>): Complaint {
    const dependency = this.#parts.cases.get(data.deliveryId);
    const state = dependency ? stateOf(dependency) : absent;
    const isDelivered = state.tag === 'settled' && state.legs.every(({ progress }) => progress.tag === 'delivered');
    const isHopeless = state.tag === 'ended' && state.as !== 'FAILED';
    const isAwaited = before.tag === 'held' && before.holds.dependencies.includes(data.deliveryId);
    if (isAwaited && (type === 'DependencySatisfied' ? isDelivered : isHopeless)) return undefined;
    return complaint('dependencies first', `${type} while ${dependency?.name} is ${state.tag}`);
  }
}

const failureBefore = (leg: number, previous: DeliveryEvent | undefined): Of<'AttemptFailed'> | undefined =>
  previous?.type === 'AttemptFailed' && previous.data.leg === leg ? previous : undefined;

function ofDecision(before: Existing, { type, data }: Of<'ApprovalGranted' | 'ApprovalRejected'>): Complaint {
  const approval = before.tag === 'held' ? before.holds.approval : undefined;
  const isAsked = approval?.approvers.includes(data.approver) ?? false;
  // Who has approved may still think better of it.
  const isTwice = type === 'ApprovalGranted' && approval?.approvedBy.includes(data.approver);
  if (isAsked && !isTwice) return undefined;
  return complaint('approval before attempt', `${type} by ${data.approver}, who has nothing to decide`);
}
