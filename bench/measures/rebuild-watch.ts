import { setTimeout as delay } from 'node:timers/promises';
import type { WaybillProcess } from '../../test/support/waybill-process.js';
import { monotonicMs } from '../clock.js';
import { type Load, requestInput } from '../workload.js';

const LOOK_MS = 100;
const QUERY_MS = 20;
const BATCHES_PER_SECOND = 10;
const REQUEST =
  'mutation ($inputs: [RequestDeliveryInput!]!) { requestDeliveries(inputs: $inputs) { delivery { id } } }';

interface Status {
  readonly name: string;
  readonly lagSeconds: number;
  readonly exactLagEvents: number;
  readonly rebuild: {
    readonly id: string;
    readonly state: string;
    readonly phase: string;
    readonly comparison: string | null;
    readonly exactTotal: number;
    readonly startedAt: string;
    readonly finishedAt: string | null;
  } | null;
}
const STATUS = `{ projections { name lagSeconds exactLagEvents
  rebuild { id state phase comparison exactTotal startedAt finishedAt } } }`;
export const statuses = async (waybill: WaybillProcess) =>
  (await waybill.ask<{ projections: Status[] }>(STATUS)).projections;

/** Asks the same all the time, and how far the live read models are. */
export class Watch {
  wrong = 0;
  readonly #waybill: WaybillProcess;
  readonly #expected: string;
  #queries: number[] = [];
  #lag = { seconds: 0, events: 0 };
  #isOver = false;
  readonly #running: Promise<unknown>;

  private constructor(waybill: WaybillProcess, expected: string) {
    this.#waybill = waybill;
    this.#expected = expected;
    this.#running = Promise.all([this.#query(), this.#look()]);
  }

  static async begin(waybill: WaybillProcess): Promise<Watch> {
    return new Watch(waybill, JSON.stringify(await waybill.ask(Watch.QUERY)));
  }

  /** Milliseconds of each query since the last time. */
  takeQueries(): number[] {
    return this.#queries.splice(0);
  }

  takeLag(): { seconds: number; events: number } {
    const most = this.#lag;
    this.#lag = { seconds: 0, events: 0 };
    return most;
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#running;
  }

  /** A page of an organization to which nothing is added. */
  static readonly QUERY = `{
    deliveries(first: 50, filter: { organizationId: "bench-filled", status: [DELIVERED] }) {
      edges { node { id status attempts { number status } } } }
  }`;

  async #query(): Promise<void> {
    while (!this.#isOver) {
      const start = monotonicMs();
      const { data, errors } = await this.#waybill.graphql(Watch.QUERY);
      this.#queries.push(monotonicMs() - start);
      if (errors.length > 0 || JSON.stringify(data) !== this.#expected) this.wrong++;
      await delay(QUERY_MS);
    }
  }

  async #look(): Promise<void> {
    for (; !this.#isOver; await delay(LOOK_MS))
      for (const { lagSeconds, exactLagEvents } of await statuses(this.#waybill)) {
        this.#lag.seconds = Math.max(this.#lag.seconds, lagSeconds);
        this.#lag.events = Math.max(this.#lag.events, exactLagEvents);
      }
  }
}

/** Requests deliveries at a steady rate; a server that does not keep up is not asked for more than four bulks at once. */
export class Requesting {
  readonly #load: Load;
  readonly #rate: number;
  #requested = 0;
  #isOver = false;
  readonly #running: Promise<void>;

  constructor(load: Load, rate: number) {
    this.#load = load;
    this.#rate = rate;
    this.#running = rate > 0 ? this.#run() : Promise.resolve();
  }

  /** @returns how many were accepted */
  async stop(): Promise<number> {
    this.#isOver = true;
    await this.#running;
    return this.#requested;
  }

  async #run(): Promise<void> {
    const startedAt = monotonicMs();
    const underWay = new Set<Promise<void>>();
    let due = 0;
    while (!this.#isOver) {
      const now = Math.floor(((monotonicMs() - startedAt) / 1_000) * this.#rate);
      if (now > due) {
        if (underWay.size >= 4) await Promise.race(underWay);
        const bulk = this.#request(due, Math.min(now, due + 1_000));
        due = Math.min(now, due + 1_000);
        underWay.add(bulk);
        void bulk.finally(() => underWay.delete(bulk));
      }
      await delay(1_000 / BATCHES_PER_SECOND);
    }
    await Promise.all(underWay);
  }

  async #request(from: number, to: number): Promise<void> {
    const inputs = Array.from({ length: to - from }, (_, index) => requestInput(this.#load, from + index));
    await this.#load.waybill.ask(REQUEST, { inputs });
    this.#requested += to - from;
  }
}
