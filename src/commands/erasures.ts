import { setTimeout as delay } from 'node:timers/promises';
import type { EventReader, RecordedEvent } from '../event-store/event-store.js';

/** What follows from one `SubjectErased` or `DataDisposed`, on this instance and in what the instances share. */
export type Forget = (keys: readonly string[], subject: string, organizationId: string) => Promise<void>;

export interface ErasureParts {
  readonly reader: EventReader;
  readonly forget: Forget;
  /** Up to which position everything was forgotten that is to be. */
  readonly load: () => Promise<bigint>;
  readonly save: (position: bigint) => Promise<void>;
  readonly onTrouble: (error: Error) => void;
}

/** Of persons, and of what an organization has disposed of. */
const STREAMS = ['subject-', 'disposal-'];
const RETRY_MS = 1_000;
/** A position is worth a statement only so often: between two of them nothing is missed, only read again. */
const SAVE_EVERY_MS = 10_000;

/**
 * Follows the log for persons that were erased, so that each instance forgets their keys within moments, and so that
 * nobody comes back with an older database: what it holds is compared with the log before anything is opened with it.
 */
export class Erasures {
  readonly #parts: ErasureParts;
  readonly #stop = new AbortController();
  #following: Promise<void> | undefined;
  #position = 0n;
  #savedAt = 0;

  constructor(parts: ErasureParts) {
    this.#parts = parts;
  }

  /** Resolves when everything is forgotten that the log says up to now. @throws when log or database cannot be read */
  async start(): Promise<void> {
    this.#position = await this.#parts.load();
    await this.#follow(true);
    await this.#save();
    this.#following = this.#keepFollowing();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#following;
    await this.#save().catch(() => undefined);
  }

  async #keepFollowing(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await this.#follow(false);
      } catch (error) {
        if (signal.aborted) return;
        this.#parts.onTrouble(error as Error);
        await delay(RETRY_MS, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  async #follow(untilCaughtUp: boolean): Promise<void> {
    const options = { after: this.#position, prefixes: STREAMS, signal: this.#stop.signal };
    for await (const batch of this.#parts.reader.subscribe(options)) {
      for (const event of batch.events) await this.#apply(event);
      this.#position = batch.position;
      if (Date.now() - this.#savedAt > SAVE_EVERY_MS) await this.#save();
      if (untilCaughtUp && batch.caughtUp) return;
    }
  }

  async #apply({ type, data }: RecordedEvent): Promise<void> {
    if (type !== 'SubjectErased' && type !== 'DataDisposed') return;
    const {
      keys,
      subject = '',
      organizationId,
    } = data as unknown as {
      readonly keys: readonly string[];
      readonly subject?: string;
      readonly organizationId: string;
    };
    await this.#parts.forget(keys, subject, organizationId);
  }

  async #save(): Promise<void> {
    this.#savedAt = Date.now();
    await this.#parts.save(this.#position);
  }
}
