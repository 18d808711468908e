import type { DeliveryEvent } from '../domain/delivery-events.js';
import { absent, type DeliveryState, evolve } from '../domain/delivery-state.js';
import type { EventCodec } from '../event-store/codec.js';
import type { RecordedEvent } from '../event-store/event-store.js';
import type { Waiting } from './dispatcher.js';
import { partitionOf } from './engine-store.js';
import type { Trouble } from './suspension-store.js';

/** One delivery as the engine knows it. */
export interface Process {
  readonly id: string;
  readonly partition: number;
  state: DeliveryState;
  /** Whose it is; undefined before its first event. */
  organizationId: string | undefined;
  /** Of the newest event folded in; -1 before the first. */
  revision: number;
  /** The engine's own decisions have brought the stream to here; until they are folded, the state is known to be old. */
  decided: number;
  /** A decision is on its way to the log. */
  deciding: boolean;
  /** Legs with an attempt waiting or under way in this process. */
  readonly busy: Set<number>;
  /** Those of them that wait for their turn; undefined for none. */
  queued: Map<number, Waiting> | undefined;
  /** There may be a row for it. */
  stored: boolean;
  /** What it waits for elsewhere was looked at once more after others could know that it waits. */
  hasLookedAgain: boolean;
  /** It has ended, and those that waited for that elsewhere know. */
  isTold: boolean;
  /** It has thrown: nothing is folded in and nothing is done until it is rid of this (see Suspensions). */
  trouble: Trouble | undefined;
  /** The table of suspensions has a row for it. */
  hasTroubleRow: boolean;
}

/** A stream on its way, to become a process. */
export interface Read {
  /** There was a process meanwhile, and it is gone: what was read may lack what that one knew. */
  isStale: boolean;
}

/** The deliveries the engine has in memory, which of them changed since the last checkpoint, and who waits for whom. */
export class ProcessTable {
  readonly #processes = new Map<string, Process>();
  readonly #changed = new Set<Process>();
  readonly #reads = new Map<string, Set<Read>>();
  /** delivery → deliveries that wait for its end */
  readonly #waiters = new Map<string, Set<string>>();
  /** organization → how many of them are its own */
  readonly #counts = new Map<string, number>();

  get size(): number {
    return this.#processes.size;
  }

  countOf(organizationId: string): number {
    return this.#counts.get(organizationId) ?? 0;
  }

  get(id: string): Process | undefined {
    return this.#processes.get(id);
  }

  of(partitions: ReadonlySet<number>): Process[] {
    return [...this.#processes.values()].filter(({ partition }) => partitions.has(partition));
  }

  /** Those that go to a person, among others perhaps. */
  concerning(subject: string): Process[] {
    return [...this.#processes.values()].filter(
      ({ state }) =>
        state.tag !== 'absent' &&
        (state.request.subject === subject ||
          state.legs.some(({ routes }) => routes.some((route) => route.subject === subject))),
    );
  }

  add(id: string, stored: boolean): Process {
    const process: Process = {
      id,
      partition: partitionOf(id),
      state: absent,
      organizationId: undefined,
      revision: -1,
      decided: -1,
      deciding: false,
      busy: new Set(),
      queued: undefined,
      stored,
      hasLookedAgain: false,
      isTold: false,
      trouble: undefined,
      hasTroubleRow: false,
    };
    this.#processes.set(id, process);
    return process;
  }

  remove(process: Process): void {
    this.#changed.delete(process);
    for (const read of this.#reads.get(process.id) ?? []) read.isStale = true;
    const { id, organizationId } = process;
    if (!this.#processes.delete(id) || organizationId === undefined) return;
    const left = this.countOf(organizationId) - 1;
    if (left > 0) this.#counts.set(organizationId, left);
    else this.#counts.delete(organizationId);
  }

  beginRead(id: string): Read {
    const read = { isStale: false };
    this.#reads.set(id, (this.#reads.get(id) ?? new Set()).add(read));
    return read;
  }

  endRead(id: string, read: Read): void {
    const reads = this.#reads.get(id);
    reads?.delete(read);
    if (reads?.size === 0) this.#reads.delete(id);
  }

  /** Folds an event in, unless it is one that the process has seen. */
  fold(process: Process, event: DeliveryEvent, revision: number): boolean {
    if (revision <= process.revision) return false;
    process.state = evolve(process.state, event);
    process.revision = revision;
    this.#count(process);
    if (endsAttempt(event)) process.busy.delete(event.data.leg);
    this.#changed.add(process);
    return true;
  }

  /**
   * Folds a whole stream anew, in place of what was folded so far.
   *
   * @throws UndecodableEvent; the process is as it was then
   */
  refold(process: Process, stream: readonly RecordedEvent[], codec: EventCodec): void {
    const state = codec.fold(stream, evolve, absent as DeliveryState);
    for (const { event, recorded } of codec.decodeStream<DeliveryEvent>(stream))
      if (recorded.revision > process.revision && endsAttempt(event)) process.busy.delete(event.data.leg);
    process.state = state;
    process.revision = stream.at(-1)?.revision ?? -1;
    this.#count(process);
  }

  #count(process: Process): void {
    if (process.organizationId !== undefined || process.state.tag === 'absent') return;
    const { organizationId } = process.state.request;
    process.organizationId = organizationId;
    this.#counts.set(organizationId, this.countOf(organizationId) + 1);
  }

  /** Has the next checkpoint look at it. */
  touch(process: Process): void {
    // What has left is another instance's, or stored.
    if (this.#processes.get(process.id) === process) this.#changed.add(process);
  }

  /** What changed since this was last asked. */
  takeChanged(): Process[] {
    const changed = [...this.#changed];
    this.#changed.clear();
    return changed;
  }

  hasChanged(process: Process): boolean {
    return this.#changed.has(process);
  }

  /** For a checkpoint that could not be stored. */
  giveBack(processes: readonly Process[]): void {
    for (const process of processes) this.touch(process);
  }

  startWaiting(waiter: string, dependency: string): void {
    const waiters = this.#waiters.get(dependency) ?? new Set();
    this.#waiters.set(dependency, waiters.add(waiter));
  }

  stopWaiting(waiter: string, dependency: string): void {
    const waiters = this.#waiters.get(dependency);
    waiters?.delete(waiter);
    if (waiters?.size === 0) this.#waiters.delete(dependency);
  }

  isWaiting(waiter: string, dependency: string): boolean {
    return this.#waiters.get(dependency)?.has(waiter) ?? false;
  }

  waitersOf(dependency: string): readonly string[] {
    const waiters = this.#waiters.get(dependency);
    return waiters ? [...waiters] : [];
  }
}

const endsAttempt = (
  event: DeliveryEvent,
): event is Extract<DeliveryEvent, { type: 'AttemptSucceeded' | 'AttemptFailed' | 'AttemptInDoubt' }> =>
  event.type === 'AttemptSucceeded' || event.type === 'AttemptFailed' || event.type === 'AttemptInDoubt';
