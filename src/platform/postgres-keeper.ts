import { setTimeout as wait } from 'node:timers/promises';
import type { Server } from './postgres-server.js';

export interface Log {
  info(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
/** A server that has lived this long does not die of what it does first: the pauses begin with the shortest again. */
const HEALTHY_AFTER_MS = 30_000;
/** A start that fails, fails every few seconds in the same way: a full disk, most likely. */
const COMPLAIN_EVERY_MS = 60_000;

/**
 * Starts a server again whenever it dies, in pauses that double from 100 ms to 5 s, for as long as it takes: everything
 * else in Waybill goes on without its database, and tries again by itself.
 */
export class Keeper {
  #server: Server;
  readonly #start: (signal: AbortSignal) => Promise<Server>;
  readonly #log: Log;
  readonly #stopping = new AbortController();
  #recovery: Promise<void> = Promise.resolve();
  #startedAt = performance.now();
  /** In a row, of servers that did not live long. */
  #deaths = 0;

  /**
   * @param server the one that runs
   * @param start makes the next one, at the same address; `signal` ends the start
   */
  constructor(server: Server, start: (signal: AbortSignal) => Promise<Server>, log: Log) {
    this.#server = server;
    this.#start = start;
    this.#log = log;
    this.#watch();
  }

  /** The newest; it may have died a moment ago. */
  get server(): Server {
    return this.#server;
  }

  /** From now on none is started any more. Returns when none is being started either; one may still run. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#recovery;
  }

  #watch(): void {
    void this.#server.ended().then((how) => {
      if (!this.#stopping.signal.aborted) this.#recovery = this.#recover(how);
    });
  }

  async #recover(how: string | undefined): Promise<void> {
    const diedAt = performance.now();
    this.#deaths = diedAt - this.#startedAt > HEALTHY_AFTER_MS ? 1 : this.#deaths + 1;
    this.#log.error({ pid: this.#server.pid, how }, 'PostgreSQL ended by itself and is started again');
    const next = await this.#next();
    if (!next) return;
    this.#server = next;
    this.#startedAt = performance.now();
    this.#log.info({ pid: next.pid, outageMs: Math.round(this.#startedAt - diedAt) }, 'PostgreSQL is back');
    this.#watch();
  }

  /** @returns undefined when stopped meanwhile */
  async #next(): Promise<Server | undefined> {
    const { signal } = this.#stopping;
    let complainedAt = Number.NEGATIVE_INFINITY;
    for (let troubles = this.#deaths; ; troubles++) {
      await wait(pauseMs(troubles), undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return undefined;
      try {
        return await this.#start(signal);
      } catch (error) {
        if (signal.aborted) return undefined;
        if (performance.now() - complainedAt < COMPLAIN_EVERY_MS) continue;
        complainedAt = performance.now();
        this.#log.error({ err: error }, `${(error as Error).message}; it is tried again until it does`);
      }
    }
  }
}

const pauseMs = (troubles: number): number =>
  Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(troubles - 1, 10));
