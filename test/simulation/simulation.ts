import { absent } from '../../src/domain/delivery-state.js';
import { EventCodec } from '../../src/event-store/codec.js';
import { Audit } from './audit.js';
import { POISON, stateOf } from './cases.js';
import { Clients } from './clients.js';
import { Climate } from './climate.js';
import { Fleet } from './fleet.js';
import type { Violation } from './history.js';
import { ORGANIZATION, type PlantedBug } from './instance.js';
import { Judge } from './judge.js';
import { Knowledge } from './knowledge.js';
import type { Plan, PlannedStep } from './plan.js';
import { PlannedRoutes } from './planned-routes.js';
import { Providers } from './providers.js';
import { Random } from './random.js';
import { Host, Scheduler } from './scheduler.js';
import { SimulatedDatabase } from './simulated-database.js';
import { type Appended, SimulatedLog } from './simulated-log.js';
import { EPOCH_MS, inVirtualTime } from './virtual-globals.js';
import { Witness } from './witness.js';

/** After the last step, whatever is wrong goes on for so long. */
const AFTERMATH_MS = 2_000;
/** What nobody holds is somebody's by then. */
const TAKE_OVER_MS = 15_000;
/** From the end of all that happens to the last instance's state being stored. */
const LAST_CHECKPOINTS_MS = 6_000;
const REPLAY_MS = 20_000;
/** How often an operator looks. */
const OPERATOR_MS = 9_000;
/** However long people and clocks have made somebody wait. */
const LONGEST_MS = 3_600_000;

export interface Outcome {
  readonly seed: number;
  readonly violation?: Violation;
  /** The same for the same seed and program. */
  readonly hash: string;
  readonly virtualMs: number;
  /** How often each kind of event was recorded and each kind of thing was done. */
  readonly counts: ReadonlyMap<string, number>;
  readonly history: () => string[];
}

/** Does everything a plan says to instances that share a log and a database, and watches. */
export class Simulation {
  readonly #plan: Plan;
  readonly #bug: PlantedBug | undefined;
  readonly #scheduler = new Scheduler();
  readonly #witness = new Witness(this.#scheduler);
  readonly #climate = new Climate();
  readonly #codec = new EventCodec();
  readonly #ids: Random;
  readonly #routes: PlannedRoutes;
  readonly #database: SimulatedDatabase;
  readonly #log: SimulatedLog;
  readonly #judge: Judge;
  readonly #clients: Clients;
  readonly #fleet: Fleet;

  /** @param bug a defect that it should find */
  constructor(plan: Plan, bug?: PlantedBug) {
    this.#plan = plan;
    this.#bug = bug;
    this.#ids = new Random(plan.seed, 'ids');
    this.#routes = new PlannedRoutes(plan);
    const [scheduler, witness, codec, climate] = [this.#scheduler, this.#witness, this.#codec, this.#climate];
    const knowledge = new Knowledge();
    this.#database = new SimulatedDatabase(scheduler, plan.databaseAheadMs);
    this.#log = new SimulatedLog(scheduler, (appended) => this.#appended(appended));
    const log = this.#log;
    this.#judge = new Judge({
      ...{ scheduler, witness, codec, knowledge, database: this.#database, isAlone: plan.isAlone },
      streamOf: (id) => log.stream(`delivery-${id}`),
      policyOf: (route) => this.#routes.policyOf(route),
      leadsTo: (route, address) => this.#routes.leadsTo(route, address),
    });
    const judge = this.#judge;
    const providers = new Providers({
      scheduler,
      fateOf: (id, address, nth) => this.#routes.fateOf(judge.nameOf(id), address, nth),
      onCall: (call) => {
        const { number, address, deliveryId, host } = call;
        witness.tell(`provider call ${number} to ${address} for ${judge.nameOf(deliveryId)}   by ${host.name}`);
        judge.called(call);
      },
      onAnswer: ({ number }, answer) => {
        witness.count(answer);
        witness.tell(`provider call ${number} ${answer}`);
      },
    });
    this.#fleet = new Fleet({ ...{ scheduler, plan, bug, log, providers, codec, climate, judge, knowledge, witness } });
    this.#clients = new Clients({
      ...{ scheduler, witness, log, seed: plan.seed },
      instance: (turn) => this.#fleet.any(turn),
      destinationId: (index) => this.#routes.destinationId(index),
      doubtOf: (id) => this.#doubtOf(id),
    });
  }

  async run(): Promise<Outcome> {
    const witness = this.#witness;
    const takeBack = this.#bug?.patch?.();
    const onRejection = (error: unknown) =>
      witness.fail('no loose ends', String((error as Error | undefined)?.stack ?? error));
    process.on('unhandledRejection', onRejection);
    try {
      await inVirtualTime(this.#scheduler, new Random(this.#plan.seed, 'program'), () => this.#run());
    } finally {
      process.off('unhandledRejection', onRejection);
      takeBack?.();
    }
    return {
      seed: this.#plan.seed,
      ...(witness.violation && { violation: witness.violation }),
      hash: witness.history.hash,
      virtualMs: this.#scheduler.nowMs,
      counts: witness.counts,
      history: () => witness.history.lines(),
    };
  }

  async #run(): Promise<void> {
    const { steps } = this.#plan;
    const [scheduler, witness] = [this.#scheduler, this.#witness];
    this.#routes.prepare(this.#log, this.#codec);
    this.#fleet.start(this.#database);
    for (const step of steps) scheduler.after(step.atMs, undefined, () => this.#do(step));
    this.#operate();
    scheduler.after((steps.at(-1)?.atMs ?? 0) + AFTERMATH_MS, undefined, () => this.#calm());
    await scheduler.run(() => witness.isOver);
    witness.history.mix(scheduler.done);
  }

  #appended(appended: Appended): void {
    this.#judge.appended(appended);
    const { streamId, events, host } = appended;
    const name = this.#judge.nameOf(streamId.replace('delivery-', ''));
    for (const { type, revision, data } of events) {
      this.#witness.count(type);
      this.#witness.tell(`log      ${name} ${revision} ${type}${detailOf(data)}   by ${host.name}`);
    }
  }

  #do(step: PlannedStep): void {
    const { atMs: _, ...action } = step;
    this.#witness.count(action.do);
    switch (action.do) {
      case 'request':
        this.#clients.request(action);
        break;
      case 'request again': {
        const planned = this.#routes.requests.get(action.delivery);
        if (planned?.hasKey) this.#clients.request(planned, action.isSame ? 'same' : 'other');
        break;
      }
      case 'enable':
      case 'disable':
        this.#clients.changeDestination(action);
        break;
      case 'poison':
        this.#poison(action.delivery);
        break;
      case 'truncate':
        this.#witness.tell('fault    the table engine_deliveries is emptied');
        this.#database.truncate();
        break;
      case 'weather': {
        const { do: __, of, instance, forMs, ...weather } = action;
        const whose = instance === undefined ? '' : `for ${'ABC'[instance]} `;
        this.#witness.tell(`fault    ${of} ${whose}${JSON.stringify(weather)} for ${Math.round(forMs)} ms`);
        this.#scheduler.after(forMs, undefined, this.#climate.begin({ of, instance, weather }));
        break;
      }
      case 'crash':
      case 'shut down':
      case 'stop':
      case 'clock jump':
      case 'disturb':
      case 'stall':
        this.#fleet.disturb(action, this.#database);
        break;
      default:
        this.#clients.change(action);
    }
  }

  /** A newer program writes what this one does not know. */
  #poison(delivery: number): void {
    const id = this.#clients.idOf(delivery);
    if (id === undefined) return;
    const metadata = { schemaVersion: '1', organizationId: ORGANIZATION, commandId: id, actor: 'a later version' };
    const event = { id: this.#ids.uuid(), type: POISON, data: {}, metadata };
    const streamId = `delivery-${id}`;
    const expected = this.#log.stream(streamId).length - 1;
    this.#log.append({ streamId, expected, events: [event] }, new Host('a later version', 0));
  }

  /** Has everything skipped that the engine has given up, now and then. */
  #operate(): void {
    const instance = this.#fleet.any(0);
    for (const { id } of instance ? this.#database.suspensions() : [])
      this.#scheduler.after(0.5, instance?.host, () => {
        this.#witness.tell(`operator skips what is wrong with ${this.#judge.nameOf(id)}`);
        instance?.suspended.skip(id, { actor: 'operator', reason: 'not known here' }).catch(() => undefined);
      });
    this.#scheduler.after(OPERATOR_MS, undefined, () => this.#operate());
  }

  /** From now on nothing is wrong any more. */
  #calm(): void {
    this.#witness.tell('fault    no more faults from here on');
    this.#witness.calmSinceMs = this.#scheduler.nowMs;
    this.#climate.clear();
    this.#fleet.calm();
    this.#watchSettling();
  }

  #watchSettling(): void {
    if (this.#scheduler.nowMs > LONGEST_MS) this.#witness.fail('all end', 'there is no end to it');
    if (this.#isSettled()) this.#scheduler.after(LAST_CHECKPOINTS_MS, undefined, () => this.#finish());
    else this.#scheduler.after(1_000, undefined, () => this.#watchSettling());
  }

  #isSettled(): boolean {
    const { nowMs } = this.#scheduler;
    const calmSinceMs = this.#witness.calmSinceMs ?? nowMs;
    const isSettled = this.#auditOf(this.#database).isSettled(calmSinceMs, nowMs);
    return isSettled && this.#fleet.isComplete && nowMs - calmSinceMs >= TAKE_OVER_MS;
  }

  #finish(): void {
    // Somebody may have had second thoughts.
    if (!this.#isSettled()) {
      this.#watchSettling();
      return;
    }
    this.#auditOf(this.#database).check(this.#fleet.running);
    if (!this.#witness.isOver) this.#replay();
  }

  /** The finished history once more, on a database that knows nothing. */
  #replay(): void {
    this.#witness.tell('replay   all over again, from the log alone');
    this.#witness.isReplaying = true;
    const database = new SimulatedDatabase(this.#scheduler, this.#plan.databaseAheadMs);
    this.#fleet.startAnew(database);
    this.#scheduler.after(REPLAY_MS, undefined, () => {
      this.#auditOf(database).check(this.#fleet.running);
      this.#witness.isOver = true;
    });
  }

  #auditOf(database: SimulatedDatabase): Audit {
    return new Audit({ judge: this.#judge, database, witness: this.#witness });
  }

  #doubtOf(id: string): string {
    const found = this.#judge.cases.get(id);
    const state = found ? stateOf(found) : absent;
    const legs = state.tag === 'absent' ? [] : state.legs;
    const doubtful = legs.find(({ progress }) => progress.tag === 'doubtful') ?? legs[0];
    return `${doubtful?.leg ?? 1}-${doubtful?.attempts ?? 1}`;
  }
}

/** What tells attempts, legs and routes apart in an event. */
function detailOf(data: object): string {
  const { leg, number, route, round, resolution, failure, dueAt } = data as Record<string, unknown>;
  const due = dueAt === undefined ? undefined : `${((Date.parse(String(dueAt)) - EPOCH_MS) / 1_000).toFixed(3)} s`;
  const category = (failure as { readonly category?: string } | undefined)?.category;
  const named = { leg, attempt: number, route, round, due };
  return [
    ...Object.entries(named).map(([name, value]) => (value === undefined ? '' : ` ${name} ${value}`)),
    ...[resolution, category].map((value) => (value === undefined ? '' : ` ${value}`)),
  ].join('');
}
