import { derivedId } from '../commands/ids.js';
import type { DeliveryCommand } from '../domain/delivery-commands.js';
import type { DeliveryState } from '../domain/delivery-state.js';
import { isClosed } from '../domain/delivery-status.js';
import { LogUnavailable } from '../event-store/event-store.js';
import type { Attempts } from './attempt.js';
import type { Decisions } from './decisions.js';
import { isOver, type Reaction, react } from './delivery-process.js';
import type { Dependencies } from './dependencies.js';
import type { Dispatcher } from './dispatcher.js';
import type { Doubt, Doubts, Unanswered } from './doubts.js';
import type { EngineLog } from './engine-log.js';
import type { Leases } from './leases.js';
import { pause } from './pause.js';
import type { Process, ProcessTable } from './process-table.js';
import type { Pass } from './route-gate.js';
import type { Suspensions } from './suspensions.js';
import type { WakeQueue } from './wake-queue.js';

/** Between two tries of what follows from a state while the log cannot be read. */
const REACT_AGAIN_MS = 1_000;
/** Between two looks at a lease that has to be renewed first. */
const LOOK_AT_LEASE_MS = 250;

export interface ReactionsParts {
  readonly processes: ProcessTable;
  readonly leases: Leases;
  readonly dispatcher: Dispatcher;
  readonly attempts: Attempts;
  readonly decisions: Decisions;
  readonly doubts: Doubts;
  readonly suspensions: Suspensions;
  readonly dependencies: Dependencies;
  readonly wake: WakeQueue;
  /** Whether all that has happened in it is folded, and it is this instance's. */
  readonly isLive: (partition: number) => boolean;
  readonly log: EngineLog;
  readonly stopped: AbortSignal;
}

/**
 * Does what the states of deliveries ask for: attempts, commands, times to wake at, ends to wait for. Whoever has changed
 * or learnt something calls `act`; it begins nothing twice, and nothing where the lease is in doubt.
 */
export class Reactions {
  readonly #parts: ReactionsParts;
  /** What would have acted while the leases were in doubt. */
  readonly #deferred = new Set<Process>();

  constructor(parts: ReactionsParts) {
    this.#parts = parts;
  }

  /** From outside the flow of events. */
  recover(process: Process): void {
    if (this.#parts.isLive(process.partition)) this.act(process);
  }

  /** It is another instance's now. */
  forget(process: Process): void {
    this.#deferred.delete(process);
  }

  /** The leases are good again. */
  actOnDeferred(): void {
    if (this.#deferred.size === 0) return;
    const deferred = [...this.#deferred];
    this.#deferred.clear();
    for (const process of deferred) this.act(process);
  }

  /** Where the head is not reached yet nothing is begun; those that wait elsewhere for its end are not to miss it. */
  note(process: Process): void {
    if (!process.trouble) this.#parts.dependencies.tell(process);
    this.drop(process);
  }

  act(process: Process): void {
    const { id, state, busy, partition } = process;
    if (process.trouble || state.tag === 'absent' || this.#parts.stopped.aborted) return;
    // Lost meanwhile, and perhaps taken again: there is another process for it then.
    if (this.#parts.processes.get(id) !== process) return;
    // It may have ended although nothing may begin here any more, and others wait here for that.
    this.#parts.dependencies.tell(process);
    if (!this.#parts.leases.isOpen(partition)) {
      if (this.#parts.leases.has(partition)) this.#deferred.add(process);
      return;
    }
    if (this.drop(process)) return;
    if (process.revision < process.decided) return;

    this.#declareDoubts(process, state);
    const reaction = this.#reactionOf(process);
    if (!reaction) return;
    if (reaction.wakeAt === undefined) this.#parts.wake.delete(id);
    else this.#parts.wake.set(id, Date.parse(reaction.wakeAt));
    for (const dependency of reaction.awaits) this.#parts.dependencies.awaitEnd(id, dependency);
    for (const leg of reaction.attempts) {
      busy.add(leg.leg);
      const waiting = this.#parts.dispatcher.add(state, leg, (pass) => this.#attempt(process, leg.leg, pass));
      if (!waiting.lane) continue;
      process.queued ??= new Map();
      process.queued.set(leg.leg, waiting);
    }
    if (reaction.commands.length > 0 && !process.deciding)
      void this.inBackground(id, () => this.#carryOut(process, reaction.commands));
  }

  /** Undefined when its state makes the process manager throw: one delivery's trouble is not to be everybody's. */
  #reactionOf(process: Process): Reaction | undefined {
    try {
      if (process.state.tag !== 'absent' && this.#isExpired(process.state)) this.callOff(process);
      return react(process.state, this.#now(), (leg) => process.busy.has(leg));
    } catch (error) {
      this.#parts.suspensions.thrown(process, error);
      return undefined;
    }
  }

  /** Lets go of a delivery that has ended. One with a row stays until the checkpoint has deleted that. */
  drop(process: Process): boolean {
    const { id, state, busy, stored } = process;
    if (process.trouble || state.tag === 'absent' || !isClosed(state)) return false;
    this.callOff(process);
    if (busy.size > 0 || !isOver(state)) return false;
    this.#parts.wake.delete(id);
    this.#parts.dependencies.forget(process);
    // Whoever waits for it elsewhere is told with the next checkpoint.
    if (!stored && !process.hasTroubleRow && this.#parts.leases.hasAll()) this.#parts.processes.remove(process);
    // When an attempt has ended without an outcome, nothing else tells the checkpoint.
    else this.#parts.processes.touch(process);
    return true;
  }

  /** What only waits for its turn is not going to happen. */
  callOff({ queued, busy }: Process): void {
    if (!queued) return;
    for (const [leg, waiting] of queued) if (this.#parts.dispatcher.withdraw(waiting)) busy.delete(leg);
    queued.clear();
  }

  async #attempt(process: Process, number: number, pass: Pass): Promise<void> {
    const { id, state, queued } = process;
    queued?.delete(number);
    const leg = state.tag === 'active' ? state.legs.find((candidate) => candidate.leg === number) : undefined;
    let end: boolean | Unanswered = false;
    try {
      // It may have waited in the queue for longer than the lease has lasted.
      const mayBegin = !process.trouble && this.#parts.leases.isOpen(process.partition);
      if (leg && state.tag === 'active' && mayBegin && !this.#isExpired(state))
        end = await this.#parts.attempts.run({
          deliveryId: id,
          state,
          leg,
          pass,
          mayBegin: () => this.#mayBegin(process),
        });
    } catch (error) {
      if (!this.#parts.stopped.aborted)
        this.#parts.log.error('an attempt could not be carried out', { deliveryId: id, err: error });
    }
    if (leg && state.tag === 'active' && typeof end === 'object') {
      // The place in the queue is free while the provider is asked; the leg is not.
      const doubt = { deliveryId: id, state, leg, attempt: end.attempt, unanswered: end };
      void this.inBackground(id, () => this.#settleDoubt(process, doubt));
      return;
    }
    // A stored outcome frees the leg when it is folded. Without one the delivery has changed its mind meanwhile.
    if (end || !process.busy.delete(number) || this.#parts.processes.get(id) !== process) return;
    this.act(process);
  }

  /** While the lease is in doubt it waits: for the lease, or to hear that the delivery is another instance's. */
  async #mayBegin(process: Process): Promise<boolean> {
    while (!this.#parts.stopped.aborted && this.#parts.processes.get(process.id) === process) {
      if (this.#parts.leases.isValid(process.partition)) return true;
      await pause(LOOK_AT_LEASE_MS, this.#parts.stopped);
    }
    return false;
  }

  async #carryOut(process: Process, commands: readonly DeliveryCommand[]): Promise<void> {
    process.deciding = true;
    try {
      for (const command of commands)
        await this.#parts.decisions.store(
          process.id,
          command,
          derivedId(process.id, `${command.type}/${process.revision}`),
        );
    } finally {
      process.deciding = false;
    }
    this.act(process);
  }

  /**
   * Tried until the log answers, as nothing else would come back to it. What is cut off by a shutdown is done again at
   * the next start; anything else is a defect, and is said.
   */
  async inBackground(deliveryId: string, work: () => Promise<unknown>): Promise<void> {
    while (!this.#parts.stopped.aborted)
      try {
        await work();
        return;
      } catch (error) {
        if (this.#parts.stopped.aborted) return;
        if (!(error instanceof LogUnavailable)) {
          this.#parts.log.error('a reaction failed', { deliveryId, err: error });
          return;
        }
        this.#parts.log.warn('a reaction waits for the log', { deliveryId, err: error });
        await pause(REACT_AGAIN_MS, this.#parts.stopped);
      }
  }

  /**
   * An attempt without an outcome that no running process makes: its provider may or may not have had the call. Found
   * at a take-over, and later when the former owner's words reach the log late.
   */
  #declareDoubts(process: Process, state: Exclude<DeliveryState, { tag: 'absent' }>): void {
    const { id, busy } = process;
    for (const leg of state.legs) {
      if (leg.progress.tag !== 'attempting' || busy.has(leg.leg)) continue;
      busy.add(leg.leg);
      const doubt = { deliveryId: id, state, leg, attempt: leg.progress.attempt };
      void this.inBackground(id, () => this.#settleDoubt(process, doubt));
    }
  }

  async #settleDoubt(process: Process, doubt: Doubt): Promise<void> {
    // What was stored frees the leg when it is folded.
    if (await this.#parts.doubts.settle(doubt)) return;
    process.busy.delete(doubt.leg.leg);
    if (!this.#parts.stopped.aborted && this.#parts.processes.get(process.id) === process) this.recover(process);
  }

  #isExpired(state: DeliveryState): boolean {
    const expiresAt = state.tag === 'absent' ? undefined : state.request.expiresAt;
    return expiresAt !== undefined && expiresAt <= this.#now();
  }

  #now(): string {
    return this.#parts.leases.clock.now();
  }
}
