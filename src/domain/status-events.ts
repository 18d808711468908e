import type { DeliveryEvent } from './delivery-events.js';
import type { DeliveryState } from './delivery-state.js';
import { deliveryStatus, legStatus } from './delivery-status.js';
import { type Json, STATUS_EVENTS, type StatusEvent } from './vocabulary.js';

/** What requesters are told of their deliveries while these are on their way (status webhooks). */

/** Who requests the deliveries that carry the news, in the log: what becomes of these is told to nobody. */
export const STATUS_ACTOR = 'status-webhooks';

const ENGAGEMENT: Partial<Record<DeliveryEvent['type'], StatusEvent>> = {
  Opened: 'OPENED',
  Clicked: 'CLICKED',
  Complained: 'COMPLAINED',
  OptedOut: 'OPTED_OUT',
};

const isStatusEvent = (status: string): status is StatusEvent => (STATUS_EVENTS as readonly string[]).includes(status);

/** What is told of an event that made `after` of `before`; undefined when nothing is. */
export function statusEventOf(
  before: DeliveryState,
  { type }: Pick<DeliveryEvent, 'type'>,
  after: DeliveryState,
): StatusEvent | undefined {
  const engagement = ENGAGEMENT[type];
  if (engagement || after.tag === 'absent') return engagement;
  const status = deliveryStatus(after);
  const isNew = before.tag === 'absent' || deliveryStatus(before) !== status;
  return isNew && isStatusEvent(status) ? status : undefined;
}

/** What is told: identities and outcomes, nothing of persons or contents, as it leaves their protection. */
export function statusReport(
  id: string,
  state: Exclude<DeliveryState, { tag: 'absent' }>,
  event: { readonly revision: number; readonly at: string; readonly correlationId?: string },
): { readonly [key: string]: Json } {
  const { revision, at, correlationId } = event;
  return {
    id,
    status: deliveryStatus(state),
    // Messages may overtake each other; the one with the greater revision is the newer.
    revision,
    at,
    ...(correlationId !== undefined && { correlationId }),
    legs: state.legs.map((leg) => {
      const route = leg.routes[leg.route];
      return {
        id: `${id}-${leg.leg}`,
        status: legStatus(state, leg),
        attempts: leg.attempts,
        ...(route && { channel: route.channel }),
        ...(route?.destinationId !== undefined && { destinationId: route.destinationId }),
        ...(leg.failure && { failure: { category: leg.failure.category, code: leg.failure.code } }),
      };
    }),
  };
}
