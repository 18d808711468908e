import type { AttemptRef, DeliveryEvent } from '../domain/delivery-events.js';
import { absent, type DeliveryState, evolve as evolveDelivery } from '../domain/delivery-state.js';
import { isClosed } from '../domain/delivery-status.js';
import { type DestinationEvent, type DestinationState, evolve as evolveDestination } from '../domain/destination.js';
import { evolve as evolveInbox, type InboxEvent, type InboxState, inboxMessage } from '../domain/inbox.js';
import {
  evolve as evolveSuppression,
  type SuppressionEvent,
  type SuppressionState,
  suppression,
} from '../domain/suppression.js';
import type { ErrorCategory, Instant } from '../domain/vocabulary.js';
import type { Decoded, DomainEvent } from '../event-store/codec.js';

/** A stream's state as read models see it: folded by the domain, without content and secrets. */
interface View<State> {
  readonly id: string;
  readonly state: Exclude<State, { tag: 'absent' }>;
  /** Of the newest event folded in, as is `position`. */
  readonly revision: number;
  readonly position: bigint;
  /** When the newest event happened. */
  readonly updatedAt: Instant;
}

export interface DeliverySnapshot extends View<DeliveryState> {
  /** When the event that closed it happened; absent while something can still happen by itself. */
  readonly completedAt?: Instant;
}

export interface DeliveryView extends DeliverySnapshot {
  /** In the order of the state's legs. */
  readonly marks: readonly LegMarks[];
}

/** What statistics want to know of a leg and its state does not keep. */
export interface LegMarks {
  readonly firstAttemptAt?: Instant;
  /** When the provider accepted it. */
  readonly sentAt?: Instant;
  /** Of the newest attempt. */
  readonly provider?: string;
  /** Of all failures the leg ever met, each once. */
  readonly categories: readonly ErrorCategory[];
}

export interface DestinationView extends View<DestinationState> {
  readonly createdAt: Instant;
}

export type SuppressionView = View<SuppressionState>;

export interface InboxView extends View<InboxState> {
  /** Position of its first event: its place among the messages of the inbox. */
  readonly place: bigint;
}

/** How the streams of one category become views. Throws for what no version of the product can have recorded. */
export interface StreamKind<V, Event extends DomainEvent> {
  readonly prefix: string;
  fold(before: V | undefined, id: string, decoded: Decoded<Event>): V;
  /** Whether more is to be expected, so that keeping the view is likely to pay. */
  mayGoOn(view: V): boolean;
}

export const deliveries: StreamKind<DeliveryView, DeliveryEvent> = {
  prefix: 'delivery-',
  mayGoOn: ({ completedAt }) => completedAt === undefined,
  fold(before, id, { event, recorded }) {
    const state = evolveDelivery(before?.state ?? absent, withoutContent(event));
    // Not a matter of types: the event is whatever was recorded under this name.
    if (state === undefined || state.tag === 'absent') throw new Error(`${event.type} is not an event of deliveries`);
    const completedAt = isClosed(state) ? (before?.completedAt ?? event.at) : undefined;
    return {
      id,
      state,
      revision: recorded.revision,
      position: recorded.position,
      updatedAt: event.at,
      ...(completedAt !== undefined && { completedAt }),
      marks: marked(before?.marks ?? state.legs.map(() => unmarked), state, event),
    };
  },
};

export const destinations: StreamKind<DestinationView, DestinationEvent> = {
  prefix: 'destination-',
  mayGoOn: ({ state }) => state.tag === 'present',
  fold(before, id, { event, recorded }) {
    const state = evolveDestination(before?.state ?? { tag: 'absent' }, withoutSecrets(event));
    if (state === undefined || state.tag === 'absent') throw new Error(`${event.type} is not an event of destinations`);
    const { revision, position } = recorded;
    return { id, state, revision, position, createdAt: before?.createdAt ?? event.at, updatedAt: event.at };
  },
};

export const suppressions: StreamKind<SuppressionView, SuppressionEvent> = {
  prefix: 'suppression-',
  mayGoOn: () => false,
  fold(before, id, { event, recorded }) {
    const state = evolveSuppression(before?.state ?? suppression.initial, event);
    if (state.tag === 'absent') throw new Error(`${event.type} is not an event of suppressions`);
    return { id, state, revision: recorded.revision, position: recorded.position, updatedAt: event.at };
  },
};

export const inbox: StreamKind<InboxView, InboxEvent> = {
  prefix: 'inbox-',
  mayGoOn: ({ state }) => state.readAt === undefined,
  fold(before, id, { event, recorded }) {
    const state = evolveInbox(before?.state ?? inboxMessage.initial, event);
    if (state.tag === 'absent') throw new Error(`${event.type} is not an event of inboxes`);
    const { revision, position } = recorded;
    return { id, state, revision, position, place: before?.place ?? position, updatedAt: event.at };
  },
};

/** A whole stream's view, or undefined when it is empty: for time travel, without Postgres. */
export const viewOf = <V, Event extends DomainEvent>(
  kind: StreamKind<V, Event>,
  id: string,
  events: readonly Decoded<Event>[],
): V | undefined => events.reduce<V | undefined>((view, event) => kind.fold(view, id, event), undefined);

const withoutContent = (event: DeliveryEvent): DeliveryEvent => {
  if (event.type !== 'DeliveryRequested') return event;
  const { personalization: _, ...data } = event.data;
  return { ...event, data: { ...data, content: {} } };
};

const withoutSecrets = (event: DestinationEvent): DestinationEvent =>
  'data' in event && 'secrets' in event.data
    ? ({ ...event, data: { ...event.data, secrets: {} } } as DestinationEvent)
    : event;

const unmarked: LegMarks = { categories: [] };

function marked(
  marks: readonly LegMarks[],
  state: Exclude<DeliveryState, { tag: 'absent' }>,
  event: DeliveryEvent,
): readonly LegMarks[] {
  const markLeg = (number: number, change: (marks: LegMarks) => LegMarks) =>
    marks.map((mark, index) => (state.legs[index]?.leg === number ? change(mark) : mark));
  switch (event.type) {
    case 'AttemptStarted':
      return markLeg(event.data.leg, (mark) => attempted(mark, event.data));
    case 'AttemptSucceeded':
      return markLeg(event.data.leg, (mark) => ({
        firstAttemptAt: mark.firstAttemptAt ?? event.data.startedAt,
        sentAt: event.at,
        provider: event.data.provider,
        categories: mark.categories,
      }));
    case 'AttemptResolved':
      return event.data.outcome === 'not-sent'
        ? marks
        : markLeg(event.data.leg, (mark) => ({ ...attempted(mark, event.data), sentAt: event.at }));
    case 'AttemptFailed':
      return markLeg(event.data.leg, (mark) => failed(attempted(mark, event.data), event.data.failure.category));
    case 'DependencyFailed':
      return marks.map((mark) => failed(mark, event.data.failure.category));
    default:
      return marks;
  }
}

const attempted = (mark: LegMarks, { startedAt, provider }: AttemptRef): LegMarks => ({
  ...mark,
  firstAttemptAt: mark.firstAttemptAt ?? startedAt,
  provider,
});

const failed = (mark: LegMarks, category: ErrorCategory): LegMarks =>
  mark.categories.includes(category) ? mark : { ...mark, categories: [...mark.categories, category] };
