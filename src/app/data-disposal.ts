/** Disposes, hour by hour, of what need not be kept any longer. One instance of several does it at a time. */

import type { Pool } from 'pg';
import type { Retention } from '../commands/retention.js';

const HOUR_MS = 3_600_000;
/** Not at once, when everything else starts too. */
const FIRST_AFTER_MS = 120_000;
const LOCK = `hashtextextended('waybill disposal', 0)`;

export interface DisposalPorts {
  readonly pool: Pool;
  disposed(organizationId: string, retention: string, keys: number): void;
  failed(error: unknown): void;
}

export class DataDisposal {
  readonly #retention: Pick<Retention, 'disposeAll'>;
  readonly #ports: DisposalPorts;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;
  #running: Promise<void> = Promise.resolve();

  constructor(retention: Pick<Retention, 'disposeAll'>, ports: DisposalPorts) {
    this.#retention = retention;
    this.#ports = ports;
  }

  start(): void {
    const round = () => {
      this.#running = this.run(new Date()).finally(() => {
        if (!this.#isStopped) this.#timer = setTimeout(round, HOUR_MS).unref();
      });
    };
    this.#timer = setTimeout(round, FIRST_AFTER_MS).unref();
  }

  /** Resolves when nothing is being destroyed any more; what is left is for the next round. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** One round; never rejects. */
  async run(now: Date): Promise<void> {
    try {
      const client = await this.#ports.pool.connect();
      try {
        const { rows } = await client.query<{ got: boolean }>(`select pg_try_advisory_lock(${LOCK}) as got`);
        if (!rows[0]?.got) return;
        try {
          await this.#round(now);
        } finally {
          await client.query(`select pg_advisory_unlock(${LOCK})`);
        }
      } finally {
        client.release();
      }
    } catch (error) {
      this.#ports.failed(error);
    }
  }

  async #round(now: Date): Promise<void> {
    for (const { organizationId, disposed } of await this.#retention.disposeAll(now))
      for (const { retention, keysDestroyed } of disposed)
        if (keysDestroyed > 0) this.#ports.disposed(organizationId, retention, keysDestroyed);
  }
}
