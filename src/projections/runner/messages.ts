import type { MessagePort } from 'node:worker_threads';
import type { EventStoreLocation } from '../../event-store/event-store.js';
import type { InstanceOptions } from './instance.js';
import type { Rebuild } from './member.js';
import type { DeliveryChange, Orders, ProjectionProgress } from './runner.js';

/** What the main thread and the projection thread say to each other. */

export interface WorkerSettings extends Omit<InstanceOptions, 'reader' | 'codec' | 'projections'> {
  readonly log: EventStoreLocation;
  readonly beside: ReturnType<Companion> | undefined;
}

/** Other work that follows the log in the same thread: what it gets, each time the thread starts. */
export type Companion = () => { readonly settings: object; readonly port: MessagePort };

export type ToWorker =
  | {
      readonly type: 'order';
      readonly request: number;
      readonly order: keyof Orders;
      readonly about: readonly unknown[];
    }
  /** Whether anybody wants to know which deliveries change. */
  | { readonly type: 'watch'; readonly isWanted: boolean; readonly after: bigint | undefined }
  /** Whether anybody waits for what is not stored yet. */
  | { readonly type: 'hasten'; readonly isAwaited: boolean }
  | { readonly type: 'stop' };

export type FromWorker =
  | { readonly type: 'progress'; readonly projections: readonly ProjectionProgress[] }
  | { readonly type: 'changed'; readonly deliveries: readonly DeliveryChange[] }
  | { readonly type: 'rebuild'; readonly rebuild: Rebuild }
  | { readonly type: 'answered'; readonly request: number; readonly answer: unknown }
  | { readonly type: 'refused'; readonly request: number; readonly error: { name: string; message: string } };
