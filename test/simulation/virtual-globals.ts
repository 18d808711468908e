import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import timersPromises from 'node:timers/promises';
import type { Random } from './random.js';
import type { Scheduler, Step } from './scheduler.js';

/** The true time at the beginning of every simulation, Unix milliseconds. */
export const EPOCH_MS = Date.UTC(2026, 2, 2, 12);

interface Running {
  readonly scheduler: Scheduler;
  readonly random: Random;
}

/** The simulation whose turn it is; there is one at a time in a thread. */
let running: Running | undefined;

const RealDate = globalThis.Date;
const realSetImmediate = globalThis.setImmediate;

function wallMs(): number {
  if (!running) return RealDate.now();
  const { nowMs, current } = running.scheduler;
  return Math.floor(EPOCH_MS + nowMs + (current?.wallAheadMs ?? 0));
}

class VirtualDate extends RealDate {
  constructor(...given: [] | [number | string | Date]) {
    super(given.length === 0 ? wallMs() : given[0]);
  }

  static override now(): number {
    return wallMs();
  }
}

/** What the global timers return: enough of NodeJS.Timeout for whoever only starts and clears. */
class VirtualTimer {
  step: Step;

  constructor(step: Step) {
    this.step = step;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }
}

type Callback = (...args: unknown[]) => void;

const schedulerNow = (): Scheduler => {
  if (!running) throw new Error('no simulation is running');
  return running.scheduler;
};

/** As Node does: whole milliseconds, at least 1. */
const delayOf = (ms: number | undefined): number => Math.max(Math.trunc(ms ?? 1) || 1, 1);

function setVirtualTimeout(run: Callback, ms?: number, ...args: unknown[]): VirtualTimer {
  const scheduler = schedulerNow();
  return new VirtualTimer(scheduler.after(delayOf(ms), scheduler.current, () => run(...args), true));
}

function setVirtualInterval(run: Callback, ms?: number, ...args: unknown[]): VirtualTimer {
  const scheduler = schedulerNow();
  const host = scheduler.current;
  const again = () => {
    timer.step = scheduler.after(delayOf(ms), host, again, true);
    run(...args);
  };
  const timer = new VirtualTimer(scheduler.after(delayOf(ms), host, again, true));
  return timer;
}

function setVirtualImmediate(run: Callback, ...args: unknown[]): VirtualTimer {
  const scheduler = schedulerNow();
  return new VirtualTimer(scheduler.after(0, scheduler.current, () => run(...args)));
}

function clearVirtual(timer: unknown): void {
  if (timer instanceof VirtualTimer) timer.step.isCancelled = true;
}

const replaced = {
  Date: VirtualDate,
  setTimeout: setVirtualTimeout,
  setInterval: setVirtualInterval,
  setImmediate: setVirtualImmediate,
  clearTimeout: clearVirtual,
  clearInterval: clearVirtual,
  clearImmediate: clearVirtual,
};

/** What is imported by name from Node's own modules is replaced once, for good, and is real between simulations. */
function replaceImports(): void {
  const { randomUUID } = crypto;
  const { setTimeout: delay } = timersPromises;
  crypto.randomUUID = ((options) =>
    running ? running.random.uuid() : randomUUID(options)) as typeof crypto.randomUUID;
  timersPromises.setTimeout = ((ms, value, options) =>
    running ? virtualDelay(ms, value, options?.signal) : delay(ms, value, options)) as typeof timersPromises.setTimeout;
  syncBuiltinESMExports();
}

function virtualDelay(ms: number | undefined, value: unknown, signal: AbortSignal | undefined): Promise<unknown> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const cutOff = () => {
      clearVirtual(timer);
      reject(signal?.reason);
    };
    const timer = setVirtualTimeout(() => {
      signal?.removeEventListener('abort', cutOff);
      resolve(value);
    }, ms);
    signal?.addEventListener('abort', cutOff);
  });
}

let areImportsReplaced = false;

/**
 * Time and chance are the simulation's while `work` goes on: global timers, Date, performance.now, Math.random,
 * randomUUID and the timers of node:timers/promises.
 */
export async function inVirtualTime<Result>(
  scheduler: Scheduler,
  random: Random,
  work: () => Promise<Result>,
): Promise<Result> {
  if (running) throw new Error('another simulation is running in this thread');
  if (!areImportsReplaced) replaceImports();
  areImportsReplaced = true;
  const real = Object.fromEntries(
    Object.keys(replaced).map((name) => [name, globalThis[name as keyof typeof replaced]]),
  );
  const { random: realRandom } = Math;
  const { now: realNow } = performance;
  const controllers: AbortController[] = [];
  const RealAbortController = globalThis.AbortController;
  running = { scheduler, random };
  Object.assign(globalThis, replaced);
  Math.random = () => random.next();
  globalThis.AbortController = class extends RealAbortController {
    constructor() {
      super();
      controllers.push(this);
    }
  };
  performance.now = () => scheduler.nowMs - (scheduler.current?.monotonicFromMs ?? 0);
  try {
    return await work();
  } finally {
    // Node keeps a composed signal, and all that listens to it, until it is aborted.
    for (const controller of controllers) controller.abort();
    await new Promise((resolve) => realSetImmediate(resolve));
    globalThis.AbortController = RealAbortController;
    Object.assign(globalThis, real);
    Math.random = realRandom;
    performance.now = realNow;
    running = undefined;
  }
}
