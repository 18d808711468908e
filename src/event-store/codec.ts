import type { Instant, JsonObject } from '../domain/vocabulary.js';
import type { NewEvent, RecordedEvent } from './event-store.js';

/** A domain event as deciders make them and folds take them. */
export interface DomainEvent {
  readonly type: string;
  readonly at: Instant;
  readonly data: object;
}

/** Who and what an event came from. Values end up in the event's metadata: no personal data. */
export interface Envelope {
  readonly organizationId: string;
  /** The command's identity: the same command gives the same event ids, so storing it twice stores it once. */
  readonly commandId: string;
  readonly actor: string;
  readonly correlationId?: string;
  readonly causationId?: string;
  /** W3C Trace Context. */
  readonly traceparent?: string;
}

export interface Decoded<Event extends DomainEvent = DomainEvent> {
  readonly event: Event;
  readonly recorded: RecordedEvent;
  readonly organizationId: string;
}

/** Brings an event's data from one schema version to the next; index 0 leads from version 1 to 2. */
type Upcast = (data: JsonObject) => JsonObject;

/** Every event type ever recorded, with the steps from its oldest version to today's. */
const steps: Readonly<Record<string, readonly Upcast[]>> = {
  DeliveryRequested: [],
  ScheduleReached: [],
  DependencySatisfied: [],
  DependencyFailed: [],
  ApprovalGranted: [],
  ApprovalRejected: [],
  ApprovalTimedOut: [],
  AttemptStarted: [],
  AttemptSucceeded: [],
  AttemptFailed: [],
  AttemptInDoubt: [],
  AttemptResolved: [],
  RetryScheduled: [],
  FallbackChosen: [],
  LegDeadLettered: [],
  DeliveryRetried: [],
  DeliveryCancelled: [],
  DeliveryExpired: [],
  ProcessResumed: [],
  EventSkipped: [],
  DestinationCreated: [],
  DestinationUpdated: [],
  DestinationSecretRotated: [],
  DestinationDisabled: [],
  DestinationEnabled: [],
  DestinationCircuitOpened: [],
  DestinationCircuitClosed: [],
  DestinationDeleted: [],
  ProviderCircuitOpened: [],
  ProviderCircuitClosed: [],
  ApiKeyCreated: [],
  ApiKeyRotated: [],
  ApiKeyRevoked: [],
  RoleDefined: [],
  RoleRemoved: [],
  RolesAssigned: [],
};

const schemas: ReadonlyMap<string, readonly Upcast[]> = new Map(Object.entries(steps));

/** The version in which each event type is recorded today. */
export const eventVersions: ReadonlyMap<string, number> = new Map(
  [...schemas].map(([type, upcasts]) => [type, upcasts.length + 1]),
);

/**
 * Where sensitive leaves of an event's data are sealed before they reach the log and opened after. What is stored, and
 * so what the audit trail covers, is the sealed form.
 */
export interface FieldProtection {
  seal(type: string, data: JsonObject, organizationId: string): JsonObject;
  open(type: string, data: JsonObject, organizationId: string): JsonObject;
}

export const noProtection: FieldProtection = { seal: (_, data) => data, open: (_, data) => data };

/**
 * The one way events get into the log and out of it: decode → upcast → open → type.
 *
 * A type or version that is not in the table was recorded by a newer program, or by nobody. It is never guessed at and
 * never passed over: decoding fails with `UndecodableEvent`, and so does folding it where it makes no sense. What then?
 *
 * - Commands are refused (CONFLICT): nothing is decided on half a stream.
 * - Read models park the event with what follows it in its stream, and go on with other streams.
 * - The engine tries the delivery a few times, then suspends it where it stands, and goes on with the others.
 * - History shows it as it lies in the log.
 *
 * An operator then starts a program that knows the event (`resumeDelivery`), or decides that the stream is to be read
 * without it (`skipSuspendedEvent`): that is recorded as `EventSkipped`, which names the revision to pass over.
 */
export class EventCodec {
  readonly #protection: FieldProtection;

  constructor(protection: FieldProtection = noProtection) {
    this.#protection = protection;
  }

  encode(event: DomainEvent, id: string, envelope: Envelope): NewEvent {
    const upcasts = schemas.get(event.type);
    if (!upcasts) throw new Error(`event type ${event.type} is not in the codec's table`);
    const { organizationId, commandId, actor, correlationId, causationId, traceparent } = envelope;
    const schemaVersion = String(upcasts.length + 1);
    const metadata: Record<string, string> = { schemaVersion, organizationId, commandId, actor, occurredAt: event.at };
    if (correlationId !== undefined) metadata.$correlationId = correlationId;
    if (causationId !== undefined) metadata.$causationId = causationId;
    if (traceparent !== undefined) metadata.traceparent = traceparent;
    const data = this.#protection.seal(event.type, event.data as JsonObject, organizationId);
    return { id, type: event.type, data, metadata };
  }

  /** @throws UndecodableEvent for a type or version this program does not know */
  decode<Event extends DomainEvent>(recorded: RecordedEvent): Decoded<Event> {
    const { type, metadata } = recorded;
    const upcasts = schemas.get(type);
    const version = Number(metadata.schemaVersion);
    if (!upcasts) throw new UndecodableEvent(recorded, `unknown event type ${type}`);
    if (!Number.isInteger(version) || version < 1 || version > upcasts.length + 1)
      throw new UndecodableEvent(recorded, `unknown version ${metadata.schemaVersion} of ${type}`);
    const organizationId = metadata.organizationId ?? '';
    let data = recorded.data;
    for (const upcast of upcasts.slice(version - 1)) data = upcast(data);
    const opened = this.#protection.open(type, data, organizationId);
    const event = { type, at: metadata.occurredAt ?? recorded.created, data: opened } as unknown as Event;
    return { event, recorded, organizationId };
  }

  /**
   * A stream from its beginning, without what is to be passed over.
   *
   * @throws UndecodableEvent
   */
  decodeStream<Event extends DomainEvent>(stream: readonly RecordedEvent[]): Decoded<Event>[] {
    const skipped = skippedRevisions(stream);
    const read = skipped.size === 0 ? stream : stream.filter(({ revision }) => !skipped.has(revision));
    return read.map((recorded) => this.decode<Event>(recorded));
  }

  /**
   * A stream from its beginning, folded.
   *
   * @throws UndecodableEvent also for an event that `evolve` throws at
   */
  fold<State, Event extends DomainEvent>(
    stream: readonly RecordedEvent[],
    evolve: (state: State, event: Event) => State,
    initial: State,
  ): State {
    let state = initial;
    for (const { event, recorded } of this.decodeStream<Event>(stream)) {
      try {
        state = evolve(state, event);
      } catch (error) {
        throw new UndecodableEvent(recorded, (error as Error).message);
      }
    }
    return state;
  }
}

/** Revisions of a stream that are to be passed over, as its own later events say. */
export function skippedRevisions(stream: readonly RecordedEvent[]): ReadonlySet<number> {
  const skips = stream.filter(({ type }) => type === 'EventSkipped');
  return skips.length === 0 ? none : new Set(skips.map(({ data }) => Number(data.revision)));
}

const none: ReadonlySet<number> = new Set();

/** An event that cannot be decoded, or that makes no sense where it stands. */
export class UndecodableEvent extends Error {
  override name = 'UndecodableEvent';
  readonly recorded: RecordedEvent;

  constructor(recorded: RecordedEvent, reason: string) {
    super(`${reason} at position ${recorded.position}`);
    this.recorded = recorded;
  }
}
