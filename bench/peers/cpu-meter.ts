import { cpus } from 'node:os';
import { cpuMicros } from '../process-stats.js';
import type { BenchReceiver } from '../receiver.js';
import type { Contestant } from './contestant.js';

/** Nothing where the kernel does not tell. */
export interface CpuUse {
  /** CPU time for one delivery, of API, queue and workers. */
  readonly cpuMicros?: number;
  /** The same of PostgreSQL or Redis. */
  readonly storeCpuMicros?: number;
  /** Share of the machine that went to what has nothing to do with the bench. */
  readonly othersPercent?: number;
}

interface Reading {
  readonly own: number | undefined;
  readonly store: number | undefined;
  readonly receiver: number | undefined;
  /** The bench itself, which is the client. */
  readonly client: number;
  /** All that ran on the machine. */
  readonly busy: number;
  readonly total: number;
}

/** Reads CPU times, in microseconds, when it is made and again when it is asked. */
export class CpuMeter {
  readonly #contestant: Contestant;
  readonly #receiver: BenchReceiver;
  readonly #before: Reading;

  constructor(contestant: Contestant, receiver: BenchReceiver) {
    this.#contestant = contestant;
    this.#receiver = receiver;
    this.#before = this.#now();
  }

  read(deliveries: number): CpuUse {
    const now = this.#now();
    const since = (key: keyof Reading) => (now[key] ?? Number.NaN) - (this.#before[key] ?? Number.NaN);
    const others = since('busy') - since('own') - since('store') - since('receiver') - since('client');
    const use = {
      cpuMicros: Math.round(since('own') / deliveries),
      storeCpuMicros: Math.round(since('store') / deliveries),
      othersPercent: Math.max(Math.round((100 * others) / since('total')), 0),
    };
    return Object.fromEntries(Object.entries(use).filter(([, value]) => Number.isFinite(value)));
  }

  #now(): Reading {
    const times = cpus().map((cpu) => cpu.times);
    const busy = times.reduce((sum, { user, nice, sys, irq }) => sum + user + nice + sys + irq, 0) * 1_000;
    const idle = times.reduce((sum, each) => sum + each.idle, 0) * 1_000;
    const { user, system } = process.cpuUsage();
    return {
      ...this.#contestant.cpu(),
      ...{ receiver: cpuMicros(this.#receiver.pid), client: user + system },
      ...{ busy, total: busy + idle },
    };
  }
}
