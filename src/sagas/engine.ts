import { derivedId } from '../commands/ids.js';
import type { DeliveryCommand } from '../domain/delivery.js';
import type { DeliveryEvent } from '../domain/delivery-events.js';
import { absent, type DeliveryState, evolve } from '../domain/delivery-state.js';
import { isClosed } from '../domain/delivery-status.js';
import { type EventCodec, skippedRevisions } from '../event-store/codec.js';
import { type EventReader, LogUnavailable, type RecordedEvent } from '../event-store/event-store.js';
import type { Among, Suppress } from './addressees.js';
import { Attempts, type Complete } from './attempt.js';
import { Checkpointer } from './checkpointer.js';
import { Decisions, type SendOrder } from './decisions.js';
import { dependencyOutcome, isOver, type Reaction, react } from './delivery-process.js';
import { Dispatcher, type PoolOptions } from './dispatcher.js';
import { type Doubt, Doubts, type Unanswered } from './doubts.js';
import type { EngineLog } from './engine-log.js';
import { type EngineStore, type Held, PARTITIONS, partitionOf } from './engine-store.js';
import type { GateOptions, GatesParts } from './gates.js';
import { Leases } from './leases.js';
import { pause } from './pause.js';
import { type Process, ProcessTable } from './process-table.js';
import type { Pass } from './route-gate.js';
import { Suspensions } from './suspensions.js';
import type { Targets } from './targets.js';
import { Tenure } from './tenure.js';
import { WakeQueue } from './wake-queue.js';

const STREAMS = 'delivery-';
/** How often to look for partitions to take or to give. */
const BALANCE_EVERY_MS = 1_000;
/** Between two tries to follow a log that cannot be read. */
const FOLLOW_AGAIN_MS = 500;
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

export type EngineState = 'stopped' | 'claiming' | 'catching-up' | 'running';

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
  readonly #wake: WakeQueue;
  readonly #checkpointer: Checkpointer;
  readonly #tenures = new Set<Tenure>();
  readonly #following = new Set<Promise<void>>();
  /** What would have acted while the leases were in doubt. */
  readonly #deferred = new Set<Process>();
  readonly #stop = new AbortController();
  #state: EngineState = 'stopped';
  #balancing: Promise<void> | undefined;

  constructor(parts: EngineParts, options: EngineOptions) {
    this.#parts = parts;
    this.#options = options;
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
      processOf: async (id) => this.#processes.get(id) ?? (await this.#load(id)),
      isOurs: (id) => this.#leases.has(partitionOf(id)),
      mayStore: (id) => this.#leases.isValid(partitionOf(id)),
      log: parts.log,
      signal: this.#stop.signal,
    });
    const complete: Complete = (request, id) => parts.codec.complete(request, `${STREAMS}${id}`);
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
          this.#stopWaiting(process);
          this.#recover(process);
        },
      },
      options.tryAgainAfterMs,
    );
    this.#checkpointer = new Checkpointer({
      store: parts.store,
      leases: this.#leases,
      processes: this.#processes,
      log: parts.log,
      intervalMs: options.checkpointIntervalMs,
      held: () => this.#held(),
      load: (ids) => this.#bring(ids),
      onEvict: (id) => this.#wake.delete(id),
      onThrown: (process, error) => this.#suspensions.thrown(process, error),
      onStored: (process) => this.#lookAgain(process),
      onAwaited: (waiter, dependency) => this.#inBackground(waiter, () => this.#resolveElsewhere(waiter, dependency)),
      onRenewed: () => this.#actOnDeferred(),
      onLost: (partitions) => this.#lose(partitions),
      onEmptied: () => this.#foldAnew(),
    });
  }

  status(): EngineStatus {
    let position: bigint | undefined;
    for (const tenure of this.#tenures)
      if (position === undefined || tenure.position < position) position = tenure.position;
    return {
      state: this.#state,
      position: position ?? 0n,
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
      const stream = await this.#parts.reader.readStream(`${STREAMS}${process.id}`);
      if (this.#processes.get(process.id) !== process || process.trouble) continue;
      this.#callOff(process);
      this.#processes.refold(process, stream, this.#parts.codec);
      if (this.#isLive(process.partition)) this.#act(process);
    }
  }

  /** Returns at once; `status()` tells when it runs. */
  start(): void {
    this.#state = 'claiming';
    this.#dispatcher.gates.start();
    this.#balancing = this.#balance();
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
    for (const tenure of this.#tenures) tenure.end();
    await this.#balancing;
    await Promise.all(this.#following);
    await this.#checkpointer.stop();
    await this.#leaveAll();
    this.#state = 'stopped';
  }

  async #leaveAll(): Promise<void> {
    await this.#checkpointer.save();
    try {
      await this.#parts.store.release(this.#leases.partitions);
      await this.#parts.store.leave();
    } catch (error) {
      this.#parts.log.warn('the leases could not be released', { err: error });
    }
  }

  async #balance(): Promise<void> {
    this.#checkpointer.start();
    let isFailing = false;
    while (!this.#stop.signal.aborted) {
      try {
        const claims = await this.#leases.claim();
        this.#dispatcher.gates.share = Math.max(1, this.#leases.partitions.length) / PARTITIONS;
        if (claims.length > 0) this.#take(new Tenure(claims));
        else if (this.#state === 'claiming') this.#state = 'running';
        await this.#giveSurplus();
        isFailing = false;
      } catch (error) {
        if (!isFailing) this.#parts.log.warn('the engine cannot claim its partitions yet', { err: error });
        isFailing = true;
      }
      await pause(BALANCE_EVERY_MS, this.#stop.signal);
    }
  }

  #take(tenure: Tenure): void {
    this.#parts.log.info('partitions taken', { partitions: [...tenure.partitions] });
    if (this.#state === 'claiming') this.#state = 'catching-up';
    this.#tenures.add(tenure);
    const following = this.#follow(tenure).finally(() => {
      // At a shutdown it stays until its last checkpoint.
      if (tenure.partitions.size === 0) this.#tenures.delete(tenure);
      this.#following.delete(following);
      this.#seeWhetherAllRun();
    });
    this.#following.add(following);
  }

  /** Gives away what is beyond this instance's share, once no attempt is under way there. */
  async #giveSurplus(): Promise<void> {
    const leaving = new Set(this.#leases.leaveSurplus());
    for (const process of this.#processes.of(leaving)) {
      this.#callOff(process);
      if (process.busy.size > 0) leaving.delete(process.partition);
    }
    if (leaving.size === 0) return;
    await this.#checkpointer.save();
    const given = [...leaving];
    this.#lose(given);
    await this.#parts.store.release(given);
    this.#parts.log.info('partitions given to other instances', { partitions: given });
  }

  /** They are another instance's now, or will be. */
  #lose(partitions: readonly number[]): void {
    const lost = new Set(partitions);
    this.#leases.drop(partitions);
    for (const tenure of this.#tenures) for (const partition of lost) tenure.lose(partition);
    for (const process of this.#processes.of(lost)) {
      this.#callOff(process);
      this.#processes.remove(process);
      this.#suspensions.forget(process);
      this.#deferred.delete(process);
      this.#wake.delete(process.id);
    }
  }

  #held(): Held[] {
    const held: Held[] = [];
    for (const { partitions, position } of this.#tenures)
      for (const partition of partitions) held.push({ partition, epoch: this.#leases.epochOf(partition), position });
    return held;
  }

  /** Folds what happens in a tenure's partitions for as long as they are held, whatever becomes of the log meanwhile. */
  async #follow(tenure: Tenure): Promise<void> {
    const over = AbortSignal.any([tenure.over, this.#stop.signal]);
    const prefixes =
      tenure.partitions.size === PARTITIONS
        ? [STREAMS]
        : [...tenure.partitions].map((partition) => STREAMS + partition.toString(16));
    let isOpened = false;
    while (!over.aborted) {
      const signal = AbortSignal.any([over, tenure.beginPass()]);
      try {
        if (!isOpened) await this.#checkpointer.open([...tenure.partitions]);
        isOpened = true;
        for await (const batch of this.#parts.reader.subscribe({ after: tenure.position, prefixes, signal })) {
          const changed = await this.#fold(batch.events, tenure);
          if (signal.aborted) break;
          tenure.position = batch.position;
          for (const process of changed) tenure.isLive ? this.#act(process) : this.#drop(process);
          if (!tenure.isLive && batch.caughtUp) this.#goLive(tenure);
          if (this.#processes.size > MOST_WHILE_FOLDING && !tenure.isLive) await this.#checkpointer.save();
        }
      } catch (error) {
        if (!signal.aborted)
          this.#parts.log.warn('the engine cannot follow the log; it will try again', { err: error });
      }
      // What was folded but not acted upon is found when it has caught up again.
      tenure.isLive = false;
      await pause(FOLLOW_AGAIN_MS, over);
    }
  }

  /** Somebody has emptied the table of timers: all of it is in the log. */
  async #foldAnew(): Promise<void> {
    this.#parts.log.warn('the table engine_deliveries was emptied: it is made again from the log');
    for (const tenure of this.#tenures) {
      tenure.rewind();
      for (const process of this.#processes.of(tenure.partitions)) {
        this.#processes.touch(process);
        process.hasLookedAgain = false;
      }
    }
    await this.#parts.store.restart(this.#held());
  }

  #goLive(tenure: Tenure): void {
    tenure.isLive = true;
    const processes = this.#processes.of(tenure.partitions);
    this.#seeWhetherAllRun();
    this.#parts.log.info('engine runs', { open: processes.length, position: tenure.position.toString() });
    for (const process of processes) {
      this.#declareDoubts(process);
      this.#act(process);
    }
  }

  /** Also when what was not there yet is another instance's now. */
  #seeWhetherAllRun(): void {
    if (this.#state === 'catching-up' && [...this.#tenures].every(({ isLive }) => isLive)) this.#state = 'running';
  }

  /** An attempt without an outcome that no running process makes: its provider may or may not have had the call. */
  #declareDoubts(process: Process): void {
    const { state, id, busy } = process;
    if (process.trouble || state.tag === 'absent') return;
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

  async #fold(events: readonly RecordedEvent[], tenure: Tenure): Promise<Set<Process>> {
    const changed = new Set<Process>();
    for (const recorded of events) {
      const id = recorded.streamId.slice(STREAMS.length);
      const partition = partitionOf(id);
      // What comes once more was folded, and may have left memory since, with a row.
      if (!tenure.partitions.has(partition) || recorded.position <= tenure.position) continue;
      // Not in memory and not its first event: it was put aside until due, or had ended. A new one has no row, unless
      // somebody has been here before.
      const process =
        this.#processes.get(id) ??
        (recorded.revision === 0 ? this.#processes.add(id, !tenure.isLive) : await this.#load(id));
      // Given away or taken while it was read.
      if (!tenure.partitions.has(partition)) continue;
      this.#foldOne(process, recorded);
      changed.add(process);
    }
    return changed;
  }

  #foldOne(process: Process, recorded: RecordedEvent): void {
    if (process.trouble) {
      this.#suspensions.offered(process, recorded);
      return;
    }
    try {
      this.#processes.fold(process, this.#parts.codec.decode<DeliveryEvent>(recorded).event, recorded.revision);
    } catch (error) {
      this.#suspensions.thrown(process, error, recorded);
    }
  }

  async #load(id: string): Promise<Process> {
    const events = await this.#read(id);
    const process = this.#processes.get(id) ?? this.#processes.add(id, true);
    const skipped = skippedRevisions(events);
    for (const recorded of events) if (!skipped.has(recorded.revision)) this.#foldOne(process, recorded);
    // Another instance's by now: nothing of it is to be stored here.
    if (!this.#leases.has(process.partition)) this.#processes.remove(process);
    return process;
  }

  async #read(id: string): Promise<RecordedEvent[]> {
    const read = this.#processes.beginRead(id);
    try {
      for (;;) {
        const events = await this.#parts.reader.readStream(`${STREAMS}${id}`);
        if (!read.isStale) return events;
        read.isStale = false;
      }
    } finally {
      this.#processes.endRead(id, read);
    }
  }

  /** From outside the flow of events. */
  #recover(process: Process): void {
    if (!this.#isLive(process.partition)) return;
    this.#declareDoubts(process);
    this.#act(process);
  }

  /** Into memory, and where the engine acts, into action. */
  async #bring(ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      if (!this.#leases.has(partitionOf(id))) continue;
      // Also what is in memory already: it may have been read only to see whether it had ended.
      this.#recover(this.#processes.get(id) ?? (await this.#load(id)));
    }
  }

  #isLive(partition: number): boolean {
    for (const { partitions, isLive } of this.#tenures) if (partitions.has(partition)) return isLive;
    return false;
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

  #act(process: Process): void {
    const { id, state, busy, partition } = process;
    if (process.trouble || state.tag === 'absent' || this.#stop.signal.aborted) return;
    // Lost meanwhile, and perhaps taken again: there is another process for it then.
    if (this.#processes.get(id) !== process) return;
    if (!this.#leases.isOpen(partition)) {
      if (this.#leases.has(partition)) this.#deferred.add(process);
      return;
    }
    for (const waiter of this.#processes.waitersOf(id)) this.#resolveDependency(waiter, id, state);
    if (this.#drop(process)) return;
    if (process.revision < process.decided) return;

    const reaction = this.#reactionOf(process);
    if (!reaction) return;
    if (reaction.wakeAt === undefined) this.#wake.delete(id);
    else this.#wake.set(id, Date.parse(reaction.wakeAt));
    for (const dependency of reaction.awaits) this.#awaitEnd(id, dependency);
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
    this.#stopWaiting(process);
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

  #stopWaiting({ id, state }: Process): void {
    if (state.tag === 'absent') return;
    for (const dependency of state.request.dependsOn ?? []) this.#processes.stopWaiting(id, dependency);
  }

  #awaitEnd(waiter: string, dependency: string): void {
    if (this.#processes.isWaiting(waiter, dependency)) return;
    this.#processes.startWaiting(waiter, dependency);
    void this.#inBackground(waiter, () => this.#lookAt(waiter, dependency));
  }

  async #lookAt(waiter: string, dependency: string): Promise<void> {
    if (!this.#leases.has(partitionOf(dependency))) {
      this.#resolveDependency(waiter, dependency, await this.#stateOf(dependency));
      return;
    }
    const process = this.#processes.get(dependency) ?? (await this.#load(dependency));
    // One in trouble may turn out to have ended otherwise.
    if (!process.trouble) this.#resolveDependency(waiter, dependency, process.state);
    this.#drop(process);
  }

  /**
   * What it depends on may be another instance's, which looks for waiting rows when that has ended. If it did so before
   * there was one, the end is in the log by now.
   */
  #lookAgain(process: Process): void {
    if (process.hasLookedAgain || process.state.tag !== 'held' || this.#leases.hasAll()) return;
    process.hasLookedAgain = true;
    for (const dependency of process.state.holds.dependencies) {
      if (this.#leases.has(partitionOf(dependency))) continue;
      void this.#inBackground(process.id, async () =>
        this.#resolveDependency(process.id, dependency, await this.#stateOf(dependency)),
      );
    }
  }

  #resolveDependency(waiter: string, dependency: string, state: DeliveryState): void {
    const outcome = dependencyOutcome(state);
    if (!outcome) return;
    this.#processes.stopWaiting(waiter, dependency);
    const command = { type: 'ResolveDependency', now: this.#now(), deliveryId: dependency, ...outcome } as const;
    const commandId = derivedId(waiter, `dependency/${dependency}`);
    void this.#inBackground(waiter, () => this.#decisions.store(waiter, command, commandId));
  }

  /** For a delivery of another instance: what is decided follows from the log alone, so anybody may write it down. */
  async #resolveElsewhere(waiter: string, dependency: string): Promise<void> {
    const state = this.#processes.get(dependency)?.state ?? (await this.#stateOf(dependency));
    const outcome = dependencyOutcome(state);
    if (!outcome || state.tag === 'absent') return;
    const { organizationId } = state.request;
    await this.#parts.order({
      id: waiter,
      command: { type: 'ResolveDependency', now: this.#now(), deliveryId: dependency, ...outcome },
      envelope: { organizationId, commandId: derivedId(waiter, `dependency/${dependency}`), actor: 'engine' },
    });
  }

  async #stateOf(id: string): Promise<DeliveryState> {
    const events = await this.#parts.reader.readStream(`${STREAMS}${id}`);
    return this.#parts.codec.fold<DeliveryState, DeliveryEvent>(events, evolve, absent);
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

  #isExpired(state: DeliveryState): boolean {
    const expiresAt = state.tag === 'absent' ? undefined : state.request.expiresAt;
    return expiresAt !== undefined && expiresAt <= this.#now();
  }

  #now(): string {
    return this.#leases.clock.now();
  }
}
