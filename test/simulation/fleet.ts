import type { EventCodec } from '../../src/event-store/codec.js';
import type { Climate, Service } from './climate.js';
import { Instance, type PlantedBug } from './instance.js';
import type { Judge } from './judge.js';
import type { Knowledge } from './knowledge.js';
import type { Link } from './network.js';
import type { Action, Plan } from './plan.js';
import type { Providers } from './providers.js';
import { Random } from './random.js';
import { Host, type Scheduler } from './scheduler.js';
import type { SimulatedDatabase } from './simulated-database.js';
import { logFailure, type SimulatedLog } from './simulated-log.js';
import type { Witness } from './witness.js';

/** An instance that calls log or database more often in a second does not wait between tries. */
const MOST_CALLS_A_SECOND = 3_000;
const DRAIN_MS = 3_000;
/** How long a circuit stays open. */
const RECOVERY_MS = 7_000;
/** Pauses of an engine that has stumbled over an event. */
const TRY_AGAIN_AFTER_MS = [500, 1_000, 2_000];
/** How much later than given up a request can be carried out by the log. */
const LATEST_MS = 10_000;
/** How long an instance waits for an answer. */
const PATIENCE_MS = 2_000;

export interface FleetParts {
  readonly scheduler: Scheduler;
  readonly plan: Plan;
  readonly bug: PlantedBug | undefined;
  readonly log: SimulatedLog;
  readonly providers: Providers;
  readonly codec: EventCodec;
  readonly climate: Climate;
  readonly judge: Judge;
  readonly knowledge: Knowledge;
  readonly witness: Witness;
}

/** What can be done to one instance. */
export type InstanceAction = Extract<
  Action,
  { readonly do: 'crash' | 'shut down' | 'stop' | 'clock jump' | 'disturb' | 'stall' }
>;

interface Slot {
  readonly index: number;
  /** Its name in the database. */
  owner: string;
  runs: number;
  running: Instance | undefined;
}

/** The instances: started, killed, stopped, started again. */
export class Fleet {
  readonly #parts: FleetParts;
  readonly #slots: readonly Slot[];
  readonly #hosts: Host[] = [];

  constructor(parts: FleetParts) {
    this.#parts = parts;
    this.#slots = Array.from({ length: parts.plan.instances }, (_, index) => ({
      ...{ index, owner: `instance-${index}`, runs: 0 },
      running: undefined,
    }));
  }

  get running(): Instance[] {
    return this.#slots.flatMap(({ running }) => running ?? []);
  }

  get isComplete(): boolean {
    return this.running.length === this.#slots.length;
  }

  /** One that is running, as a load balancer finds one; `turn` spreads the calls. */
  any(turn: number): Instance | undefined {
    const { running } = this;
    return running[turn % Math.max(running.length, 1)];
  }

  start(database: SimulatedDatabase): void {
    for (const slot of this.#slots) this.#start(slot, database);
  }

  /** One more, on another database, when all others are gone. */
  startAnew(database: SimulatedDatabase): void {
    for (const host of this.#hosts) host.isAlive = false;
    for (const slot of this.#slots) slot.running = undefined;
    this.#start({ index: 0, owner: 'replay', runs: 100, running: undefined }, database, (instance) => {
      (this.#slots[0] as Slot).running = instance;
    });
  }

  disturb(action: InstanceAction, database: SimulatedDatabase): void {
    const slot = this.#slots[action.instance];
    if (!slot?.running) return;
    const { scheduler, witness } = this.#parts;
    const { running } = slot;
    const { host, log } = running;
    const { do: what, instance: _, ...how } = action;
    witness.tell(`fault    ${what} ${host.name} ${JSON.stringify(how)}`);
    switch (action.do) {
      case 'crash':
        host.isAlive = false;
        if (!action.isSameOwner && !this.#parts.plan.isAlone) slot.owner = `instance-${slot.index}-${slot.runs}`;
        this.#replace(slot, action.backAfterMs, database);
        break;
      case 'shut down':
        this.#shutDown(slot, running, () => this.#replace(slot, action.backAfterMs, database));
        break;
      case 'stop':
        scheduler.stop(host);
        scheduler.after(action.forMs, undefined, () => this.#goOn(host, action.timersFirst));
        break;
      case 'clock jump':
        host.wallAheadMs = action.byMs;
        scheduler.after(action.forMs, undefined, () => {
          host.wallAheadMs = 0;
        });
        break;
      case 'disturb':
        log.disturb(action.how);
        break;
      case 'stall':
        log.stallUntil(scheduler.nowMs + action.forMs);
        break;
    }
  }

  /** Nothing is wrong with any of them any more. */
  calm(): void {
    for (const host of this.#hosts) {
      this.#goOn(host, true);
      host.wallAheadMs = 0;
    }
    for (const { log } of this.running) log.stallUntil(0);
  }

  #shutDown(slot: Slot, instance: Instance, then: () => void): void {
    const { scheduler, witness } = this.#parts;
    const { host } = instance;
    slot.running = undefined;
    scheduler.after(0, host, () => {
      void instance.shutDown().then(() => {
        host.isAlive = false;
        witness.tell(`fault    ${host.name} has ended`);
        then();
      });
    });
  }

  #replace(slot: Slot, afterMs: number, database: SimulatedDatabase): void {
    const { scheduler, witness } = this.#parts;
    slot.running = undefined;
    scheduler.after(witness.calmSinceMs === undefined ? afterMs : 0, undefined, () => this.#start(slot, database));
  }

  #goOn(host: Host, timersFirst: boolean): void {
    if (!host.isStopped) return;
    this.#parts.witness.tell(`fault    ${host.name} goes on`);
    this.#parts.scheduler.goOn(host, timersFirst);
  }

  #start(slot: Slot, database: SimulatedDatabase, onStarted?: (instance: Instance) => void): void {
    const { scheduler, plan, witness } = this.#parts;
    slot.runs++;
    const name = `${'ABC'[slot.index]}${slot.runs}`;
    const random = new Random(plan.seed, name);
    const host = new Host(name, -random.between(0, 1e6));
    this.#hosts.push(host);
    // Its clocks are read from the beginning, so it is made in a step of its own.
    scheduler.after(random.between(0, 100), host, () => {
      const instance = this.#make(slot, { host, random, database });
      slot.running = instance;
      onStarted?.(instance);
      witness.tell(`fault    ${name} starts as ${slot.owner}`);
      instance.start();
    });
  }

  #make(slot: Slot, { host, random, database }: { host: Host; random: Random; database: SimulatedDatabase }): Instance {
    const { scheduler, plan, bug, log, providers, codec, judge, knowledge, witness } = this.#parts;
    const { concurrency, checkpointIntervalMs, isAlone, failureThreshold } = plan;
    const words = (level: string) => (message: string, fields?: object) =>
      witness.tell(`${host.name.padEnd(8)} ${level}: ${message}${fieldsOf(fields)}`);
    return new Instance({
      ...{ scheduler, host, random, log, database, providers, codec, bug },
      owner: slot.owner,
      links: { log: this.#link('log', slot, host, random), database: this.#link('database', slot, host, random) },
      watch: {
        onSend: (append) => judge.sent(host, append),
        onSave: (checkpoint) => judge.saved(host, checkpoint),
        onBatch: (prefixes, position) => knowledge.heard(host, prefixes, position, scheduler.nowMs),
        onClaim: (claims) => {
          const partitions = claims.map(({ partition }) => partition.toString(16)).join('');
          if (claims.length > 0) witness.tell(`database ${host.name} takes partitions ${partitions}`);
          for (const { partition } of claims) knowledge.claimed(host, partition, log.head);
        },
      },
      options: {
        ...{ concurrency, checkpointIntervalMs, isAlone, drainTimeoutMs: DRAIN_MS },
        ...{ largeConcurrency: 1, largeBytes: 1_000_000, destinationConcurrency: 8 },
        breaker: { failureThreshold, recoveryTimeoutMs: RECOVERY_MS, halfOpenMaxCalls: 2 },
        disableAfter: { failures: 1_000, hours: 1 },
        tryAgainAfterMs: TRY_AGAIN_AFTER_MS,
      },
      words: { info: words('info'), warn: words('warn'), error: words('ERROR') },
    });
  }

  #link(service: Service, { index }: Slot, host: Host, random: Random): Link {
    const { scheduler, plan, climate, witness } = this.#parts;
    let [second, calls] = [0, 0];
    return {
      host,
      random,
      weather: () => climate.of(service, index),
      doubtful: () => (witness.calmSinceMs === undefined ? plan.doubtful : 0),
      latestMs: service === 'log' ? LATEST_MS : 0,
      patienceMs: PATIENCE_MS,
      failure: service === 'log' ? logFailure : (why) => new Error(`the database cannot be reached: ${why}`),
      onCall: () => {
        const now = Math.floor(scheduler.nowMs / 1_000);
        if (now !== second) [second, calls] = [now, 0];
        const tooMany = `${host.name} calls the ${service} more than ${MOST_CALLS_A_SECOND} times a second`;
        if (++calls > MOST_CALLS_A_SECOND) witness.fail('steady work', tooMany);
        return !witness.isOver;
      },
    };
  }
}

function fieldsOf(fields: object | undefined): string {
  if (!fields) return '';
  const { err, ...rest } = fields as { err?: Error };
  const words = Object.keys(rest).length > 0 ? ` ${JSON.stringify(rest)}` : '';
  return err ? `${words} (${err.message})` : words;
}
