import type { StoredContent } from '../domain/delivery-events.js';
import { FORGOTTEN, keptWith, personOf } from '../domain/retention.js';
import type { Instant, JsonObject } from '../domain/vocabulary.js';
import { ContentLost, type NewEvent, type RecordedEvent } from './event-store.js';
import { forgotten, isSealed } from './sensitive.js';

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
  Delivered: [],
  Bounced: [],
  Complained: [],
  Opened: [],
  Clicked: [],
  OptedOut: [],
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
  AccessRecorded: [],
  ApiKeyCreated: [],
  ApiKeyRotated: [],
  ApiKeyRevoked: [],
  RoleDefined: [],
  RoleRemoved: [],
  RolesAssigned: [],
  SubjectErased: [],
  LegalHoldPlaced: [],
  LegalHoldReleased: [],
  AddressSuppressed: [],
  AddressReleased: [],
  RetentionSet: [],
  DataDisposed: [],
  InboxMessageStored: [],
  InboxMessageRead: [],
  InboxMessageUnread: [],
  DownloadOffered: [],
  DownloadAccessed: [],
  DownloadRefused: [],
};

const schemas: ReadonlyMap<string, readonly Upcast[]> = new Map(Object.entries(steps));

/** The version in which each event type is recorded today. */
export const eventVersions: ReadonlyMap<string, number> = new Map(
  [...schemas].map(([type, upcasts]) => [type, upcasts.length + 1]),
);

/** Where an event is, and whose it is: what its sealed part is bound to. */
export interface EventPlace {
  readonly streamId: string;
  readonly eventId: string;
  /** Whose key protects what is sensitive in it, unless its data says otherwise; needed to seal only. */
  readonly subject: string;
}

/** Somebody whose data has a key of its own: a person, a destination, an organization, or several persons together. */
export interface Subject {
  readonly subject: string;
  readonly organizationId: string;
  /** The persons of a group; its key goes with any of theirs. */
  readonly members?: readonly string[];
}

/**
 * Where sensitive fields of an event's data are sealed before they reach the log and opened after. What is stored, and
 * so what the audit trail covers, is the sealed form.
 */
export interface FieldProtection {
  /** Gets what `seal` needs; undefined when it is there already. */
  prepare(subjects: readonly Subject[]): Promise<void> | undefined;
  seal(type: string, data: JsonObject, place: EventPlace): JsonObject;
  open(type: string, data: JsonObject, place: Omit<EventPlace, 'subject'>): JsonObject;
  /** Fetches what of opened data lies outside the log; undefined when nothing does. @param leave stays where it is */
  complete?(data: JsonObject, streamId: string, leave?: 'attachments'): Promise<JsonObject> | undefined;
  source?(stored: StoredContent, streamId: string): Promise<ContentSource>;
}

/** What lies outside the log, to be read as often as one likes and never all of it at once. */
export interface ContentSource {
  /** Its size in clear. */
  readonly bytes: number;
  /**
   * @param range offsets, `end` not included. Default: all
   * @throws ContentLost, ContentUnavailable while it is read
   */
  readonly read: (range?: { readonly start: number; readonly end: number }) => AsyncIterable<Buffer>;
}

export const noProtection: FieldProtection = {
  prepare: () => undefined,
  seal: (_, data) => data,
  open: (_, data) => data,
};

/**
 * The one way events get into the log and out of it: decode → open → upcast → type.
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

  /** To be awaited before `encode`, for all events of an append together; undefined when there is nothing to wait for. */
  prepare(subjects: readonly Subject[]): Promise<void> | undefined {
    return this.#protection.prepare(subjects);
  }

  /** @param owner the stream, and whose key protects the event unless it says so itself */
  encode(event: DomainEvent, id: string, envelope: Envelope, owner: Owner = nobody): NewEvent {
    const upcasts = schemas.get(event.type);
    if (!upcasts) throw new Error(`event type ${event.type} is not in the codec's table`);
    const { organizationId, commandId, actor, correlationId, causationId, traceparent } = envelope;
    const schemaVersion = String(upcasts.length + 1);
    const metadata: Record<string, string> = { schemaVersion, organizationId, commandId, actor, occurredAt: event.at };
    if (correlationId !== undefined) metadata.$correlationId = correlationId;
    if (causationId !== undefined) metadata.$causationId = causationId;
    if (traceparent !== undefined) metadata.traceparent = traceparent;
    const { streamId, subject = subjectOfOrganization(organizationId) } = owner;
    const plain = event.data as JsonObject;
    const own = ownSubject(plain) ?? subject;
    const data =
      own === FORGOTTEN
        ? forgotten(event.type, plain)
        : this.#protection.seal(event.type, plain, { streamId, eventId: id, subject: own });
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
    let data = this.#opened(recorded);
    if (version <= upcasts.length) for (const upcast of upcasts.slice(version - 1)) data = upcast(data);
    const event = { type, at: metadata.occurredAt ?? recorded.created, data } as unknown as Event;
    return { event, recorded, organizationId };
  }

  /**
   * A decoded event's data with what of it lies outside the log; undefined when nothing does. It may be large: for whoever
   * is about to use it, and not to be kept.
   *
   * @param leave what is to be read by `source`, bit by bit
   * @throws ContentLost, ContentUnavailable
   */
  complete<Data extends object>(data: Data, streamId: string, leave?: 'attachments'): Promise<Data> | undefined {
    return this.#protection.complete?.(data as unknown as JsonObject, streamId, leave) as Promise<Data> | undefined;
  }

  /** @throws ContentLost, ContentUnavailable when it cannot be read, as far as can be told beforehand */
  async source(stored: StoredContent, streamId: string): Promise<ContentSource> {
    if (!this.#protection.source) throw new ContentLost(`nothing of ${streamId} can be opened here`);
    return await this.#protection.source(stored, streamId);
  }

  #opened(recorded: RecordedEvent): JsonObject {
    try {
      return this.#protection.open(recorded.type, recorded.data, {
        streamId: recorded.streamId,
        eventId: recorded.id,
      });
    } catch (error) {
      throw new UndecodableEvent(recorded, `what is sealed cannot be opened (${(error as Error).message})`);
    }
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

/** The stream an event goes to, and whose it is; without a subject, its organization's. */
export interface Owner {
  readonly streamId: string;
  readonly subject?: string;
}

const nobody: Owner = { streamId: '' };

/** Of what concerns no person and no destination, or so many that it is nobody's. */
export const subjectOfOrganization = (organizationId: string): string => `organization:${organizationId}`;
export const subjectOfDestination = (destinationId: string): string => `destination:${destinationId}`;

/** Whose an event says itself that it is. */
const ownSubject = ({ keptAs, subject }: { readonly keptAs?: unknown; readonly subject?: unknown }) =>
  typeof keptAs === 'string' ? keptAs : typeof subject === 'string' ? subject : undefined;

/** Everybody whose key the events need. @param subject whose they are, where they do not say so themselves */
export function subjectsOf(events: readonly DomainEvent[], organizationId: string, subject: string): Subject[] {
  const [first] = events;
  if (first?.type !== 'DeliveryRequested') {
    // What needs no key must not make one: somebody may have been erased a moment ago.
    const sealed = events.find(({ type, data }) => isSealed(type, data as JsonObject));
    const whose = sealed && (ownSubject(sealed.data) ?? subject);
    if (whose === undefined || whose === FORGOTTEN) return [];
    const person = personOf(whose);
    return [{ subject: whose, organizationId, ...(person !== undefined && person !== whose && { members: [person] }) }];
  }
  const { subject: own, legs } = first.data as {
    readonly subject?: string;
    readonly legs: readonly { readonly routes: readonly { readonly subject?: string }[] }[];
  };
  const members = new Set<string>();
  for (const { routes } of legs)
    for (const route of routes) if (route.subject !== undefined) members.add(route.subject);
  const whole = own ?? subject;
  if (members.size === 0 || (members.size === 1 && members.has(whole))) return [{ subject: whole, organizationId }];
  const persons = [...members].map((person) => ({
    subject: keptWith(whole, person),
    organizationId,
    members: [person],
  }));
  if (persons.length === 1 && persons[0]?.subject === whole) return persons;
  return [{ subject: whole, organizationId, members: [...members] }, ...persons];
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
