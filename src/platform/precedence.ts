import { readdirSync } from 'node:fs';
import { availableParallelism, constants, getPriority, setPriority } from 'node:os';

/**
 * Who goes first while there is more to do than cores to do it: the main thread, which answers, decides and sends, and
 * which is one. All others can run beside it, so what they do on its core while another core is free is time lost.
 *
 * Linux has a niceness for each thread (sched(7)). Elsewhere there is one for the whole process, and all stay equal; so do
 * they on a single core, where the read models would fall behind further and further.
 */
const HELPERS_NICER_BY = 10;
/** Queries wait for it as well. */
const DATABASE_NICER_BY = 5;

/** The threads that are there: those of libuv, which write to the log; those of V8, which collect and compile; our own. */
export function helpersGiveWay(): void {
  if (!isOfUse()) return;
  for (const thread of readdirSync('/proc/self/task').map(Number)) {
    if (thread !== process.pid) beNicer(thread, HELPERS_NICER_BY);
  }
}

/** The calling thread, which is not the main one. */
export function giveWay(): void {
  if (isOfUse()) beNicer(0, HELPERS_NICER_BY);
}

/** A process of the same machine, and what it starts from now on. */
export function databaseGivesWay(pid: number): void {
  if (isOfUse()) beNicer(pid, DATABASE_NICER_BY);
}

const isOfUse = (): boolean => process.platform === 'linux' && availableParallelism() > 1;

/** @param id of a thread or process; 0 is the calling thread */
function beNicer(id: number, by: number): void {
  try {
    setPriority(id, Math.min(getPriority(process.pid) + by, constants.priority.PRIORITY_LOW));
  } catch {
    // It has ended, or a sandbox forbids it: then all stay equal.
  }
}
