import type { DeliveryEvent, DeliveryRequested } from '../domain/delivery-events.js';
import type { Channel, Instant } from '../domain/vocabulary.js';
import type { Decoded } from '../event-store/codec.js';

/** One step of a delivery's life, in words for people. */
export interface TimelineEntry {
  /** When it happened; of what a provider reports, by the provider's clock. */
  readonly at: Instant;
  /** Milliseconds since the request; a provider's clock may make it negative. */
  readonly elapsedMs: number;
  readonly position: bigint;
  readonly type: DeliveryEvent['type'];
  /** No addresses and no content: those are in the history. */
  readonly what: string;
  readonly leg: number | null;
  readonly channel: Channel | null;
  readonly provider: string | null;
  /** Who or what recorded it. */
  readonly actor: string;
}

/** A delivery's stream as people read it: in the order of the log, one entry for each event. */
export function timelineOf(events: readonly Decoded<DeliveryEvent>[]): TimelineEntry[] {
  const request = events.find(({ event }) => event.type === 'DeliveryRequested')?.event as
    | DeliveryRequested
    | undefined;
  const start = Date.parse(request?.at ?? '');
  return events.map(({ event, recorded }) => {
    const about = event.data as { readonly leg?: number; readonly route?: number; readonly provider?: string };
    const plan = request?.data.legs.find(({ leg }) => leg === about.leg);
    const at = 'happenedAt' in event.data ? event.data.happenedAt : event.at;
    return {
      at,
      elapsedMs: Date.parse(at) - start,
      position: recorded.position,
      type: event.type,
      what: describe(event),
      leg: about.leg ?? null,
      channel: (about.route === undefined ? undefined : plan?.routes[about.route]?.channel) ?? null,
      provider: about.provider ?? null,
      actor: recorded.metadata.actor ?? 'unknown',
    };
  });
}

function describe(event: DeliveryEvent): string {
  switch (event.type) {
    case 'DeliveryRequested':
      return requestOf(event.data);
    case 'ScheduleReached':
      return 'the time it was scheduled for has come';
    case 'DependencySatisfied':
      return `delivery ${event.data.deliveryId}, which it waited for, is delivered`;
    case 'DependencyFailed':
      return `delivery ${event.data.deliveryId}, which it waited for, will never be delivered`;
    case 'ApprovalGranted':
      return `approved by ${event.data.approver}`;
    case 'ApprovalRejected':
      return `rejected by ${event.data.approver}`;
    case 'ApprovalTimedOut':
      return 'nobody approved it in time';
    case 'AttemptStarted':
      return `attempt ${event.data.number} begins`;
    case 'AttemptSucceeded':
      return `attempt ${event.data.number}: ${event.data.delivered ? 'delivered' : 'accepted by the provider'}`;
    case 'AttemptFailed':
      return `attempt ${event.data.number} failed: ${event.data.failure.code} (${event.data.failure.category})`;
    case 'AttemptInDoubt':
      return `attempt ${event.data.number} is in doubt: ${event.data.resolution === 'hold' ? 'a person has to find out' : 'it is made again'}`;
    case 'AttemptResolved':
      return `${event.data.by} found out that attempt ${event.data.number} was ${event.data.outcome.replace('-', ' ')}`;
    case 'Delivered':
      return 'the provider reports it as delivered';
    case 'Bounced':
      return `the provider reports that it bounced: ${event.data.failure.code}`;
    case 'Complained':
      return 'the recipient complained';
    case 'Opened':
      return 'opened';
    case 'Clicked':
      return 'a link was followed';
    case 'OptedOut':
      return 'the recipient wants no more';
    case 'RetryScheduled':
      return `is tried again at ${event.data.dueAt}`;
    case 'FallbackChosen':
      return `goes on to route ${event.data.route + 1} after ${event.data.failure.code}`;
    case 'LegDeadLettered':
      return `its last route has failed for good: ${event.data.failure.code}`;
    case 'DeliveryRetried':
      return `${event.data.by} has it tried again`;
    case 'DeliveryCancelled':
      return `cancelled by ${event.data.by}`;
    case 'DeliveryExpired':
      return 'expired';
    case 'ProcessResumed':
      return `${event.data.by} lets the engine try again`;
    case 'EventSkipped':
      return `${event.data.by} lets it go on without revision ${event.data.revision}`;
  }
}

function requestOf({ priority, legs, scheduledAt, dependsOn, approval }: DeliveryRequested['data']): string {
  const waits = [
    ...(scheduledAt === undefined ? [] : [`waits for ${scheduledAt}`]),
    ...(dependsOn?.length ? [`waits for ${dependsOn.length} other deliveries`] : []),
    ...(approval ? [`waits for ${approval.minimum} of ${approval.approvers.length} approvers`] : []),
  ];
  return [`requested with priority ${priority} for ${legs.length} legs`, ...waits].join('; ');
}
