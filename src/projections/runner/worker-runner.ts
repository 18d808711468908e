import { Worker } from 'node:worker_threads';
import type { Projection } from '../projection.js';
import { projections } from '../registry.js';
import { Superseded } from './checkpoints.js';
import type { Rebuild } from './member.js';
import type { Companion, FromWorker, ToWorker, WorkerSettings } from './messages.js';
import { NotParked } from './parking.js';
import { RebuildConflict, RebuildUnavailable, UnknownProjection } from './rebuild.js';
import type { Orders, ProjectionProgress, Runner, RunnerObserver } from './runner.js';

const ENTRY = new URL('../../app/log-follower.js', import.meta.url);
/** Batches live shortly but longer than the usual 16 MiB of young objects: with room, half of the collecting goes. */
const YOUNG_GENERATION_MB = 64;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
/** A thread that has lived this long had no trouble starting. */
const HEALTHY_AFTER_MS = 30_000;

/** A thread that has said nothing for so long, which it never does of its own accord, hangs. */
const SILENT_MS = 30_000;

/** The runner in a thread of its own, which is started again when it dies. */
export class WorkerRunner implements Runner {
  readonly #settings: Omit<WorkerSettings, 'beside'>;
  readonly #companion: Companion | undefined;
  readonly #observer: RunnerObserver;
  readonly #requests = new Map<number, { resolve(answer: never): void; reject(error: Error): void }>();
  #worker: Worker | undefined;
  #ended: Promise<void> = Promise.resolve();
  #restart: NodeJS.Timeout | undefined;
  #progress: readonly ProjectionProgress[] = projections.map(unknownYet);
  /** Whether anybody wants to know of changes, and what they know already. */
  #watch: ToWorker & { type: 'watch' } = { type: 'watch', isWanted: false, after: undefined };
  #hasten: ToWorker & { type: 'hasten' } = { type: 'hasten', isAwaited: false };
  #heardAt = performance.now();
  #isStopping = false;
  #deaths = 0;
  #nextRequest = 1;

  constructor(settings: Omit<WorkerSettings, 'beside'>, observer: RunnerObserver, companion?: Companion) {
    this.#settings = settings;
    this.#companion = companion;
    this.#observer = observer;
  }

  start(): void {
    if (this.#worker || this.#isStopping) return;
    const startedAt = Date.now();
    const beside = this.#companion?.();
    const worker = new Worker(ENTRY, {
      workerData: { ...this.#settings, beside } satisfies WorkerSettings,
      transferList: beside ? [beside.port] : [],
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    });
    this.#worker = worker;
    this.#heardAt = performance.now();
    this.#send(this.#watch);
    this.#send(this.#hasten);
    this.#watchOver(worker);
    let cause = 'it ended unexpectedly';
    worker.on('message', (message: FromWorker) => this.#hear(message));
    worker.on('error', (error) => {
      cause = error.message;
    });
    this.#ended = new Promise((resolve) =>
      worker.once('exit', () => {
        this.#worker = undefined;
        resolve();
        if (this.#isStopping) return;
        this.#deaths = Date.now() - startedAt > HEALTHY_AFTER_MS ? 1 : this.#deaths + 1;
        this.#mourn(new Error(`the projection thread has died: ${cause}`));
      }),
    );
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    clearTimeout(this.#restart);
    this.#send({ type: 'stop' });
    await this.#ended;
    this.#refuseAll(new Error('the projections are stopped'));
  }

  /** One that hangs is ended, which starts it again: only what dies is counted, and then done with care. */
  #watchOver(worker: Worker): void {
    const look = setInterval(() => {
      if (performance.now() - this.#heardAt >= SILENT_MS * 2) void worker.terminate();
    }, SILENT_MS / 2);
    look.unref();
    worker.once('exit', () => clearInterval(look));
  }

  progress(): readonly ProjectionProgress[] {
    const silentMs = performance.now() - this.#heardAt;
    if (silentMs < SILENT_MS || !this.#worker) return this.#progress;
    return failing(this.#progress, `the projection thread has said nothing for ${Math.round(silentMs / 1_000)} s`);
  }

  watch(isWanted: boolean, after?: bigint): void {
    this.#watch = { type: 'watch', isWanted, after };
    this.#send(this.#watch);
  }

  hasten(isAwaited: boolean): void {
    this.#hasten = { type: 'hasten', isAwaited };
    this.#send(this.#hasten);
  }

  rebuild(...about: Parameters<Orders['rebuild']>): Promise<Rebuild> {
    return this.#order('rebuild', about);
  }

  rebuildAll(...about: Parameters<Orders['rebuildAll']>): Promise<Rebuild[]> {
    return this.#order('rebuildAll', about);
  }

  cancelRebuild(...about: Parameters<Orders['cancelRebuild']>): Promise<Rebuild> {
    return this.#order('cancelRebuild', about);
  }

  retryParked(...about: Parameters<Orders['retryParked']>): Promise<number> {
    return this.#order('retryParked', about);
  }

  skipParked(...about: Parameters<Orders['skipParked']>): Promise<void> {
    return this.#order('skipParked', about);
  }

  #order<Answer>(order: keyof Orders, about: readonly unknown[]): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (!this.#worker) return reject(new RebuildUnavailable('the projection thread is not running'));
      const request = this.#nextRequest++;
      this.#requests.set(request, { resolve, reject });
      this.#send({ type: 'order', request, order, about });
    });
  }

  #send(message: ToWorker): void {
    this.#worker?.postMessage(message);
  }

  #hear(message: FromWorker): void {
    this.#heardAt = performance.now();
    switch (message.type) {
      case 'progress':
        this.#progress = message.projections;
        this.#observer.progress?.();
        return;
      case 'changed':
        this.#observer.changed?.(message.deliveries);
        return;
      case 'rebuild':
        this.#observer.rebuild?.(message.rebuild);
        return;
      case 'answered':
        this.#requests.get(message.request)?.resolve(message.answer as never);
        break;
      case 'refused':
        this.#requests.get(message.request)?.reject(errorOf(message.error));
    }
    this.#requests.delete(message.request);
  }

  #mourn(error: Error): void {
    this.#progress = failing(this.#progress, error.message);
    this.#observer.progress?.();
    this.#refuseAll(error);
    const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(this.#deaths - 1, 10));
    this.#restart = setTimeout(() => this.start(), pauseMs);
  }

  #refuseAll(error: Error): void {
    for (const { reject } of this.#requests.values()) reject(error);
    this.#requests.clear();
  }
}

/** Until the thread tells. */
const unknownYet = ({ name, version }: Projection): ProjectionProgress => ({
  name,
  version,
  state: 'catching-up',
  position: 0n,
  parked: 0,
  lastError: undefined,
  progressAt: undefined,
  rebuild: undefined,
  isBehind: false,
});

const failing = (progress: readonly ProjectionProgress[], lastError: string): ProjectionProgress[] =>
  progress.map((one) => ({ ...one, state: 'failing', lastError }));

function errorOf({ name, message }: { name: string; message: string }): Error {
  if (name === RebuildConflict.name) return new RebuildConflict(message);
  if (name === NotParked.name) return new NotParked(message);
  if (name === UnknownProjection.name) return new UnknownProjection(message);
  // The writer has become another one while it was asked.
  if (name === RebuildUnavailable.name || name === Superseded.name) return new RebuildUnavailable(message);
  return new Error(message);
}
