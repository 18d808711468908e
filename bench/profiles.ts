import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { rounded } from './clock.js';

/** CPU profiles as `node --cpu-prof` writes them, one for each thread of JavaScript. Source: the Profiler domain of the DevTools protocol */
interface Written {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: Frame;
    readonly children?: readonly number[];
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
  /** Microseconds of the clock that `monotonicMs` reads. */
  readonly startTime: number;
}

export interface Frame {
  readonly functionName: string;
  readonly url: string;
}

export interface Sample {
  /** When it was taken, by `monotonicMs`. */
  readonly at: number;
  readonly micros: number;
  /** Names the stack: equal ones have the same. */
  readonly stack: number;
  readonly isIdle: boolean;
}

export interface ThreadProfile {
  /** In the order in which they were started; the first is the main thread. */
  readonly thread: number;
  readonly samples: readonly Sample[];
  /** From the innermost frame outwards. */
  framesOf(stack: number): Iterable<Frame>;
}

const THREAD = /\.(\d+)\.\d+\.cpuprofile$/;

/** @param folder holds the profiles of one run, which are written when it ends */
export async function readProfiles(folder: string): Promise<ThreadProfile[]> {
  const names = (await readdir(folder)).filter((name) => THREAD.test(name));
  const profiles = names.map(async (name) => {
    const written = JSON.parse(await readFile(join(folder, name), 'utf8')) as Written;
    return threadProfile(Number(THREAD.exec(name)?.[1]), written);
  });
  return (await Promise.all(profiles)).sort((one, other) => one.thread - other.thread);
}

export function threadProfile(thread: number, { nodes, samples, timeDeltas, startTime }: Written): ThreadProfile {
  const parents = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id])));
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
  let clock = startTime;
  return {
    thread,
    samples: samples.map((stack, index) => {
      const micros = timeDeltas[index] ?? 0;
      clock += micros;
      return { at: clock / 1_000, micros, stack, isIdle: frames.get(stack)?.functionName === '(idle)' };
    }),
    *framesOf(stack) {
      for (let id: number | undefined = stack; id !== undefined; id = parents.get(id)) {
        const frame = frames.get(id);
        if (frame) yield frame;
      }
    },
  };
}

/** What is to be known of a stack, found out once: there are thousands of samples of each. */
export function ofEachStack<Known>(
  { framesOf }: ThreadProfile,
  judge: (frames: Iterable<Frame>) => Known,
): (sample: Sample) => Known {
  const known = new Map<number, { readonly found: Known }>();
  return ({ stack }) => {
    const entry = known.get(stack) ?? { found: judge(framesOf(stack)) };
    known.set(stack, entry);
    return entry.found;
  };
}

/** A part of a run, by `monotonicMs`. */
export interface Phase {
  readonly from: number;
  readonly to: number;
  /** CPU time of each thread in it, in the order of the profiles, where the kernel tells it. */
  readonly cpuMicros?: readonly number[];
}

export const WHOLE_RUN = { from: Number.NEGATIVE_INFINITY, to: Number.POSITIVE_INFINITY };

export interface Busy {
  readonly samples: readonly Sample[];
  /** How much of their time was CPU time: to the profiler a thread that waits for a core looks like one that works. */
  readonly worth: number;
  readonly percent: number;
}

/** What the threads did in a part of a run, each for itself; what only waits for events is left out. */
export function busyIn(profiles: readonly ThreadProfile[], { from, to, cpuMicros = [] }: Phase): Busy[] {
  return profiles.map(({ samples }, index) => {
    const within = samples.filter(({ at }) => at >= from && at <= to);
    const busy = within.filter(({ isIdle }) => !isIdle);
    const [all, ready] = [sum(within), sum(busy)];
    const used = Math.min(cpuMicros[index] ?? ready, ready);
    return { samples: busy, worth: used / Math.max(ready, 1), percent: rounded((100 * used) / Math.max(all, 1), 1) };
  });
}

const sum = (samples: readonly Sample[]): number => samples.reduce((total, { micros }) => total + micros, 0);
