import { type DeliveryState, type Leg, legIsOpen } from './delivery-state.js';
import type { Status } from './vocabulary.js';

type Existing = Exclude<DeliveryState, { tag: 'absent' }>;

/** The status of one leg as the public API shows it. */
export function legStatus(state: Existing, leg: Leg): Status {
  switch (leg.progress.tag) {
    case 'delivered':
      return 'DELIVERED';
    case 'sent':
      return 'SENT';
    case 'bounced':
      return 'BOUNCED';
    case 'failed':
      return 'FAILED';
  }
  if (state.tag === 'ended') return state.as;
  if (state.tag === 'held' || leg.progress.tag === 'doubtful') return 'HELD';
  return leg.attempts > 0 ? 'PROCESSING' : 'QUEUED';
}

/**
 * The status of the whole: the worst that is final once every leg has ended (one failed leg makes a failed delivery),
 * before that what is still going on.
 */
export function deliveryStatus(state: Existing): Status {
  if (state.tag === 'ended') return state.as;
  if (state.tag === 'held') return 'HELD';
  const statuses = state.legs.map((leg) => legStatus(state, leg));
  if (state.tag === 'settled') {
    if (statuses.includes('FAILED')) return 'FAILED';
    if (statuses.includes('BOUNCED')) return 'BOUNCED';
    return statuses.includes('SENT') ? 'SENT' : 'DELIVERED';
  }
  if (statuses.every((status) => status === 'QUEUED')) return 'QUEUED';
  const open = state.legs.filter(legIsOpen);
  return open.length > 0 && open.every((leg) => leg.progress.tag === 'doubtful') ? 'HELD' : 'PROCESSING';
}

/** One reason why a delivery waits. */
export interface Hold {
  readonly reason: 'schedule' | 'dependency' | 'approval' | 'doubt';
  readonly until?: string;
  readonly detail?: Record<string, unknown>;
}

export function holdsOf(state: Existing): Hold[] {
  if (state.tag !== 'held') return doubtsOf(state);
  const { schedule, dependencies, approval } = state.holds;
  return [
    ...(schedule === undefined ? [] : [{ reason: 'schedule' as const, until: schedule }]),
    ...dependencies.map((deliveryId) => ({ reason: 'dependency' as const, detail: { deliveryId } })),
    ...(approval === undefined
      ? []
      : [
          {
            reason: 'approval' as const,
            ...(approval.deadline !== undefined && { until: approval.deadline }),
            detail: { approvers: approval.approvers, minimum: approval.minimum, approvedBy: approval.approvedBy },
          },
        ]),
  ];
}

/** Nothing in doubt is ever hidden, however the delivery has ended. */
const doubtsOf = ({ legs }: Existing): Hold[] =>
  legs
    .filter((leg) => leg.progress.tag === 'doubtful')
    .map((leg) => ({ reason: 'doubt', detail: { leg: leg.leg, attempt: leg.attempts } }));

/** True once nothing more will happen by itself. */
export const isClosed = (state: DeliveryState): boolean => state.tag === 'settled' || state.tag === 'ended';
