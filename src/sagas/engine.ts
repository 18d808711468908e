import { derivedId } from '../commands/ids.js';
import type { DeliveryCommand } from '../domain/delivery.js';
import type { DeliveryEvent } from '../domain/delivery-events.js';
import type { DeliveryState } from '../domain/delivery-state.js';
import { isClosed } from '../domain/delivery-status.js';
import type { EventCodec } from '../event-store/codec.js';
import type { EventReader, RecordedEvent } from '../event-store/event-store.js';
import { Attempts } from './attempt.js';
import { AttemptQueue } from './attempt-queue.js';
import { Checkpointer } from './checkpointer.js';
import { Decisions, type SendOrder } from './decisions.js';
import { dependencyOutcome, react } from './delivery-process.js';
import type { EngineLog } from './engine-log.js';
import type { EngineStore } from './engine-store.js';
import { type Process, ProcessTable } from './process-table.js';
import type { Targets } from './targets.js';
import { WakeQueue } from './wake-queue.js';

const STREAMS = 'delivery-';

export interface EngineParts {
  readonly reader: EventReader;
  readonly codec: EventCodec;
  readonly store: EngineStore;
  readonly targets: Targets;
  readonly order: SendOrder;
  readonly disableDestination: (destinationId: string, reason: string) => Promise<void>;
  readonly log: EngineLog;
}

export interface EngineOptions {
  /** Attempts at once. */
  readonly concurrency: number;
  readonly checkpointIntervalMs: number;
  /** How long a shutdown waits for attempts under way. */
  readonly drainTimeoutMs: number;
  /** True when a lock has proved that no other instance is alive. */
  readonly takeOver: boolean;
}

export type EngineState = 'stopped' | 'claiming' | 'catching-up' | 'running' | 'failed';

export interface EngineStatus {
  readonly state: EngineState;
  readonly position: bigint;
  readonly inMemory: number;
  readonly attempting: number;
  readonly waiting: number;
  readonly suspended: number;
  readonly problem?: string;
}

/**
 * The delivery engine: folds the log into one process per open delivery, reacts, and does what the reactions say.
 * On start it folds from the last checkpoint to the head without acting, then acts on what is left.
 */
export class Engine {
  readonly #parts: EngineParts;
  readonly #options: EngineOptions;
  readonly #processes = new ProcessTable();
  readonly #queue: AttemptQueue;
  readonly #attempts: Attempts;
  readonly #decisions: Decisions;
  readonly #wake = new WakeQueue((ids) => this.#actOn(ids));
  readonly #checkpointer: Checkpointer;
  readonly #stop = new AbortController();
  #state: EngineState = 'stopped';
  #position = 0n;
  #problem: string | undefined;
  #suspended = 0;
  #loop: Promise<void> | undefined;

  constructor(parts: EngineParts, options: EngineOptions) {
    this.#parts = parts;
    this.#options = options;
    this.#queue = new AttemptQueue(options.concurrency);
    this.#decisions = new Decisions({
      order: parts.order,
      processOf: async (id) => this.#processes.get(id) ?? (await this.#load(id)),
      log: parts.log,
      signal: this.#stop.signal,
    });
    this.#attempts = new Attempts({
      targets: parts.targets,
      decide: (id, command, commandId) => this.#decisions.store(id, command, commandId),
      disableDestination: parts.disableDestination,
      onBug: (error, deliveryId) => parts.log.error('a channel adapter threw', { deliveryId, err: error }),
    });
    this.#checkpointer = new Checkpointer({
      store: parts.store,
      processes: this.#processes,
      log: parts.log,
      intervalMs: options.checkpointIntervalMs,
      position: () => this.#position,
      load: (ids) => this.#bring(ids),
      onEvict: (id) => this.#wake.delete(id),
      onLeaseLost: (error) => this.#fail(error),
    });
  }

  status(): EngineStatus {
    return {
      state: this.#state,
      position: this.#position,
      inMemory: this.#processes.size,
      attempting: this.#queue.running,
      waiting: this.#queue.waiting,
      suspended: this.#suspended,
      ...(this.#problem !== undefined && { problem: this.#problem }),
    };
  }

  /** Returns at once; `status()` tells when it runs. */
  start(): void {
    this.#loop = this.#run().catch((error: unknown) => this.#fail(error as Error));
  }

  /** Takes no new attempt, waits for those under way, stores where it stands and gives its partitions back. */
  async stop(): Promise<void> {
    const ended = this.#queue.close();
    const deadline = setTimeout(() => {
      this.#attempts.abort();
      // Also what waits for a log that does not answer: it would keep its attempt, and us, from ending.
      this.#stop.abort();
    }, this.#options.drainTimeoutMs);
    await ended;
    clearTimeout(deadline);
    this.#stop.abort();
    this.#wake.stop();
    await this.#loop;
    await this.#checkpointer.stop();
    this.#state = 'stopped';
  }

  async #run(): Promise<void> {
    this.#state = 'claiming';
    const position = await this.#checkpointer.claim(this.#options.takeOver, this.#stop.signal);
    if (position === undefined) return;
    this.#state = 'catching-up';
    this.#position = position;
    await this.#checkpointer.start();
    const batches = this.#parts.reader.subscribe({ after: position, prefixes: [STREAMS], signal: this.#stop.signal });
    for await (const batch of batches) {
      const changed = await this.#fold(batch.events);
      this.#position = batch.position;
      const isLive = this.status().state === 'running';
      for (const process of changed) isLive ? this.#act(process) : this.#drop(process);
      if (!isLive && batch.caughtUp) this.#goLive();
    }
  }

  #goLive(): void {
    this.#state = 'running';
    this.#parts.log.info('engine runs', { open: this.#processes.size, position: this.#position.toString() });
    for (const process of this.#processes.all()) {
      this.#declareDoubts(process);
      this.#act(process);
    }
  }

  /** An attempt without an outcome that no running process makes: its provider may or may not have had the call. */
  #declareDoubts(process: Process): void {
    const { state, id } = process;
    if (state.tag === 'absent' || isClosed(state)) return;
    for (const leg of state.legs) {
      if (leg.progress.tag !== 'attempting') continue;
      const { attempt } = leg.progress;
      const doubt = this.#parts.targets
        .resolve(leg.routes[attempt.route] ?? { channel: attempt.channel })
        .then((target) => {
          // A message that brings the process down must not do so for ever.
          const mayResend = target.ok && leg.routeAttempts < target.policy.maxAttempts;
          return mayResend ? target.adapter.describe().inDoubt : 'hold';
        })
        .then((resolution) => {
          const command = { type: 'DeclareInDoubt', now: now(), leg: leg.leg, resolution } as const;
          return this.#decisions.store(id, command, derivedId(id, `doubt/${leg.leg}/${attempt.number}`));
        });
      this.#inBackground(id, doubt);
    }
  }

  async #fold(events: readonly RecordedEvent[]): Promise<Set<Process>> {
    const changed = new Set<Process>();
    for (const recorded of events) {
      const id = recorded.streamId.slice(STREAMS.length);
      // Not in memory and not its first event: it was put aside until due, or had ended.
      const process =
        this.#processes.get(id) ?? (recorded.revision === 0 ? this.#processes.add(id, false) : await this.#load(id));
      this.#foldOne(process, recorded);
      changed.add(process);
    }
    return changed;
  }

  #foldOne(process: Process, recorded: RecordedEvent): void {
    if (process.suspended) return;
    try {
      this.#processes.fold(process, this.#parts.codec.decode<DeliveryEvent>(recorded).event, recorded.revision);
    } catch (error) {
      process.suspended = error as Error;
      this.#suspended++;
      this.#parts.log.error('a delivery cannot be processed and is suspended', {
        deliveryId: process.id,
        position: recorded.position.toString(),
        err: error,
      });
    }
  }

  async #load(id: string): Promise<Process> {
    const events = await this.#parts.reader.readStream(`${STREAMS}${id}`);
    const process = this.#processes.get(id) ?? this.#processes.add(id, true);
    for (const recorded of events) this.#foldOne(process, recorded);
    return process;
  }

  /** Into memory, and when the engine runs, into action. */
  async #bring(ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      if (this.#processes.get(id)) continue;
      const process = await this.#load(id);
      if (this.#state === 'running') this.#act(process);
    }
  }

  #actOn(ids: readonly string[]): void {
    for (const id of ids) {
      const process = this.#processes.get(id);
      if (process) this.#act(process);
    }
  }

  #act(process: Process): void {
    const { id, state, busy } = process;
    if (process.suspended || state.tag === 'absent' || this.#stop.signal.aborted) return;
    for (const waiter of this.#processes.waitersOf(id)) this.#resolveDependency(waiter, id, state);
    if (this.#drop(process)) return;
    if (process.revision < process.decided) return;

    const reaction = react(state, now(), (leg) => busy.has(leg));
    if (reaction.wakeAt === undefined) this.#wake.delete(id);
    else this.#wake.set(id, Date.parse(reaction.wakeAt));
    for (const dependency of reaction.awaits) this.#inBackground(id, this.#awaitEnd(id, dependency));
    for (const { leg } of reaction.attempts) {
      busy.add(leg);
      this.#queue.add(state.request.priority, () => this.#attempt(process, leg));
    }
    if (reaction.commands.length > 0 && !process.deciding)
      this.#inBackground(id, this.#carryOut(process, reaction.commands));
  }

  /** Lets go of a delivery that has ended. One with a row stays until the checkpoint has deleted that. */
  #drop(process: Process): boolean {
    const { id, state, busy, stored } = process;
    if (state.tag === 'absent' || !isClosed(state) || busy.size > 0) return false;
    this.#wake.delete(id);
    for (const dependency of state.request.dependsOn ?? []) this.#processes.stopWaiting(id, dependency);
    if (!stored) this.#processes.remove(process);
    return true;
  }

  async #attempt(process: Process, number: number): Promise<void> {
    const { id, state } = process;
    const leg = state.tag === 'active' ? state.legs.find((candidate) => candidate.leg === number) : undefined;
    let isStored = false;
    try {
      if (leg && state.tag === 'active') isStored = await this.#attempts.run({ deliveryId: id, state, leg });
    } catch (error) {
      if (!this.#stop.signal.aborted)
        this.#parts.log.error('an attempt could not be carried out', { deliveryId: id, err: error });
    }
    // A stored outcome frees the leg when it is folded. Without one the delivery has changed its mind meanwhile.
    if (isStored || !process.busy.delete(number)) return;
    this.#act(process);
  }

  async #carryOut(process: Process, commands: readonly DeliveryCommand[]): Promise<void> {
    process.deciding = true;
    try {
      for (const command of commands)
        await this.#decisions.store(process.id, command, derivedId(process.id, `${command.type}/${process.revision}`));
    } finally {
      process.deciding = false;
    }
    this.#act(process);
  }

  async #awaitEnd(waiter: string, dependency: string): Promise<void> {
    if (this.#processes.isWaiting(waiter, dependency)) return;
    this.#processes.startWaiting(waiter, dependency);
    const process = this.#processes.get(dependency) ?? (await this.#load(dependency));
    this.#resolveDependency(waiter, dependency, process.state);
    this.#drop(process);
  }

  #resolveDependency(waiter: string, dependency: string, state: DeliveryState): void {
    const outcome = dependencyOutcome(state);
    if (!outcome) return;
    this.#processes.stopWaiting(waiter, dependency);
    const command = { type: 'ResolveDependency', now: now(), deliveryId: dependency, ...outcome } as const;
    this.#inBackground(waiter, this.#decisions.store(waiter, command, derivedId(waiter, `dependency/${dependency}`)));
  }

  /** What is cut off by a shutdown is done again at the next start; anything else is a defect, and is said. */
  #inBackground(deliveryId: string, work: Promise<unknown>): void {
    work.catch((error: unknown) => {
      if (!this.#stop.signal.aborted) this.#parts.log.error('a reaction failed', { deliveryId, err: error });
    });
  }

  #fail(error: Error): void {
    this.#state = 'failed';
    this.#problem = error.message;
    this.#parts.log.error('engine stopped', { err: error });
    this.#stop.abort();
    this.#attempts.abort();
    this.#wake.stop();
  }
}

const now = (): string => new Date().toISOString();
