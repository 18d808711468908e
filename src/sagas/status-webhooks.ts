import { setTimeout as delay } from 'node:timers/promises';
import type { RequestDeliveryInput } from '../commands/delivery-input.js';
import type { DestinationDirectory } from '../commands/destination-directory.js';
import type { Requester } from '../commands/intake.js';
import { delivery } from '../domain/delivery.js';
import type { DeliveryEvent } from '../domain/delivery-events.js';
import type { DeliveryState } from '../domain/delivery-state.js';
import { STATUS_ACTOR, statusEventOf, statusReport } from '../domain/status-events.js';
import { type Content, type JsonObject, STATUS_EVENTS, type StatusEvent } from '../domain/vocabulary.js';
import type { EventCodec } from '../event-store/codec.js';
import type { EventReader, RecordedEvent } from '../event-store/event-store.js';
import type { EngineLog } from './engine-log.js';
import type { StatusProgress, StatusWebhookStore, Subscriber } from './status-webhook-store.js';

export interface StatusWebhookParts {
  readonly reader: EventReader;
  readonly codec: EventCodec;
  readonly store: StatusWebhookStore;
  readonly directory: Pick<DestinationDirectory, 'find' | 'forget'>;
  /** Requests a delivery, once for each idempotency key. @returns why not, when it was refused */
  readonly request: (input: RequestDeliveryInput, requester: Requester) => Promise<string | undefined>;
  readonly log: EngineLog;
}

const DESTINATIONS = 'destination-';
const DELIVERIES = 'delivery-';
/** Events that change a status, or are engagement. All others are passed over unread. */
const TELLING: ReadonlySet<string> = new Set<DeliveryEvent['type']>([
  ...(['DeliveryRequested', 'DependencyFailed', 'ApprovalRejected', 'ApprovalTimedOut'] as const),
  ...(['AttemptSucceeded', 'AttemptInDoubt', 'AttemptResolved', 'Delivered', 'Bounced', 'LegDeadLettered'] as const),
  ...(['DeliveryCancelled', 'DeliveryExpired', 'Opened', 'Clicked', 'Complained', 'OptedOut'] as const),
]);
const RETRY_MS = 1_000;
const SAVE_EVERY_MS = 1_000;
/** Well within the lease, also when nothing happens. */
const RENEW_EVERY_MS = 5_000;
/** Requests at once. */
const AT_ONCE = 32;
/** One event that cannot be told again and again does not keep the others from being told. */
const MAX_TRIES = 5;
/** After that, nobody waits for news. */
const NEWS_FOR_MS = 3 * 86_400_000;

/**
 * Tells subscribers by webhook what becomes of their organization's deliveries. Each message is a delivery itself, so it is
 * signed, retried and limited as any other, and a subscriber that fails holds up no one. The position in the log is
 * stored behind what was requested; what is told again after a crash has the same idempotency key, so it is one
 * delivery still. While nobody subscribes, only the destinations are followed.
 */
export class StatusWebhooks {
  readonly #parts: StatusWebhookParts;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #position = 0n;
  #subscribers = new Map<string, Subscriber>();
  #savedAtMs = 0;
  /** Failures of an event, by position; none of them outlives the batch. */
  readonly #failures = new Map<bigint, number>();

  constructor(parts: StatusWebhookParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        const progress = await this.#parts.store.claim();
        if (progress) await this.#lead(progress);
        else await pause(RENEW_EVERY_MS, signal);
      } catch (error) {
        if (signal.aborted) break;
        this.#parts.log.warn('status webhooks have to wait; it will try again', { err: error });
        await pause(RETRY_MS, signal);
      }
    }
    await this.#parts.store.release().catch(() => undefined);
  }

  /** Until the lease is lost, or it is stopped. */
  async #lead({ position, subscribers }: StatusProgress): Promise<void> {
    this.#position = position;
    this.#subscribers = new Map(subscribers);
    const lost = new AbortController();
    const signal = AbortSignal.any([this.#stop.signal, lost.signal]);
    const timer = setInterval(
      () =>
        void this.#save().then(
          (isMine) => isMine || lost.abort(),
          () => undefined,
        ),
      RENEW_EVERY_MS,
    );
    try {
      while (!signal.aborted) await this.#follow(signal);
      if (!lost.signal.aborted) await this.#save();
    } finally {
      clearInterval(timer);
    }
  }

  /** Returns when the streams to be followed are others from now on. */
  async #follow(signal: AbortSignal): Promise<void> {
    const hears = this.#subscribers.size > 0;
    const prefixes = hears ? [DESTINATIONS, DELIVERIES] : [DESTINATIONS];
    for await (const batch of this.#parts.reader.subscribe({ after: this.#position, prefixes, signal })) {
      let told: Promise<void>[] = [];
      for (const event of batch.events) {
        if (signal.aborted) return;
        const isDestination = event.streamId.startsWith(DESTINATIONS);
        if (isDestination || told.length >= AT_ONCE) {
          await ended(told);
          told = [];
        }
        if (isDestination) await this.#subscribe(event);
        else if (TELLING.has(event.type)) told.push(this.#tell(event));
        if (this.#subscribers.size > 0 !== hears) {
          this.#position = event.position;
          return;
        }
      }
      await ended(told);
      this.#position = batch.position;
      this.#failures.clear();
      if (performance.now() - this.#savedAtMs > SAVE_EVERY_MS && !(await this.#save())) return;
    }
  }

  async #save(): Promise<boolean> {
    this.#savedAtMs = performance.now();
    return await this.#parts.store.save({ position: this.#position, subscribers: this.#subscribers });
  }

  async #subscribe({ streamId }: RecordedEvent): Promise<void> {
    const id = streamId.slice(DESTINATIONS.length);
    // Perhaps it has not heard of the change yet.
    this.#parts.directory.forget(id);
    const found = await this.#parts.directory.find(id);
    const wishes = found?.disabled === undefined ? wishesIn(found?.config) : undefined;
    if (found && wishes) this.#subscribers.set(id, { organizationId: found.definition.organizationId, ...wishes });
    else this.#subscribers.delete(id);
  }

  async #tell(recorded: RecordedEvent): Promise<void> {
    const { organizationId } = recorded.metadata;
    const subscribers = [...this.#subscribers].filter(([, each]) => each.organizationId === organizationId);
    if (organizationId === undefined || subscribers.length === 0) return;
    try {
      const news = await this.#newsOf(recorded);
      if (!news) return;
      for (const [id, { events, approvals }] of subscribers) {
        const { event, report, approval } = news;
        const told = { type: `delivery.${event?.toLowerCase()}`, delivery: report };
        if (event && events.includes(event)) await this.#request(id, organizationId, recorded, { data: told });
        if (approval && approvals) await this.#request(id, organizationId, recorded, { data: { approval } });
      }
    } catch (error) {
      const failures = (this.#failures.get(recorded.position) ?? 0) + 1;
      this.#failures.set(recorded.position, failures);
      if (this.#stop.signal.aborted || isOfSurroundings(error) || failures < MAX_TRIES) throw error;
      const place = { streamId: recorded.streamId, revision: recorded.revision };
      this.#parts.log.error('an event is told to no subscriber, as that fails each time', { err: error, ...place });
    }
  }

  async #newsOf(recorded: RecordedEvent): Promise<News | undefined> {
    const { reader, codec } = this.#parts;
    const stream = (await reader.readStream(recorded.streamId)).filter(({ revision }) => revision <= recorded.revision);
    if (stream[0]?.metadata.actor === STATUS_ACTOR) return undefined;
    const fold = (events: readonly RecordedEvent[]) =>
      codec.fold<DeliveryState, DeliveryEvent>(events, delivery.evolve, delivery.initial);
    const after = fold(stream);
    const event = statusEventOf(fold(stream.slice(0, -1)), recorded as Pick<DeliveryEvent, 'type'>, after);
    const approval = recorded.type === 'DeliveryRequested' ? approvalOf(after) : undefined;
    if ((event === undefined && !approval) || after.tag === 'absent') return undefined;
    const { revision, metadata } = recorded;
    const { $correlationId: correlationId, occurredAt } = metadata;
    const at = occurredAt ?? recorded.created;
    const about = { revision, at, ...(correlationId !== undefined && { correlationId }) };
    const id = recorded.streamId.slice(DELIVERIES.length);
    return {
      report: statusReport(id, after, about),
      ...(event && { event }),
      ...(approval && { approval: { deliveryId: id, ...approval } }),
    };
  }

  async #request(id: string, organizationId: string, recorded: RecordedEvent, content: Content): Promise<void> {
    const refused = await this.#parts.request(
      {
        idempotencyKey: `${STATUS_ACTOR}/${id}/${recorded.id}`,
        to: [{ destinationId: id }],
        content,
        priority: 'LOW',
        expiresAt: new Date(Date.parse(recorded.created) + NEWS_FOR_MS),
        tags: [STATUS_ACTOR],
      },
      { actor: STATUS_ACTOR, organizationId },
    );
    if (refused !== undefined)
      this.#parts.log.info('a status webhook was not sent', { destination: id, reason: refused });
  }
}

interface News {
  readonly event?: StatusEvent;
  readonly report: JsonObject;
  /** What waits for somebody's approval from now on. */
  readonly approval?: JsonObject;
}

/** What a destination wants to hear of by itself: status events of a webhook, approvals of Slack. */
function wishesIn(config: JsonObject | undefined): Pick<Subscriber, 'events' | 'approvals'> | undefined {
  const webhook = config?.webhook as { readonly statusEvents?: readonly string[] } | undefined;
  const slack = config?.slack as { readonly approvals?: object } | undefined;
  const events = STATUS_EVENTS.filter((event) => webhook?.statusEvents?.includes(event));
  const approvals = slack?.approvals !== undefined;
  return events.length > 0 || approvals ? { events, approvals } : undefined;
}

function approvalOf(state: DeliveryState): JsonObject | undefined {
  const approval = state.tag === 'held' ? state.holds.approval : undefined;
  if (!approval || state.tag !== 'held') return undefined;
  const { minimum, approvers, deadline } = approval;
  const channels = new Set(
    state.legs.map((leg) => leg.routes[leg.route]?.channel).filter((each) => each !== undefined),
  );
  return {
    ...{ minimum, approvers: approvers.length, channels: [...channels] },
    ...(deadline !== undefined && { deadline }),
  };
}

/** Log and database say by a code that they cannot be reached; that ends some time, a defect does not. */
const isOfSurroundings = (error: unknown): boolean => (error as { readonly code?: unknown }).code !== undefined;

/** Nothing is left under way when one of them has failed. */
async function ended(told: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(told)).find(({ status }) => status === 'rejected');
  if (failed?.status === 'rejected') throw failed.reason;
}

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  delay(ms, undefined, { signal }).catch(() => undefined);
