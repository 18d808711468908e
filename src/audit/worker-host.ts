import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import type { EventStoreLocation } from '../event-store/event-store.js';
import type { AuditRunner, AuditSettings } from './task.js';
import type { AuditVerification } from './verification.js';
import type { AuditObserver } from './writer.js';

/** What the main thread and those that work for the audit say to each other. */
export type FromAuditWriter =
  | { readonly type: 'checkpoint'; readonly note: string }
  | { readonly type: 'problem'; readonly problem: string | undefined };
export interface VerifierSettings extends AuditSettings {
  readonly location: EventStoreLocation;
}
export type FromVerifier =
  | { readonly type: 'verified'; readonly verification: AuditVerification }
  | { readonly type: 'failed'; readonly message: string };

const VERIFIER = new URL('../app/audit-verifier.js', import.meta.url);

/**
 * The audit beside the main thread, so that hashing delays no request. The trail grows in the thread that follows the
 * log for the read models, which has read and parsed every event already; a verification, which takes long, gets a
 * thread of its own.
 */
export class AuditWorkerHost implements AuditRunner {
  readonly #settings: VerifierSettings;
  readonly #observer: AuditObserver;
  #writer: MessagePort | undefined;
  #verifier: Worker | undefined;
  #ended: Promise<void> = Promise.resolve();
  #isStopping = false;

  constructor(settings: VerifierSettings, observer: AuditObserver) {
    this.#settings = settings;
    this.#observer = observer;
  }

  /** Whenever the thread that it shares starts: what it gets. */
  attach(): { readonly settings: AuditSettings; readonly port: MessagePort } {
    const { port1: writer, port2: port } = new MessageChannel();
    this.#writer = writer;
    writer.on('message', (message: FromAuditWriter) => this.#hear(message));
    this.#ended = new Promise((resolve) =>
      writer.once('close', () => {
        this.#writer = undefined;
        resolve();
        if (!this.#isStopping) this.#observer.problem?.('the thread that the audit trail grows in has died');
      }),
    );
    const { location: _, ...settings } = this.#settings;
    return { settings, port };
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#writer?.postMessage('stop');
    this.#verifier?.postMessage('stop');
    await this.#ended;
  }

  verify(): Promise<AuditVerification> {
    return new Promise((resolve, reject) => {
      const verifier = new Worker(VERIFIER, { workerData: this.#settings });
      this.#verifier = verifier;
      verifier.once('message', (message: FromVerifier) =>
        message.type === 'verified' ? resolve(message.verification) : reject(new Error(message.message)),
      );
      verifier.once('error', reject);
      verifier.once('exit', () => {
        this.#verifier = undefined;
        reject(new Error('the verification was broken off'));
      });
    });
  }

  #hear(message: FromAuditWriter): void {
    if (message.type === 'checkpoint') this.#observer.checkpoint?.(message.note);
    else this.#observer.problem?.(message.problem);
  }
}
