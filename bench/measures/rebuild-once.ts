import { setTimeout as delay } from 'node:timers/promises';
import { postgresPid, type WaybillProcess } from '../../test/support/waybill-process.js';
import { rounded } from '../clock.js';
import { cpuMicros, familyCpuMicros } from '../process-stats.js';
import type { Figure } from './command.js';
import { statuses } from './rebuild-watch.js';

const LOOK_MS = 100;

/** What rebuilds take of the machine: all that is used, less what goes on beside them all the time. */
export class Cpu {
  readonly #waybill: number;
  readonly #postgres: number;
  #from: { readonly at: number; readonly waybill: number; readonly postgres: number };
  /** CPU microseconds a second of what goes on beside. */
  #beside = { waybill: 0, postgres: 0 };

  private constructor(waybill: number, postgres: number) {
    this.#waybill = waybill;
    this.#postgres = postgres;
    this.#from = this.#now();
  }

  static async of({ pid, dataDir }: WaybillProcess): Promise<Cpu> {
    return new Cpu(pid, (await postgresPid(dataDir)) ?? 0);
  }

  /** What was used since the beginning is what goes on all the time. */
  restIsBeside(): void {
    this.#beside = { waybill: 0, postgres: 0 };
    const { waybill, postgres, seconds } = this.take();
    this.#beside = { waybill: waybill / seconds, postgres: postgres / seconds };
  }

  /** Microseconds since the last time. */
  take(): { waybill: number; postgres: number; seconds: number } {
    const [from, to] = [this.#from, this.#now()];
    this.#from = to;
    const seconds = (to.at - from.at) / 1_000;
    return {
      waybill: to.waybill - from.waybill - seconds * this.#beside.waybill,
      postgres: to.postgres - from.postgres - seconds * this.#beside.postgres,
      seconds,
    };
  }

  #now() {
    const [waybill = 0, postgres = 0] = [cpuMicros(this.#waybill), familyCpuMicros(this.#postgres)];
    return { at: performance.now(), waybill, postgres };
  }
}

/** One rebuild, or several that go together. */
export interface Made {
  readonly names: readonly string[];
  /** In the log, when it ended. */
  readonly events: number;
  readonly seconds: number;
  /** Seconds in each phase; of several at once in that which most of them are in. */
  readonly phases: ReadonlyMap<string, number>;
  /** CPU microseconds for each event of the log. */
  readonly cpu: { readonly waybill: number; readonly postgres: number };
  /** How many were not equal to the live rows. */
  readonly different: number;
}

/** @throws Error when one does not end well */
export async function rebuilt(waybill: WaybillProcess, cpu: Cpu, names: readonly string[]): Promise<Made> {
  cpu.take();
  const begun = performance.now();
  const { ordered } = await waybill.ask<{ ordered: { id: string }[] }>(
    'mutation ($names: [String!]) { ordered: rebuildProjections(names: $names) { id } }',
    { names },
  );
  const ids = new Set(ordered.map(({ id }) => id));
  const phases = new Map<string, number>();
  for (let at = performance.now(); ; await delay(LOOK_MS)) {
    const rebuilds = (await statuses(waybill)).flatMap(({ rebuild }) =>
      rebuild && ids.has(rebuild.id) ? rebuild : [],
    );
    // The thread that makes them may not have told of them yet.
    if (rebuilds.length < names.length) continue;
    const now = performance.now();
    for (const { phase } of rebuilds) phases.set(phase, (phases.get(phase) ?? 0) + (now - at) / 1_000 / names.length);
    at = now;
    if (rebuilds.some(({ state }) => state === 'running')) continue;
    const bad = rebuilds.find(({ state }) => state !== 'done');
    if (bad) throw new Error(`a rebuild of ${names.join()} has ended as ${bad.state}`);
    const events = Math.max(...rebuilds.map(({ exactTotal }) => exactTotal));
    const { waybill: process, postgres } = cpu.take();
    return {
      names,
      events,
      phases,
      seconds: (now - begun) / 1_000,
      cpu: { waybill: rounded(process / events, 1), postgres: rounded(postgres / events, 1) },
      different: rebuilds.filter(({ comparison }) => comparison !== 'equal').length,
    };
  }
}

const perSecond = ({ events, seconds }: Made): number => Math.round(events / seconds);

export function described(made: Made): string {
  const phases = [...made.phases].map(([phase, seconds]) => `${phase} ${rounded(seconds, 1)} s`).join(', ');
  const { waybill, postgres } = made.cpu;
  return `${perSecond(made)} events/s; CPU µs an event: ${waybill} here, ${postgres} in PostgreSQL (${phases})`;
}

export function figuresOf(made: Made, title: string): Figure[] {
  const budget = made.names.length === 1 && { budget: '30,000 or more' };
  const key = title.replace(' ', '-');
  return [
    { key: `perSecond.${key}`, title: `… of ${title}`, value: perSecond(made), ...budget },
    { key: `cpu.${key}`, title: '   CPU µs an event, in the process', value: made.cpu.waybill },
    { key: `cpuPostgres.${key}`, title: '   … in PostgreSQL', value: made.cpu.postgres },
  ];
}
