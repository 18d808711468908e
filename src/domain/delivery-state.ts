import type {
  ApprovalRule,
  AttemptRef,
  AttemptResolved,
  DeliveryEvent,
  DeliveryRequested,
  LegPlan,
  Route,
} from './delivery-events.js';
import { begunAnew, type LegReports, unreported, verdictOf, withReport } from './reports.js';
import type { Failure, Instant } from './vocabulary.js';

/** What a leg is doing. Only `ready` and `retrying` call for an attempt. */
export type LegProgress =
  | { readonly tag: 'ready' }
  | { readonly tag: 'attempting'; readonly attempt: AttemptRef }
  /** The attempt has failed; what follows from that is in the next event of the same append. */
  | { readonly tag: 'failing' }
  | { readonly tag: 'retrying'; readonly dueAt: Instant; readonly tried?: readonly string[] }
  /** In doubt after a crash, and policy wants a person to look. */
  | { readonly tag: 'doubtful'; readonly attempt: AttemptRef }
  | { readonly tag: 'sent' }
  | { readonly tag: 'delivered' }
  /** The provider had accepted it, and reports that it cannot be delivered. */
  | { readonly tag: 'bounced' }
  | { readonly tag: 'failed' };

export interface Leg {
  readonly leg: number;
  readonly routes: readonly Route[];
  readonly route: number;
  /** 0 for the request itself, +1 each time a person asks again. */
  readonly round: number;
  /** All attempts of this leg, ever. */
  readonly attempts: number;
  /** Attempts on the current route in the current round: what retry policies count. */
  readonly routeAttempts: number;
  readonly progress: LegProgress;
  /** Why the newest attempt did not work; gone once one does. */
  readonly failure?: Failure;
  /** What a person last found out about an attempt in doubt: the same answer again is no news. */
  readonly resolved?: { readonly attempt: number; readonly outcome: AttemptResolved['data']['outcome'] };
  /** What providers have reported of its attempts; missing before the first report. */
  readonly reports?: LegReports;
}

export interface Holds {
  readonly schedule?: Instant;
  readonly dependencies: readonly string[];
  readonly approval?: ApprovalRule & { readonly approvedBy: readonly string[] };
}

interface Requested {
  readonly request: DeliveryRequested['data'];
  readonly requestedAt: Instant;
  readonly legs: readonly Leg[];
}

export type DeliveryState =
  | { readonly tag: 'absent' }
  /** Waits for its time, for other deliveries or for people; no attempt is made. */
  | ({ readonly tag: 'held'; readonly holds: Holds } & Requested)
  /** Legs are being delivered. */
  | ({ readonly tag: 'active' } & Requested)
  /** Every leg has ended; a failed one can be retried by a person. */
  | ({ readonly tag: 'settled' } & Requested)
  /** Ended as a whole before its legs did. */
  | ({ readonly tag: 'ended'; readonly as: 'CANCELLED' | 'EXPIRED' | 'REJECTED' } & Requested)
  /** Ended because a delivery it depends on did; what else held it holds it again when a person retries it. */
  | ({ readonly tag: 'ended'; readonly as: 'FAILED'; readonly holds: Holds } & Requested);

export const absent: DeliveryState = { tag: 'absent' };

export const legIsOpen = (leg: Leg): boolean => {
  const tag = leg.progress.tag;
  return tag !== 'sent' && tag !== 'delivered' && tag !== 'bounced' && tag !== 'failed';
};

const planned = ({ leg, routes }: LegPlan): Leg => ({
  leg,
  routes,
  route: 0,
  round: 0,
  attempts: 0,
  routeAttempts: 0,
  progress: { tag: 'ready' },
});

function initialHolds(request: DeliveryRequested['data']): Holds {
  return {
    ...(request.scheduledAt !== undefined && { schedule: request.scheduledAt }),
    dependencies: request.dependsOn ?? [],
    ...(request.approval !== undefined && { approval: { ...request.approval, approvedBy: [] } }),
  };
}

const isHeld = (holds: Holds): boolean =>
  holds.schedule !== undefined || holds.dependencies.length > 0 || holds.approval !== undefined;

type Existing = Exclude<DeliveryState, { tag: 'absent' }>;

/** Back to the fields every existing state has, so that no `holds` of an earlier state is carried along. */
const requested = ({ request, requestedAt, legs }: Existing): Requested => ({ request, requestedAt, legs });

function withHolds(state: Existing, change: (holds: Holds) => Holds): DeliveryState {
  if (state.tag !== 'held') return state;
  const holds = change(state.holds);
  return isHeld(holds) ? { ...state, holds } : { tag: 'active', ...requested(state) };
}

function withLeg(state: Existing, number: number, change: (leg: Leg) => Leg): DeliveryState {
  const legs = state.legs.map((leg) => (leg.leg === number ? change(leg) : leg));
  if (state.tag === 'ended') return { ...state, legs };
  const tag = legs.some(legIsOpen) ? 'active' : 'settled';
  return { tag, request: state.request, requestedAt: state.requestedAt, legs };
}

function endedByDependency(state: Existing, deliveryId: string, failure: Failure): DeliveryState {
  const holds = state.tag === 'held' ? state.holds : initialHolds(state.request);
  const dependencies = holds.dependencies.filter((id) => id !== deliveryId);
  const legs = state.legs.map((leg) => ({ ...leg, failure }));
  return { tag: 'ended', as: 'FAILED', holds: { ...holds, dependencies }, ...requested(state), legs };
}

/** Back to what held it before a dependency failed, else straight to its attempts. */
function retried(state: Existing, legs: readonly Leg[]): DeliveryState {
  const base = { request: state.request, requestedAt: state.requestedAt, legs };
  const holds = state.tag === 'ended' && state.as === 'FAILED' ? state.holds : undefined;
  return holds && isHeld(holds) ? { tag: 'held', holds, ...base } : { tag: 'active', ...base };
}

/** AttemptStarted counts the attempt; on channels that do not record it, the outcome does. */
const counted = (leg: Leg, attempt: AttemptRef): Leg =>
  attempt.number <= leg.attempts ? leg : { ...leg, attempts: attempt.number, routeAttempts: leg.routeAttempts + 1 };

function resolved({ failure, ...leg }: Leg, { number, outcome }: AttemptResolved['data']): Leg {
  const known = { ...leg, resolved: { attempt: number, outcome } };
  if (outcome !== 'not-sent') return { ...known, progress: { tag: outcome } };
  return { ...known, ...(failure && { failure }), progress: { tag: 'ready' } };
}

/** On another route or in another round: attempts are counted anew, and so is whom they reached. */
const anew = ({ reports, ...leg }: Leg, change: Pick<Leg, 'route'> & Partial<Leg>): Leg => ({
  ...leg,
  ...(reports && { reports: begunAnew(reports) }),
  routeAttempts: 0,
  progress: { tag: 'ready' },
  ...change,
});

type ReportEvent = Extract<DeliveryEvent, { data: { reportId: string } }>;

function reported(state: Existing, { type, data }: ReportEvent): DeliveryState {
  return withLeg(state, data.leg, (leg) => {
    const isCurrent = data.round === leg.round && data.route === leg.route;
    return confirmed(state, { ...leg, reports: withReport(leg.reports ?? unreported, type, data, isCurrent) });
  });
}

/**
 * What reports make of a leg. A report of success also settles what nobody knew the end of, and what was given up for
 * lost. One whose call is still under way is judged when its outcome is recorded.
 */
function confirmed({ request }: Existing, leg: Leg): Leg {
  const { reports, progress, failure: _, ...rest } = leg;
  if (!reports || progress.tag === 'attempting' || leg.attempts === 0) return leg;
  const planned = request.legs.find((plan) => plan.leg === leg.leg)?.recipients ?? 1;
  const verdict = verdictOf(reports, leg.route === 0 ? planned : 1);
  if (verdict === 'delivered') return { ...rest, reports, progress: { tag: 'delivered' } };
  const isAccepted = progress.tag === 'sent' || progress.tag === 'delivered' || progress.tag === 'doubtful';
  if (verdict !== 'bounced' || (!isAccepted && progress.tag !== 'bounced')) return leg;
  const failure = reports.bounced[0]?.failure;
  return { ...rest, reports, ...(failure && { failure }), progress: { tag: 'bounced' } };
}

/**
 * Folds one recorded event into the state. Never rejects: what is recorded has happened.
 *
 * @throws when it is no event that any version of the product can have recorded here
 */
export function evolve(state: DeliveryState, event: DeliveryEvent): DeliveryState {
  if (event.type === 'DeliveryRequested') {
    const base = { request: event.data, requestedAt: event.at, legs: event.data.legs.map(planned) };
    const holds = initialHolds(event.data);
    return isHeld(holds) ? { tag: 'held', holds, ...base } : { tag: 'active', ...base };
  }
  if (event.type === 'ProcessResumed' || event.type === 'EventSkipped') return state;
  if (state.tag === 'absent') throw new Error(`${event.type} is recorded in a delivery that was never requested`);

  switch (event.type) {
    case 'ScheduleReached':
      return withHolds(state, ({ schedule: _, ...rest }) => rest);
    case 'DependencySatisfied':
      return withHolds(state, (holds) => ({
        ...holds,
        dependencies: holds.dependencies.filter((id) => id !== event.data.deliveryId),
      }));
    case 'DependencyFailed':
      return endedByDependency(state, event.data.deliveryId, event.data.failure);
    case 'ApprovalGranted':
      return withHolds(state, (holds) => {
        if (!holds.approval) return holds;
        const approvedBy = [...holds.approval.approvedBy, event.data.approver];
        if (approvedBy.length < holds.approval.minimum)
          return { ...holds, approval: { ...holds.approval, approvedBy } };
        const { approval: _, ...rest } = holds;
        return rest;
      });
    case 'ApprovalRejected':
    case 'ApprovalTimedOut':
      return { tag: 'ended', as: 'REJECTED', ...requested(state) };
    case 'AttemptStarted':
      return withLeg(state, event.data.leg, (leg) => ({
        ...counted(leg, event.data),
        progress: { tag: 'attempting', attempt: event.data },
      }));
    case 'AttemptSucceeded':
      return withLeg(state, event.data.leg, ({ failure: _, ...leg }) =>
        confirmed(state, {
          ...counted(leg, event.data),
          progress: { tag: event.data.delivered ? 'delivered' : 'sent' },
        }),
      );
    case 'AttemptFailed':
      // A reader may get this event in one batch and the decision that follows it (retry, fallback, dead letter) in the next.
      return withLeg(state, event.data.leg, (leg) => ({
        ...counted(leg, event.data),
        failure: event.data.failure,
        progress: { tag: 'failing' },
      }));
    case 'AttemptInDoubt': {
      const { resolution, lookup: _, ...attempt } = event.data;
      return withLeg(state, attempt.leg, (leg) => ({
        ...leg,
        progress: resolution === 'resend' ? { tag: 'ready' } : { tag: 'doubtful', attempt },
      }));
    }
    case 'AttemptResolved':
      return withLeg(state, event.data.leg, (leg) => resolved(leg, event.data));
    case 'Delivered':
    case 'Bounced':
    case 'Complained':
    case 'Opened':
    case 'Clicked':
    case 'OptedOut':
      return reported(state, event);
    case 'RetryScheduled':
      return withLeg(state, event.data.leg, (leg) => ({
        ...leg,
        progress: {
          tag: 'retrying',
          dueAt: event.data.dueAt,
          ...(event.data.tried && { tried: event.data.tried }),
        },
      }));
    case 'FallbackChosen':
      return withLeg(state, event.data.leg, (leg) => anew(leg, { route: event.data.route }));
    case 'LegDeadLettered':
      return withLeg(state, event.data.leg, (leg) => ({
        ...leg,
        failure: event.data.failure,
        progress: { tag: 'failed' },
      }));
    case 'DeliveryRetried':
      return retried(
        state,
        state.legs.map((leg) =>
          event.data.legs.includes(leg.leg) ? anew(leg, { route: 0, round: event.data.round }) : leg,
        ),
      );
    case 'DeliveryCancelled':
      return { tag: 'ended', as: 'CANCELLED', ...requested(state) };
    case 'DeliveryExpired':
      return { tag: 'ended', as: 'EXPIRED', ...requested(state) };
    default:
      // Not a matter of types: the event is whatever was recorded under this name.
      throw new Error(`${(event as { type: string }).type} is not an event of deliveries`);
  }
}

/** Must be the same for every attempt to deliver one thing to one target, and new when a person asks for it again. */
export const attemptKey = (deliveryId: string, leg: Pick<Leg, 'leg' | 'round'>): string =>
  leg.round === 0 ? `${deliveryId}_${leg.leg}` : `${deliveryId}_${leg.leg}_r${leg.round}`;
