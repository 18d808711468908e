import { Worker } from 'node:worker_threads';
import type { EventStoreLocation } from '../event-store/event-store.js';
import type { AuditRunner, AuditSettings } from './task.js';
import type { AuditVerification } from './verification.js';
import type { AuditObserver } from './writer.js';

interface Waiting {
  resolve(verification: AuditVerification): void;
  reject(error: Error): void;
}

/** What the main thread and the audit's thread say to each other. */
export interface AuditWorkerSettings extends AuditSettings {
  readonly location: EventStoreLocation;
}
export type ToAuditWorker = { readonly type: 'verify' } | { readonly type: 'stop' };
export type FromAuditWorker =
  | { readonly type: 'checkpoint'; readonly note: string }
  | { readonly type: 'problem'; readonly problem: string | undefined }
  | { readonly type: 'verified'; readonly verification: AuditVerification }
  | { readonly type: 'failed'; readonly message: string };

const ENTRY = new URL('../audit-worker.js', import.meta.url);
const RESTART_MS = 2_000;

/** The audit in a thread of its own, so that hashing delays no request; it is started again when it dies. */
export class AuditWorkerHost implements AuditRunner {
  readonly #settings: AuditWorkerSettings;
  readonly #observer: AuditObserver;
  #worker: Worker | undefined;
  #ended: Promise<void> = Promise.resolve();
  #restart: NodeJS.Timeout | undefined;
  #isStopping = false;
  /** Those who wait for the verification that is going on. */
  readonly #waiting: Waiting[] = [];

  constructor(settings: AuditWorkerSettings, observer: AuditObserver) {
    this.#settings = settings;
    this.#observer = observer;
  }

  start(): void {
    if (this.#worker || this.#isStopping) return;
    const worker = new Worker(ENTRY, { workerData: this.#settings });
    this.#worker = worker;
    let cause = 'it ended unexpectedly';
    worker.on('message', (message: FromAuditWorker) => this.#hear(message));
    worker.on('error', (error) => {
      cause = error.message;
    });
    this.#ended = new Promise((resolve) =>
      worker.once('exit', () => {
        this.#worker = undefined;
        resolve();
        for (const { reject } of this.#waiting.splice(0)) reject(new Error('the verification was broken off'));
        if (this.#isStopping) return;
        this.#observer.problem?.(`the audit thread has died: ${cause}`);
        this.#restart = setTimeout(() => this.start(), RESTART_MS);
      }),
    );
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    clearTimeout(this.#restart);
    this.#send({ type: 'stop' });
    await this.#ended;
  }

  verify(): Promise<AuditVerification> {
    return new Promise((resolve, reject) => {
      if (!this.#worker) return reject(new Error('the audit thread is not running'));
      this.#waiting.push({ resolve, reject });
      this.#send({ type: 'verify' });
    });
  }

  #send(message: ToAuditWorker): void {
    this.#worker?.postMessage(message);
  }

  #hear(message: FromAuditWorker): void {
    if (message.type === 'checkpoint') this.#observer.checkpoint?.(message.note);
    else if (message.type === 'problem') this.#observer.problem?.(message.problem);
    else if (message.type === 'verified') this.#waiting.shift()?.resolve(message.verification);
    else this.#waiting.shift()?.reject(new Error(message.message));
  }
}
