import { performance } from 'node:perf_hooks';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** What a thread may be busy of the time between two looks, and be at rest. */
const BUSY_AT_MOST = 0.1;
const LOOK_EVERY_MS = 5_000;
/** What a heap has grown since it was last tidied, before it is worth pauses of about a tenth of a second … */
const WORTHWHILE_BYTES = 128 * 2 ** 20;
/** … which a light load, by which it grows as well, is to notice seldom. */
const SELDOM_MS = 600_000;
/** The room for what is new is given back only once little has been allocated for a while, which is not yet so at first. */
const ROUNDS = 3;

type Collect = (how: { type: 'major'; execution: 'async'; flavor: 'last-resort' }) => Promise<void>;

/**
 * Tidies the heap of this thread when it is at rest after it was busy. V8 collects garbage when memory is asked for, so
 * what a burst has left stays for as long as nothing comes after it: hundreds of MiB, of which a tenth is in use.
 *
 * @returns ends it
 */
export function tidyAtRest(): () => void {
  let tidied = heapBytes();
  let owed = 0;
  let lastAt = Number.NEGATIVE_INFINITY;
  let before = performance.eventLoopUtilization();
  const look = async () => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, before);
    before = now;
    const isDue = heapBytes() > tidied + WORTHWHILE_BYTES && performance.now() > lastAt + SELDOM_MS;
    if (isDue) owed = ROUNDS;
    if (utilization > BUSY_AT_MOST || owed === 0) return;
    owed--;
    lastAt = performance.now();
    await collector()({ type: 'major', execution: 'async', flavor: 'last-resort' });
    tidied = heapBytes();
  };
  const timer = setInterval(() => void look(), LOOK_EVERY_MS).unref();
  return () => clearInterval(timer);
}

/** Taken from V8, and what buffers hold outside its heap. */
function heapBytes(): number {
  const { total_heap_size, external_memory } = getHeapStatistics();
  return total_heap_size + external_memory;
}

/** V8 has it for a context that is made while the flag is set. */
function collector(): Collect {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc');
}
