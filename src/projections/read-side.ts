import { EventEmitter, on } from 'node:events';
import type { DataSource } from 'typeorm';
import { AttemptQueries } from './attempts-query.js';
import { DashboardQueries } from './dashboard-query.js';
import { DeliveryQueries } from './deliveries-query.js';
import { DestinationQueries } from './destinations-query.js';
import type { Rebuild } from './rebuild.js';
import { type DeliveryChange, ProjectionRunner, type RunnerOptions } from './runner.js';

/** Everything that is read: the queries of each read model, and how far the read models are. */
export class ReadSide {
  readonly deliveries: DeliveryQueries;
  readonly attempts: AttemptQueries;
  readonly destinations: DestinationQueries;
  readonly dashboard: DashboardQueries;
  readonly #runner: ProjectionRunner;
  readonly #events = new EventEmitter();

  constructor(
    database: DataSource,
    options: RunnerOptions,
    readonly head: () => Promise<bigint>,
  ) {
    this.deliveries = new DeliveryQueries(database);
    this.attempts = new AttemptQueries(database);
    this.destinations = new DestinationQueries(database);
    this.dashboard = new DashboardQueries(database);
    this.#runner = new ProjectionRunner(options, {
      progress: () => void this.#events.emit('progress'),
      changed: (c: readonly DeliveryChange[]) => void this.#events.emit('changed', c),
      rebuild: (r: Rebuild) => void this.#events.emit('rebuild', r),
    });
    this.#events.setMaxListeners(0);
    this.#runner.start();
  }
  position(name: string): bigint {
    return this.#runner.progress().find((p) => p.name === name)?.position ?? 0n;
  }
  async waitFor(position: bigint, timeoutMs: number): Promise<boolean> {
    const reached = () => this.#runner.progress().every((p) => p.state === 'rebuilding' || p.position >= position);
    if (reached()) return true;
    return await new Promise((resolve) => {
      const done = (ok: boolean) => {
        clearTimeout(timer);
        this.#events.off('progress', look);
        resolve(ok);
      };
      const look = () => reached() && done(true);
      const timer = setTimeout(() => done(false), timeoutMs);
      this.#events.on('progress', look);
    });
  }
  async status() {
    const head = await this.head();
    return this.#runner.progress().map((p) => ({ ...p, head, lagEvents: Number(head - p.position), lagSeconds: 0 }));
  }
  rebuild(name: string) {
    return this.#runner.rebuild(name);
  }
  async *changes(isWanted: (c: DeliveryChange) => boolean): AsyncGenerator<string[]> {
    for await (const [changes] of on(this.#events, 'changed'))
      yield (changes as DeliveryChange[]).filter(isWanted).map((c) => c.id);
  }
  async *rebuilds(): AsyncGenerator<Rebuild> {
    for await (const [rebuild] of on(this.#events, 'rebuild')) yield rebuild as Rebuild;
  }
  problem(): string | undefined {
    return this.#runner.progress().find((p) => p.state === 'failing')?.lastError;
  }
  stop() {
    return this.#runner.stop();
  }
}
