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
  RetryScheduled: [],
  FallbackChosen: [],
  LegDeadLettered: [],
  DeliveryRetried: [],
  DeliveryCancelled: [],
  DeliveryExpired: [],
  DestinationCreated: [],
  DestinationUpdated: [],
  DestinationSecretRotated: [],
  DestinationDisabled: [],
  DestinationEnabled: [],
  DestinationDeleted: [],
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

/** The one way events get into the log and out of it: decode → upcast → open → type. */
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
}

export class UndecodableEvent extends Error {
  override name = 'UndecodableEvent';
  readonly recorded: RecordedEvent;

  constructor(recorded: RecordedEvent, reason: string) {
    super(`${reason} at position ${recorded.position}`);
    this.recorded = recorded;
  }
}
