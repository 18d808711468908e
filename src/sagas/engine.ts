import { setMaxListeners } from 'node:events';
import { derivedId } from '../commands/ids.js';
import type { DeliveryCommand } from '../domain/delivery-commands.js';
import type { DeliveryState } from '../domain/delivery-state.js';
import { isClosed } from '../domain/delivery-status.js';
import type { EventCodec } from '../event-store/codec.js';
import { type EventReader, LogUnavailable } from '../event-store/event-store.js';
import type { Among, Suppress } from './addressees.js';
import { Attempts, type Complete } from './attempt.js';
import type { OpenFile } from './attempt-files.js';
import { Checkpointer } from './checkpointer.js';
import { Decisions, type SendOrder } from './decisions.js';
import { isOver, type Reaction, react } from './delivery-process.js';
import { Dependencies } from './dependencies.js';
import { Dispatcher, type PoolOptions } from './dispatcher.js';
import { type Doubt, Doubts, type Unanswered } from './doubts.js';
import type { EngineLog } from './engine-log.js';
import { type EngineStore, partitionOf } from './engine-store.js';
import type { GateOptions, GatesParts } from './gates.js';
import { Leases } from './leases.js';
import { pause } from './pause.js';
import { ProcessLoader } from './process-loader.js';
import { type Process, ProcessTable } from './process-table.js';
import type { Pass } from './route-gate.js';
import { Suspensions } from './suspensions.js';
import type { Targets } from './targets.js';
import type { Tenure } from './tenure.js';
import { type EngineState, Tenures } from './tenures.js';
import { WakeQueue } from './wake-queue.js';

const STREAMS = 'delivery-';
/** Between two tries of what follows from a state while the log cannot be read. */
const REACT_AGAIN_MS = 1_000;
/** Between two looks at a lease that has to be renewed first. */
const LOOK_AT_LEASE_MS = 250;
/** With more in memory than this, folding waits until what is far away is stored and gone. */
const MOST_WHILE_FOLDING = 50_000;
/** An organization's part of what may be under way, as of the places in a bulkhead. */
const MOST_OF_ONE = 3 / 4;

export interface EngineParts {
  readonly reader: EventReader;
  readonly codec: EventCodec;
  readonly store: EngineStore;
  readonly targets: Targets;
  /** The other sides that attempts go to, and where it is recorded how they are. */
  readonly sides: Pick<GatesParts, 'destinations' | 'providers' | 'record'>;
  readonly order: SendOrder;
  readonly disableDestination: (destinationId: string, reason: string) => Promise<void>;
  readonly log: EngineLog;
  /** Which addresses get nothing any more. Default: none. */
  readonly suppressed?: Among;
  readonly suppress?: Suppress;
}

export interface EngineOptions extends PoolOptions, GateOptions {
  readonly checkpointIntervalMs: number;
  /** How long a shutdown waits for attempts under way. */
  readonly drainTimeoutMs: number;
  /** True when a lock has proved that no other instance is alive. */
  readonly isAlone: boolean;
  /** Where providers reach this instance; without it they are not asked to report. */
  readonly publicUrl?: string;
  /** Pauses before another try with a delivery whose process has thrown. Default 1 s, 5 s, 25 s. */
  readonly tryAgainAfterMs?: readonly number[];
}

export interface EngineStatus {
  readonly state: EngineState;
  readonly position: bigint;
  readonly partitions: readonly number[];
  /** Instances that share the deliveries, this one included. */
  readonly instances: number;
  readonly inMemory: number;
  readonly attempting: number;
  readonly waiting: number;
  readonly suspended: number;
}

/**
 * The delivery engine: folds the log into one process per open delivery, reacts, and does what the reactions say.
 *
 * Deliveries are spread over partitions, and an instance acts only in those it holds a lease for. It takes free ones up
 * to its share and gives away what is beyond it. Of partitions just taken it folds the log from their checkpoint to the
 * head without acting, then acts on what is left.
 */
export class Engine {
  readonly #parts: EngineParts;
  readonly #options: EngineOptions;
  readonly #processes = new ProcessTable();
  readonly #dispatcher: Dispatcher;
  readonly #attempts: Attempts;
  readonly #decisions: Decisions;
  readonly #doubts: Doubts;
  readonly #suspensions: Suspensions;
  readonly #leases: Leases;
  readonly #tenures: Tenures;
  readonly #loader: ProcessLoader;
  readonly #dependencies: Dependencies;
  readonly #wake: WakeQueue;
  readonly #checkpointer: Checkpointer;
  /** What would have acted while the leases were in doubt. */
  readonly #deferred = new Set<Process>();
  readonly #stop = new AbortController();

  constructor(parts: EngineParts, options: EngineOptions) {
    this.#parts = parts;
    this.#options = options;
    // While the log is out of reach as many wait as there are decisions to store: that is no leak to be warned of.
    setMaxListeners(0, this.#stop.signal);
    this.#leases = new Leases(parts.store, options.isAlone);
    this.#wake = new WakeQueue(
      (ids) => this.#actOn(ids),
      () => this.#leases.clock.nowMs(),
    );
    this.#dispatcher = new Dispatcher(options, {
      ...parts.sides,
      options,
      log: parts.log,
      nowMs: () => this.#leases.clock.nowMs(),
    });
    this.#decisions = new Decisions({
      order: parts.order,
      readStream: (streamId) => parts.reader.readStream(streamId),
      processOf: async (id) => this.#processes.get(id) ?? (await this.#loader.load(id)),
      isOurs: (id) => this.#isOurs(id),
      mayStore: (id) => this.#leases.isValid(partitionOf(id)),
      log: parts.log,
      signal: this.#stop.signal,
    });
    const complete: Complete = (request, id) => parts.codec.complete(request, `${STREAMS}${id}`, 'attachments');
    const openFile: OpenFile = (stored, id) => parts.codec.source(stored, `${STREAMS}${id}`);
    this.#attempts = new Attempts({
      targets: parts.targets,
      decide: (id, command, commandId) => this.#decisions.store(id, command, commandId),
      disableDestination: parts.disableDestination,
      hasOtherProvider: (leg, tried) => this.#dispatcher.gates.hasOther(leg, tried),
      now: () => this.#now(),
      onBug: (error, deliveryId) => parts.log.error('a channel adapter threw', { deliveryId, err: error }),
      ...(parts.suppressed && { suppressed: parts.suppressed }),
      ...(parts.suppress && { suppress: parts.suppress }),
      ...(options.publicUrl !== undefined && { publicUrl: options.publicUrl }),
      complete,
      openFile,
    });
    this.#doubts = new Doubts({
      targets: parts.targets,
      decide: (id, command, commandId) => this.#decisions.store(id, command, commandId),
      nowMs: () => this.#leases.clock.nowMs(),
      onBug: (error, deliveryId) => parts.log.error('a channel adapter threw', { deliveryId, err: error }),
      complete,
      signal: this.#stop.signal,
    });
    this.#suspensions = new Suspensions(
      {
        processes: this.#processes,
        codec: parts.codec,
        readStream: (streamId) => parts.reader.readStream(streamId),
        nowMs: () => this.#leases.clock.nowMs(),
        wakeAt: ({ id }, atMs) => this.#wake.set(id, atMs),
        log: parts.log,
        onRecovered: (process) => {
          // What it waits for may have ended while nobody could tell it.
          this.#dependencies.forget(process);
          this.#recover(process);
        },
      },
      options.tryAgainAfterMs,
    );
    this.#loader = new ProcessLoader({
      streams: STREAMS,
      reader: parts.reader,
      codec: parts.codec,
      processes: this.#processes,
      suspensions: this.#suspensions,
      isOurs: (id) => this.#isOurs(id),
    });
    this.#dependencies = new Dependencies({
      processes: this.#processes,
      isOurs: (id) => this.#isOurs(id),
      hasAll: () => this.#leases.hasAll(),
      load: (id) => this.#loader.load(id),
      stateOf: (id) => this.#loader.stateOf(id),
      decide: (id, command, commandId) => this.#decisions.store(id, command, commandId),
      order: parts.order,
      inBackground: (id, work) => this.#inBackground(id, work),
      drop: (process) => void this.#drop(process),
      now: () => this.#now(),
    });
    this.#tenures = new Tenures({
      streams: STREAMS,
      reader: parts.reader,
      store: parts.store,
      leases: this.#leases,
      log: parts.log,
      stopped: this.#stop.signal,
      save: () => this.#checkpointer.save(),
      open: (partitions) => this.#checkpointer.open(partitions),
      fold: (events, tenure) => this.#loader.fold(events, tenure),
      onFolded: (process, { isLive }) => (isLive ? this.#act(process) : this.#note(process)),
      hasTooMuch: () => this.#processes.size > MOST_WHILE_FOLDING,
      onLive: (tenure) => this.#goLive(tenure),
      onShare: (partOfAll) => {
        this.#dispatcher.gates.share = partOfAll;
      },
      letGo: (partitions) => this.#letGo(partitions),
      onLost: (partitions) => this.#lose(partitions),
    });
    this.#checkpointer = new Checkpointer({
      store: parts.store,
      leases: this.#leases,
      processes: this.#processes,
      log: parts.log,
      intervalMs: options.checkpointIntervalMs,
      held: () => this.#tenures.held(),
      load: (ids) => this.#bring(ids),
      onEvict: (id) => this.#wake.delete(id),
      onThrown: (process, error) => this.#suspensions.thrown(process, error),
      onStored: (process) => this.#dependencies.lookAgain(process),
      onAwaited: (waiter, dependency) =>
        this.#inBackground(waiter, () => this.#dependencies.tellElsewhere(waiter, dependency)),
      onRenewed: () => this.#actOnDeferred(),
      onLost: (partitions) => this.#tenures.lose(partitions),
      onEmptied: () => this.#foldAnew(),
    });
  }

  status(): EngineStatus {
    return {
      state: this.#tenures.state,
      position: this.#tenures.position,
      partitions: this.#leases.partitions,
      instances: this.#leases.instances,
      inMemory: this.#processes.size,
      attempting: this.#dispatcher.running,
      waiting: this.#dispatcher.waiting,
      suspended: this.#suspensions.count,
    };
  }

  /**
   * 0 while less than `most` is in memory, and less than three quarters of that is the organization's own: what one has
   * waiting leaves room for others. Else how long it may take until a tenth is done, at the present pace: 1 to 60.
   */
  secondsUntilRoom(most: number, organizationId: string): number {
    const mostOfOne = Math.ceil(most * MOST_OF_ONE);
    const own = this.#processes.countOf(organizationId);
    if (this.#processes.size < most && own < mostOfOne) return 0;
    const tooMany = Math.max(this.#processes.size - most * 0.9, own - mostOfOne * 0.9);
    return Math.ceil(Math.min(Math.max(tooMany / this.#dispatcher.rate, 1), 60));
  }

  /** The time by the clock that due times are of; this machine's until the engine has asked for it. */
  now(): Date {
    return new Date(this.#leases.clock.nowMs());
  }

  /** Reads again what it has in memory of deliveries to a person, whose data nobody can read any more. */
  async reconsider(subject: string): Promise<void> {
    for (const process of this.#processes.concerning(subject)) {
      if (!(await this.#loader.reload(process))) continue;
      this.#callOff(process);
      if (this.#tenures.isLive(process.partition)) this.#act(process);
    }
  }

  /** Returns at once; `status()` tells when it runs. */
  start(): void {
    this.#dispatcher.gates.start();
    this.#checkpointer.start();
    this.#tenures.start();
  }

  /** Takes no new attempt, waits for those under way, stores where it stands and gives its partitions back. */
  async stop(): Promise<void> {
    const ended = this.#dispatcher.close();
    const deadline = setTimeout(() => {
      this.#attempts.abort();
      // Also what waits for a log that does not answer: it would keep its attempt, and us, from ending.
      this.#stop.abort();
    }, this.#options.drainTimeoutMs);
    await ended;
    clearTimeout(deadline);
    this.#stop.abort();
    this.#wake.stop();
    await this.#tenures.end();
    await this.#checkpointer.stop();
    await this.#tenures.leave();
  }

  /** Somebody has emptied the table of timers: all of it is in the log. */
  async #foldAnew(): Promise<void> {
    this.#parts.log.warn('the table engine_deliveries was emptied: it is made again from the log');
    for (const process of this.#processes.of(new Set(this.#leases.partitions))) {
      this.#processes.touch(process);
      process.hasLookedAgain = false;
    }
    await this.#tenures.rewind();
  }

  /** Nothing new begins in them. */
  #letGo(partitions: ReadonlySet<number>): ReadonlySet<number> {
    const free = new Set(partitions);
    for (const process of this.#processes.of(partitions)) {
      this.#callOff(process);
      if (process.busy.size > 0) free.delete(process.partition);
    }
    return free;
  }

  #lose(partitions: ReadonlySet<number>): void {
    for (const process of this.#processes.of(partitions)) {
      this.#callOff(process);
      this.#processes.remove(process);
      this.#suspensions.forget(process);
      this.#deferred.delete(process);
      this.#wake.delete(process.id);
    }
  }

  #goLive({ partitions, position }: Tenure): void {
    const processes = this.#processes.of(partitions);
    this.#parts.log.info('engine runs', { open: processes.length, position: position.toString() });
    for (const process of processes) this.#act(process);
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
      void this.#inBackground(id, () => this.#settleDoubt(process, doubt));
    }
  }

  async #settleDoubt(process: Process, doubt: Doubt): Promise<void> {
    // What was stored frees the leg when it is folded.
    if (await this.#doubts.settle(doubt)) return;
    process.busy.delete(doubt.leg.leg);
    if (!this.#stop.signal.aborted && this.#processes.get(process.id) === process) this.#recover(process);
  }

  /** From outside the flow of events. */
  #recover(process: Process): void {
    if (this.#tenures.isLive(process.partition)) this.#act(process);
  }

  /** Into memory, and where the engine acts, into action. */
  async #bring(ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      if (!this.#isOurs(id)) continue;
      // Also what is in memory already: it may have been read only to see whether it had ended.
      this.#recover(this.#processes.get(id) ?? (await this.#loader.load(id)));
    }
  }

  #actOn(ids: readonly string[]): void {
    for (const id of ids) {
      const process = this.#processes.get(id);
      if (process?.trouble) void this.#suspensions.tryAgain(process);
      else if (process) this.#act(process);
    }
  }

  #actOnDeferred(): void {
    if (this.#deferred.size === 0) return;
    const deferred = [...this.#deferred];
    this.#deferred.clear();
    for (const process of deferred) this.#act(process);
  }

  /** Where the head is not reached yet nothing is begun; those that wait elsewhere for its end are not to miss it. */
  #note(process: Process): void {
    if (!process.trouble) this.#dependencies.tell(process);
    this.#drop(process);
  }

  #act(process: Process): void {
    const { id, state, busy, partition } = process;
    if (process.trouble || state.tag === 'absent' || this.#stop.signal.aborted) return;
    // Lost meanwhile, and perhaps taken again: there is another process for it then.
    if (this.#processes.get(id) !== process) return;
    // It may have ended although nothing may begin here any more, and others wait here for that.
    this.#dependencies.tell(process);
    if (!this.#leases.isOpen(partition)) {
      if (this.#leases.has(partition)) this.#deferred.add(process);
      return;
    }
    if (this.#drop(process)) return;
    if (process.revision < process.decided) return;

    this.#declareDoubts(process, state);
    const reaction = this.#reactionOf(process);
    if (!reaction) return;
    if (reaction.wakeAt === undefined) this.#wake.delete(id);
    else this.#wake.set(id, Date.parse(reaction.wakeAt));
    for (const dependency of reaction.awaits) this.#dependencies.awaitEnd(id, dependency);
    for (const leg of reaction.attempts) {
      busy.add(leg.leg);
      const waiting = this.#dispatcher.add(state, leg, (pass) => this.#attempt(process, leg.leg, pass));
      if (!waiting.lane) continue;
      process.queued ??= new Map();
      process.queued.set(leg.leg, waiting);
    }
    if (reaction.commands.length > 0 && !process.deciding)
      void this.#inBackground(id, () => this.#carryOut(process, reaction.commands));
  }

  /** Undefined when its state makes the process manager throw: one delivery's trouble is not to be everybody's. */
  #reactionOf(process: Process): Reaction | undefined {
    try {
      if (process.state.tag !== 'absent' && this.#isExpired(process.state)) this.#callOff(process);
      return react(process.state, this.#now(), (leg) => process.busy.has(leg));
    } catch (error) {
      this.#suspensions.thrown(process, error);
      return undefined;
    }
  }

  /** Lets go of a delivery that has ended. One with a row stays until the checkpoint has deleted that. */
  #drop(process: Process): boolean {
    const { id, state, busy, stored } = process;
    if (process.trouble || state.tag === 'absent' || !isClosed(state)) return false;
    this.#callOff(process);
    if (busy.size > 0 || !isOver(state)) return false;
    this.#wake.delete(id);
    this.#dependencies.forget(process);
    // Whoever waits for it elsewhere is told with the next checkpoint.
    if (!stored && !process.hasTroubleRow && this.#leases.hasAll()) this.#processes.remove(process);
    // When an attempt has ended without an outcome, nothing else tells the checkpoint.
    else this.#processes.touch(process);
    return true;
  }

  /** What only waits for its turn is not going to happen. */
  #callOff({ queued, busy }: Process): void {
    if (!queued) return;
    for (const [leg, waiting] of queued) if (this.#dispatcher.withdraw(waiting)) busy.delete(leg);
    queued.clear();
  }

  async #attempt(process: Process, number: number, pass: Pass): Promise<void> {
    const { id, state, queued } = process;
    queued?.delete(number);
    const leg = state.tag === 'active' ? state.legs.find((candidate) => candidate.leg === number) : undefined;
    let end: boolean | Unanswered = false;
    try {
      // It may have waited in the queue for longer than the lease has lasted.
      const mayBegin = !process.trouble && this.#leases.isOpen(process.partition);
      if (leg && state.tag === 'active' && mayBegin && !this.#isExpired(state))
        end = await this.#attempts.run({ deliveryId: id, state, leg, pass, mayBegin: () => this.#mayBegin(process) });
    } catch (error) {
      if (!this.#stop.signal.aborted)
        this.#parts.log.error('an attempt could not be carried out', { deliveryId: id, err: error });
    }
    if (leg && state.tag === 'active' && typeof end === 'object') {
      // The place in the queue is free while the provider is asked; the leg is not.
      const doubt = { deliveryId: id, state, leg, attempt: end.attempt, unanswered: end };
      void this.#inBackground(id, () => this.#settleDoubt(process, doubt));
      return;
    }
    // A stored outcome frees the leg when it is folded. Without one the delivery has changed its mind meanwhile.
    if (end || !process.busy.delete(number) || this.#processes.get(id) !== process) return;
    this.#act(process);
  }

  /** While the lease is in doubt it waits: for the lease, or to hear that the delivery is another instance's. */
  async #mayBegin(process: Process): Promise<boolean> {
    while (!this.#stop.signal.aborted && this.#processes.get(process.id) === process) {
      if (this.#leases.isValid(process.partition)) return true;
      await pause(LOOK_AT_LEASE_MS, this.#stop.signal);
    }
    return false;
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

  /**
   * Tried until the log answers, as nothing else would come back to it. What is cut off by a shutdown is done again at
   * the next start; anything else is a defect, and is said.
   */
  async #inBackground(deliveryId: string, work: () => Promise<unknown>): Promise<void> {
    while (!this.#stop.signal.aborted)
      try {
        await work();
        return;
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        if (!(error instanceof LogUnavailable)) {
          this.#parts.log.error('a reaction failed', { deliveryId, err: error });
          return;
        }
        this.#parts.log.warn('a reaction waits for the log', { deliveryId, err: error });
        await pause(REACT_AGAIN_MS, this.#stop.signal);
      }
  }

  #isOurs(deliveryId: string): boolean {
    return this.#leases.has(partitionOf(deliveryId));
  }

  #isExpired(state: DeliveryState): boolean {
    const expiresAt = state.tag === 'absent' ? undefined : state.request.expiresAt;
    return expiresAt !== undefined && expiresAt <= this.#now();
  }

  #now(): string {
    return this.#leases.clock.now();
  }
}
