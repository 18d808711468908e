import type { EventStoreLocation } from '../../event-store/event-store.js';
import { Instance, type InstanceOptions } from './instance.js';
import { Latest } from './latest.js';
import type { Rebuild } from './member.js';
import type { Companion } from './messages.js';
import {
  type DeliveryChange,
  type Orders,
  type ProjectionProgress,
  type Runner,
  type RunnerObserver,
  visiblePosition,
} from './runner.js';
import { WorkerRunner } from './worker-runner.js';

export interface HostOptions extends InstanceOptions {
  /**
   * Where the log is: the projections then run in a thread of their own, which reads it there. Without it they run in
   * this thread, which is what tests do: threads do not get their compiler.
   */
  readonly log?: EventStoreLocation;
  /** Shares that thread. */
  readonly companion?: Companion;
  /** Gets to know when a projection fails, and when it is well again. */
  readonly onHealth?: (health: ProjectionHealth) => void;
}

/** A projection that has begun, or ceased, to fail. */
export interface ProjectionHealth {
  readonly name: string;
  readonly isFailing: boolean;
  readonly lastError: string | undefined;
}

/** How often it is looked for those that fall silent. */
const LOOK_MS = 5_000;

export interface ProjectionStatus extends Omit<ProjectionProgress, 'isBehind'> {
  readonly head: bigint;
  /** How many events it has yet to see: exact when they are few or the log counts them, else an estimate. */
  readonly lagEvents: number;
  /** Age of the oldest event it has not stored; 0 when there is none. */
  readonly lagSeconds: number;
}

/** So many events after a position are read to say how many there are and how old the first is. */
const COUNTED = 20;

interface Lag {
  readonly lagEvents: number;
  readonly lagSeconds: number;
}

interface Waiter {
  readonly position: bigint;
  readonly done: (reached: boolean) => void;
}

/** The projections, seen from the thread that answers queries. */
export class ProjectionHost {
  /** Resolves once it is known how far the projections are. */
  readonly ready: Promise<void>;
  readonly #options: HostOptions;
  readonly #runner: Runner;
  readonly #waiters = new Set<Waiter>();
  readonly #changes = new Set<{ isWanted: (change: DeliveryChange) => boolean; queue: Latest<DeliveryChange> }>();
  readonly #rebuilds = new Set<Latest<Rebuild>>();
  readonly #failing = new Set<string>();
  #looking: NodeJS.Timeout | undefined;
  #isReady = false;

  constructor(options: HostOptions) {
    this.#options = options;
    let ready = () => {};
    this.ready = new Promise((resolve) => {
      ready = resolve;
    });
    const observer: RunnerObserver = {
      progress: () => {
        if (!this.#isReady && this.#runner.progress().some(({ state }) => state !== 'failing')) {
          this.#isReady = true;
          ready();
        }
        this.#tellHealth();
        this.#release();
      },
      changed: (deliveries) => this.#announce(deliveries),
      rebuild: (rebuild) => {
        for (const queue of this.#rebuilds) queue.push(rebuild.id, rebuild);
      },
    };
    const { log, companion, reader: _, codec: __, projections: ___, onHealth: ____, ...settings } = options;
    this.#runner =
      log === undefined ? new Instance(options, observer) : new WorkerRunner({ log, ...settings }, observer, companion);
  }

  start(): void {
    this.#runner.start();
    this.#looking ??= setInterval(() => this.#tellHealth(), LOOK_MS).unref();
  }

  /** Finishes the batches at hand. Nobody waits any longer afterwards. */
  async stop(): Promise<void> {
    clearInterval(this.#looking);
    await this.#runner.stop();
    for (const { done } of this.#waiters) done(false);
    for (const { queue } of this.#changes) await queue.return();
    for (const queue of this.#rebuilds) await queue.return();
  }

  progress(): readonly ProjectionProgress[] {
    return this.#runner.progress();
  }

  /**
   * Up to where everything is visible: in the named projection, or in all but those that lag far behind or are rebuilt,
   * for which nobody can wait. 0n before the projections are ready.
   */
  position(name?: string): bigint {
    const progress = this.#runner.progress();
    if (name === undefined) return visiblePosition(progress);
    return progress.find((projection) => projection.name === name)?.position ?? 0n;
  }

  /** Read-your-writes. @returns whether `position` was visible (see above) in time */
  async waitFor(position: bigint, timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    if (this.position() >= position) return true;
    if (signal?.aborted || timeoutMs <= 0) return false;
    return await new Promise((resolve) => {
      const done = (reached: boolean) => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', giveUp);
        this.#waiters.delete(waiter);
        if (this.#waiters.size === 0) this.#runner.hasten(false);
        resolve(reached);
      };
      const giveUp = () => done(false);
      const timer = setTimeout(giveUp, timeoutMs);
      signal?.addEventListener('abort', giveUp, { once: true });
      const waiter = { position, done };
      this.#waiters.add(waiter);
      if (this.#waiters.size === 1) this.#runner.hasten(true);
    });
  }

  async status(): Promise<ProjectionStatus[]> {
    const progress = this.#runner.progress();
    const head = await this.#options.reader.head();
    const lags = new Map<bigint, Promise<Lag>>();
    for (const { position } of progress) if (!lags.has(position)) lags.set(position, this.#lag(position, head));
    return await Promise.all(
      progress.map(
        async ({ isBehind: _, ...known }) =>
          ({ head, ...(await lags.get(known.position)), ...known }) as ProjectionStatus,
      ),
    );
  }

  /** What operators may ask for. */
  get orders(): Orders {
    return this.#runner;
  }

  /**
   * Deliveries whose read model has changed, from now on, until `signal` aborts or the loop is left. Each delivery once
   * per step, however often it changed since the last one. A consumer that is much too slow gets an error.
   */
  changes(
    isWanted: (change: DeliveryChange) => boolean,
    signal?: AbortSignal,
  ): AsyncIterableIterator<DeliveryChange[]> {
    const queue = new Latest<DeliveryChange>(() => {
      this.#changes.delete(watcher);
      if (this.#changes.size === 0) this.#runner.watch(false);
    }, signal);
    const watcher = { isWanted, queue };
    if (!signal?.aborted) this.#changes.add(watcher);
    if (this.#changes.size === 1) this.#runner.watch(true, this.#isReady ? this.position() : undefined);
    return queue;
  }

  /** How rebuilds get on, from now on; as `changes`. */
  rebuilds(signal?: AbortSignal): AsyncIterableIterator<Rebuild[]> {
    const queue = new Latest<Rebuild>(() => this.#rebuilds.delete(queue), signal);
    if (!signal?.aborted) this.#rebuilds.add(queue);
    return queue;
  }

  #tellHealth(): void {
    const { onHealth } = this.#options;
    if (!onHealth) return;
    for (const { name, state, lastError } of this.#runner.progress()) {
      const isFailing = state === 'failing';
      if (isFailing === this.#failing.has(name)) continue;
      if (isFailing) this.#failing.add(name);
      else this.#failing.delete(name);
      onHealth({ name, isFailing, lastError });
    }
  }

  async #lag(position: bigint, head: bigint): Promise<Lag> {
    if (position >= head) return { lagEvents: 0, lagSeconds: 0 };
    const { reader } = this.#options;
    const next = await reader.readAll(position, COUNTED);
    const isAll = (next.at(-1)?.position ?? 0n) >= head;
    return {
      lagEvents: isAll ? next.filter((event) => event.position <= head).length : reader.eventsBetween(position, head),
      lagSeconds: next[0] ? Math.max(0, Date.now() - Date.parse(next[0].created)) / 1_000 : 0,
    };
  }

  #release(): void {
    if (this.#waiters.size === 0) return;
    const visible = this.position();
    for (const { position, done } of this.#waiters) if (position <= visible) done(true);
  }

  #announce(deliveries: readonly DeliveryChange[]): void {
    for (const { isWanted, queue } of this.#changes)
      for (const change of deliveries) if (isWanted(change)) queue.push(change.id, change);
  }
}
