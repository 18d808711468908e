import type { Instant } from '../domain/vocabulary.js';
import { parseCheckpoint, type SignedCheckpoint } from './checkpoint.js';

/** Somewhere outside the database where checkpoints are kept. */
export interface CheckpointPublisher {
  /** For an operator. */
  readonly name: string;
  /** Default 0: every checkpoint. So long at least between two. */
  readonly everyMs?: number;
  /** @param keys verifier keys it can be checked with. @throws when it is not kept; it is tried again */
  publish(checkpoint: SignedCheckpoint, keys: readonly string[], signal: AbortSignal): Promise<void>;
}

export interface PublicationLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 300_000;

/**
 * Has each checkpoint published everywhere. One place that fails delays no other, and gets the newest as soon as it
 * works again: a checkpoint proves everything before it, so those it has missed need not be made up for.
 */
export class Publications {
  readonly #places: readonly Place[];
  readonly #stopping = new AbortController();

  constructor(publishers: readonly CheckpointPublisher[], keys: () => Promise<readonly string[]>, log: PublicationLog) {
    const { signal } = this.#stopping;
    this.#places = publishers.map((publisher) => new Place(publisher, keys, log, signal));
  }

  offer(note: string): void {
    const checkpoint = parseCheckpoint(note);
    for (const place of this.#places) place.offer(checkpoint);
  }

  /** Places that lack the newest checkpoint because they did not take it, and since when; it is tried on. */
  get failing(): readonly { readonly name: string; readonly since: Instant }[] {
    return this.#places.flatMap(({ name, failingSince }) => (failingSince ? [{ name, since: failingSince }] : []));
  }

  /** Those being published are given up after `graceMs`. */
  async stop(graceMs = 2_000): Promise<void> {
    for (const place of this.#places) place.hurry();
    const timer = setTimeout(() => this.#stopping.abort(), graceMs);
    await Promise.all(this.#places.map((place) => place.idle));
    clearTimeout(timer);
  }
}

class Place {
  idle: Promise<void> = Promise.resolve();
  failingSince: Instant | undefined;
  readonly #publisher: CheckpointPublisher;
  readonly #keys: () => Promise<readonly string[]>;
  readonly #log: PublicationLog;
  readonly #signal: AbortSignal;
  #waiting: SignedCheckpoint | undefined;
  #isBusy = false;
  #isHurried = false;
  #publishedAt = Number.NEGATIVE_INFINITY;
  #wake = () => {};

  constructor(
    publisher: CheckpointPublisher,
    keys: () => Promise<readonly string[]>,
    log: PublicationLog,
    signal: AbortSignal,
  ) {
    this.#publisher = publisher;
    this.#keys = keys;
    this.#log = log;
    this.#signal = signal;
  }

  get name(): string {
    return this.#publisher.name;
  }

  offer(checkpoint: SignedCheckpoint): void {
    this.#waiting = checkpoint;
    if (this.#isBusy || checkpoint.size === 0) return;
    this.#isBusy = true;
    this.idle = this.#publish().finally(() => {
      this.#isBusy = false;
    });
  }

  /** One last attempt, and no more pauses. */
  hurry(): void {
    this.#isHurried = true;
    this.#wake();
  }

  async #publish(): Promise<void> {
    for (let failures = 0; this.#waiting; ) {
      const { name, everyMs = 0 } = this.#publisher;
      await this.#rest(this.#publishedAt + everyMs - performance.now());
      // One that is to come rarely is not sent early because the instance stops.
      if (this.#isHurried && this.#publishedAt + everyMs > performance.now()) return;
      const checkpoint = this.#waiting;
      this.#waiting = undefined;
      try {
        await this.#publisher.publish(checkpoint, await this.#keys(), this.#signal);
        this.#publishedAt = performance.now();
        failures = 0;
        if (this.failingSince)
          this.#log.info({ place: name, size: checkpoint.size }, 'checkpoints of the audit trail are published again');
        this.failingSince = undefined;
      } catch (error) {
        this.failingSince ??= new Date().toISOString();
        this.#waiting ??= checkpoint;
        this.#log.warn({ err: error, place: name }, 'a checkpoint of the audit trail could not be published');
        if (this.#isHurried) return;
        await this.#rest(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures++, 10)));
      }
    }
  }

  #rest(ms: number): Promise<void> {
    return new Promise((resolve) => {
      if (ms <= 0 || this.#isHurried) return resolve();
      const timer = setTimeout(done, ms);
      timer.unref();
      function done() {
        clearTimeout(timer);
        resolve();
      }
      this.#wake = done;
    });
  }
}
