import { setImmediate as nextTurn } from 'node:timers/promises';
import type { RecordedEvent, SubscribeOptions, SubscriptionBatch } from '../event-store.js';
import type { ReadCall } from './connection.js';
import { isTransient, NoAnswer, Silence } from './errors.js';
import { type ReadMessage, subscribeRequest } from './read-messages.js';
import { MAX_BATCH_BYTES } from './reads.js';
import { pause } from './waiting.js';

/** What a subscription needs of the event store. */
export interface SubscriptionSource {
  readonly lookAfterMs: number;
  readonly stalledAfterMs: number;
  open(request: Buffer): Promise<{ readonly call: ReadCall; failed(error: unknown): void }>;
  head(): Promise<bigint>;
  isAnythingAfter(position: bigint, prefixes: readonly string[] | undefined): Promise<boolean>;
  onTrouble(error: Error): void;
}

const DEFAULT_BATCH = 500;

/**
 * One subscription, over as many calls as it takes: after a call that ends, fails or falls silent the next one begins
 * where the consumer is.
 *
 * The server filters. It says how far it has looked only now and then, so when nothing has come for a while the
 * subscription looks for itself: nothing wanted up to the head means that it is there, something that does not come
 * means that the call has stalled.
 */
export class Subscription {
  readonly #options: SubscribeOptions;
  readonly #source: SubscriptionSource;
  #position: bigint;
  #isCaughtUp = false;

  constructor(options: SubscribeOptions, source: SubscriptionSource) {
    this.#options = options;
    this.#source = source;
    this.#position = options.after;
  }

  /** Ends when the signal aborts, and only then. */
  async *batches(): AsyncGenerator<SubscriptionBatch> {
    const { signal, prefixes, batchSize = DEFAULT_BATCH } = this.#options;
    for (let failures = 0; !signal.aborted; failures++) {
      let feed: Feed | undefined;
      try {
        const head = await this.#source.head();
        const { call, failed } = await this.#source.open(subscribeRequest(this.#position, prefixes));
        feed = new Feed(call, failed, batchSize);
        this.#isCaughtUp = false;
        for await (const batch of this.#follow(feed, head)) {
          if (feed.hasBrought) failures = 0;
          yield batch;
        }
      } catch (error) {
        if (signal.aborted) return;
        feed?.failed(error);
        // The connection tells of what has become of it.
        if (!isTransient(error)) this.#source.onTrouble(error as Error);
      } finally {
        feed?.cancel();
      }
      await pause(failures, signal);
    }
  }

  /** @param head what was the newest position before the call began */
  async *#follow(feed: Feed, head: bigint): AsyncGenerator<SubscriptionBatch> {
    const { signal } = this.#options;
    const { lookAfterMs, stalledAfterMs } = this.#source;
    let heardAt = performance.now();
    if (this.#position >= head) yield this.#caughtUp();
    for (;;) {
      await feed.news(lookAfterMs, signal);
      if (signal.aborted) return;
      const messages = feed.take();
      if (messages.length > 0) {
        const batch = this.#batch(messages, head);
        if (batch) yield batch;
        heardAt = performance.now();
      } else if (await this.#isThere()) {
        heardAt = performance.now();
        if (!this.#isCaughtUp) yield this.#caughtUp();
      } else if (performance.now() - heardAt >= stalledAfterMs) {
        throw new Silence(`a subscription was given nothing for ${stalledAfterMs} ms although there is something`);
      }
    }
  }

  #batch(messages: readonly ReadMessage[], head: bigint): SubscriptionBatch | undefined {
    const before = this.#position;
    const wasCaughtUp = this.#isCaughtUp;
    const events: RecordedEvent[] = [];
    for (const message of messages)
      if (message.kind === 'event') {
        // What came by an earlier call may come again.
        if (message.event.position <= this.#position) continue;
        this.#position = message.event.position;
        if (this.#isWanted(message.event)) events.push(message.event);
      } else if (message.kind === 'checkpoint') {
        if (message.position > this.#position) this.#position = message.position;
      } else if (message.kind === 'caught-up') this.#isCaughtUp = true;
      else if (message.kind === 'fell-behind') this.#isCaughtUp = false;
    // Servers before version 23.10 do not say that a subscription has caught up.
    if (before < head && this.#position >= head) this.#isCaughtUp = true;
    if (this.#position === before && this.#isCaughtUp === wasCaughtUp) return undefined;
    return { events, position: this.#position, caughtUp: this.#isCaughtUp };
  }

  #caughtUp(): SubscriptionBatch {
    this.#isCaughtUp = true;
    return { events: [], position: this.#position, caughtUp: true };
  }

  /** Whether there is nothing more to be given; then the position is that of the newest event, wanted or not. */
  async #isThere(): Promise<boolean> {
    const { prefixes } = this.#options;
    const head = await this.#source.head();
    if (head <= this.#position) return true;
    if (prefixes?.length !== 0 && (await this.#source.isAnythingAfter(this.#position, prefixes))) return false;
    this.#position = head;
    this.#isCaughtUp = false;
    return true;
  }

  #isWanted({ streamId }: RecordedEvent): boolean {
    const { prefixes } = this.#options;
    return !prefixes || prefixes.some((prefix) => streamId.startsWith(prefix));
  }
}

/** What a call has brought and nobody has taken: at most a batch, then the server has to wait. */
class Feed {
  readonly failed: (error: unknown) => void;
  hasBrought = false;
  readonly #call: ReadCall;
  readonly #most: number;
  #messages: ReadMessage[] = [];
  #bytes = 0;
  #end: unknown;
  #hear = () => {};

  constructor(call: ReadCall, failed: (error: unknown) => void, most: number) {
    this.failed = failed;
    this.#call = call;
    this.#most = most;
    call.on('data', (message) => {
      this.hasBrought = true;
      this.#messages.push(message);
      if (message.kind === 'event') this.#bytes += message.bytes;
      if (this.#messages.length >= this.#most || this.#bytes >= MAX_BATCH_BYTES) call.pause();
      this.#hear();
    });
    const end = (error: unknown) => {
      this.#end ??= error;
      this.#hear();
    };
    call.on('error', end);
    call.on('end', () => end(new NoAnswer('the event store ended a subscription')));
  }

  /** Waits until something has come, the call has ended, the time is over or the signal aborts. */
  async news(timeoutMs: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted || this.#messages.length > 0 || this.#end !== undefined) return;
    await new Promise<void>((resolve) => {
      this.#hear = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', this.#hear);
        this.#hear = () => {};
        resolve();
      };
      const timer = setTimeout(this.#hear, timeoutMs);
      signal.addEventListener('abort', this.#hear, { once: true });
    });
    // What came in the same piece of data comes along.
    if (this.#messages.length > 0) await nextTurn();
  }

  /** @throws the call's error, when it has failed and all it brought was taken */
  take(): readonly ReadMessage[] {
    const messages = this.#messages;
    if (messages.length === 0 && this.#end !== undefined) throw this.#end;
    this.#messages = [];
    this.#bytes = 0;
    if (this.#call.isPaused()) this.#call.resume();
    return messages;
  }

  cancel(): void {
    this.#call.cancel();
  }
}
