import type { Instant } from '../../domain/vocabulary.js';
import type { Rebuild } from './member.js';
import type { Skip } from './parking.js';
import type { RebuildOptions } from './rebuild.js';

/** What the runner tells while it works. Called between batches; must not throw. */
export interface RunnerObserver {
  progress?(): void;
  changed?(deliveries: readonly DeliveryChange[]): void;
  rebuild?(rebuild: Rebuild): void;
  /** Another instance is the writer; nothing more is stored here. */
  superseded?(): void;
}

/** A delivery whose read model shows something new. */
export interface DeliveryChange {
  readonly id: string;
  readonly organizationId: string;
}

export type ProjectionState = 'running' | 'catching-up' | 'rebuilding' | 'failing';

export interface ProjectionProgress {
  readonly name: string;
  readonly version: number;
  readonly state: ProjectionState;
  /** Everything up to here is stored. */
  readonly position: bigint;
  /** Events kept aside because they could not be understood or stored. */
  readonly parked: number;
  /** Why it is failing. */
  readonly lastError: string | undefined;
  /** When it last got on, or found that there was nothing to do. */
  readonly progressAt: Instant | undefined;
  readonly rebuild: Rebuild | undefined;
  /** It is not one of those that are fed together, but on its way to them through history. */
  readonly isBehind: boolean;
}

/** Up to where all projections are that are fed together: nobody can wait for the others. 0n when there are none. */
export function visiblePosition(progress: readonly ProjectionProgress[]): bigint {
  let least: bigint | undefined;
  for (const { position, isBehind } of progress)
    if (!isBehind && (least === undefined || position < least)) least = position;
  return least ?? 0n;
}

/** What operators want of a projection. Each returns once it has begun; a restart of the program does not stop it. */
export interface Orders {
  /**
   * Makes it anew from the log, beside the live one, and puts it in its place.
   *
   * @throws UnknownProjection, RebuildUnavailable
   * @throws RebuildConflict when it is being rebuilt already, or there is no earlier version to go back to
   */
  rebuild(name: string, options?: RebuildOptions): Promise<Rebuild>;
  /** The same for several, all or none of them: the log is read once for all. @param names default every one */
  rebuildAll(names?: readonly string[], options?: RebuildOptions): Promise<Rebuild[]>;
  /** @throws UnknownProjection; RebuildConflict when there is none that can be cancelled */
  cancelRebuild(name: string): Promise<Rebuild>;
  /** Tries again what is parked. @returns how many events. @throws UnknownProjection */
  retryParked(name: string): Promise<number>;
  /** Goes on without an event. @throws UnknownProjection; NotParked */
  skipParked(name: string, skip: Skip): Promise<void>;
}

/** Whoever keeps the read models up to date, or knows how far they are: in this thread or another, here or elsewhere. */
export interface Runner extends Orders {
  start(): void;
  stop(): Promise<void>;
  progress(): readonly ProjectionProgress[];
  /**
   * Whether anybody wants to know which deliveries change.
   *
   * @param after up to where the asker knows what the read models show; default from now on
   */
  watch(isWanted: boolean, after?: bigint): void;
  /** Whether anybody waits for what is not stored yet. */
  hasten(isAwaited: boolean): void;
}
