import type { EventReader } from '../event-store/event-store.js';
import { readHead, type Sql } from './store.js';

export interface AuditHealthOptions {
  readonly sql: Sql;
  /** Identity of the event log. */
  readonly log: string;
  readonly reader: Pick<EventReader, 'head' | 'eventsBetween'>;
  /** Default 30,000 ms without a new entry although there is something to record. */
  readonly stalledAfterMs?: number;
  /** Default 5,000 ms between two looks. */
  readonly everyMs?: number;
  /** Gets to know when the trail ceases to grow, and when it grows again. */
  readonly tell: (problem: string | undefined) => void;
}

/**
 * Whether the trail grows, seen from outside: by what is stored of it, beside the end of the log. So also a thread that
 * hangs, or another instance that has the lease and does nothing, is no silence that looks like health.
 */
export class AuditHealth {
  readonly #options: Required<AuditHealthOptions>;
  #looking: NodeJS.Timeout | undefined;
  #position = -1n;
  #progressAt = performance.now();
  /** What whoever builds the trail here has said of it. */
  #cause: string | undefined;
  #problem: string | undefined;
  #look: Promise<void> = Promise.resolve();

  constructor(options: AuditHealthOptions) {
    this.#options = { stalledAfterMs: 30_000, everyMs: 5_000, ...options };
  }

  start(): void {
    this.#looking ??= setInterval(() => {
      this.#look = this.#look.then(() => this.look());
    }, this.#options.everyMs).unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.#looking);
    await this.#look;
  }

  /** Why it does not grow here, as far as that is known; undefined when it does. It is for the log, not for everybody. */
  hear(cause: string | undefined): void {
    this.#cause = cause;
  }

  /** Undefined when all is well, or has not been otherwise for long. */
  get problem(): string | undefined {
    return this.#problem;
  }

  async look(): Promise<void> {
    const { sql, log, reader, stalledAfterMs } = this.#options;
    let lag: string | undefined = 'cannot be looked at';
    try {
      const head = await reader.head();
      const position = (await readHead(sql, log))?.position ?? 0n;
      lag = position < head ? `lacks ${reader.eventsBetween(position, head)} events` : undefined;
      if (position > this.#position || lag === undefined) this.#progressAt = performance.now();
      this.#position = position;
    } catch {
      // Who cannot look does not know that it grows.
    }
    const silentMs = performance.now() - this.#progressAt;
    this.#say(silentMs >= stalledAfterMs && lag !== undefined ? lag : undefined, silentMs);
  }

  #say(lag: string | undefined, silentMs: number): void {
    const before = this.#problem;
    this.#problem = lag && `has not grown for ${Math.round(silentMs / 1_000)} s and ${lag}`;
    if ((before === undefined) === (this.#problem === undefined)) return;
    this.#options.tell(this.#problem && (this.#cause ? `${this.#problem}: ${this.#cause}` : this.#problem));
  }
}
