import { setMaxListeners } from 'node:events';
import type { EventCodec } from '../event-store/codec.js';
import { type EventReader } from '../event-store/event-store.js';
import type { Among, Suppress } from './addressees.js';
import { Attempts, type Complete } from './attempt.js';
import type { OpenFile } from './attempt-files.js';
import { Checkpointer } from './checkpointer.js';
import { Decisions, type SendOrder } from './decisions.js';
import { Dependencies } from './dependencies.js';
import { Dispatcher, type PoolOptions } from './dispatcher.js';
import { Doubts } from './doubts.js';
import type { EngineLog } from './engine-log.js';
import { type EngineStore, partitionOf } from './engine-store.js';
import type { GateOptions, GatesParts } from './gates.js';
import { Leases } from './leases.js';
import { ProcessLoader } from './process-loader.js';
import { ProcessTable } from './process-table.js';
import { Reactions } from './reactions.js';
import { Suspensions } from './suspensions.js';
import type { Targets } from './targets.js';
import type { Tenure } from './tenure.js';
import { type EngineState, Tenures } from './tenures.js';
import { WakeQueue } from './wake-queue.js';

const STREAMS = 'delivery-';
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
  readonly #suspensions: Suspensions;
  readonly #leases: Leases;
  readonly #tenures: Tenures;
  readonly #loader: ProcessLoader;
  readonly #dependencies: Dependencies;
  readonly #wake: WakeQueue;
  readonly #checkpointer: Checkpointer;
  readonly #reactions: Reactions;
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
      now: () => this.#leases.clock.now(),
      onBug: (error, deliveryId) => parts.log.error('a channel adapter threw', { deliveryId, err: error }),
      ...(parts.suppressed && { suppressed: parts.suppressed }),
      ...(parts.suppress && { suppress: parts.suppress }),
      ...(options.publicUrl !== undefined && { publicUrl: options.publicUrl }),
      complete,
      openFile,
    });
    const doubts = new Doubts({
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
          this.#reactions.recover(process);
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
      inBackground: (id, work) => this.#reactions.inBackground(id, work),
      drop: (process) => void this.#reactions.drop(process),
      now: () => this.#leases.clock.now(),
    });
    this.#reactions = new Reactions({
      processes: this.#processes,
      leases: this.#leases,
      dispatcher: this.#dispatcher,
      attempts: this.#attempts,
      decisions: this.#decisions,
      doubts,
      suspensions: this.#suspensions,
      dependencies: this.#dependencies,
      wake: this.#wake,
      isLive: (partition) => this.#tenures.isLive(partition),
      log: parts.log,
      stopped: this.#stop.signal,
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
      onFolded: (process, { isLive }) => (isLive ? this.#reactions.act(process) : this.#reactions.note(process)),
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
        this.#reactions.inBackground(waiter, () => this.#dependencies.tellElsewhere(waiter, dependency)),
      onRenewed: () => this.#reactions.actOnDeferred(),
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
      this.#reactions.callOff(process);
      this.#reactions.recover(process);
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
      this.#reactions.callOff(process);
      if (process.busy.size > 0) free.delete(process.partition);
    }
    return free;
  }

  #lose(partitions: ReadonlySet<number>): void {
    for (const process of this.#processes.of(partitions)) {
      this.#reactions.callOff(process);
      this.#processes.remove(process);
      this.#suspensions.forget(process);
      this.#reactions.forget(process);
      this.#wake.delete(process.id);
    }
  }

  #goLive({ partitions, position }: Tenure): void {
    const processes = this.#processes.of(partitions);
    this.#parts.log.info('engine runs', { open: processes.length, position: position.toString() });
    for (const process of processes) this.#reactions.act(process);
  }

  /** Into memory, and where the engine acts, into action. */
  async #bring(ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      if (!this.#isOurs(id)) continue;
      // Also what is in memory already: it may have been read only to see whether it had ended.
      this.#reactions.recover(this.#processes.get(id) ?? (await this.#loader.load(id)));
    }
  }

  #actOn(ids: readonly string[]): void {
    for (const id of ids) {
      const process = this.#processes.get(id);
      if (process?.trouble) void this.#suspensions.tryAgain(process);
      else if (process) this.#reactions.act(process);
    }
  }

  #isOurs(deliveryId: string): boolean {
    return this.#leases.has(partitionOf(deliveryId));
  }
}
