import { readdirSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';

/** What the kernel counts for a process. Linux only: undefined elsewhere. Source: proc_pid_stat(5), proc_pid_status(5) */

/** Ticks of /proc are hundredths of a second on every architecture that Node runs on (USER_HZ). */
const MICROS_PER_TICK = 10_000;

interface Stat {
  readonly parent: number;
  /** User and system time of all threads. */
  readonly ticks: number;
  /** The same of children that have ended. */
  readonly childTicks: number;
}

/** CPU time of all threads of a process so far, in microseconds. */
export function cpuMicros(pid: number): number | undefined {
  const stat = statOf(pid);
  return stat && stat.ticks * MICROS_PER_TICK;
}

/** The same of a process with its children, those that have ended included. */
export function familyCpuMicros(pid: number): number | undefined {
  const head = statOf(pid);
  if (!head) return undefined;
  const children = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => statOf(Number(name)) ?? [])
    .filter(({ parent }) => parent === pid);
  const ticks = children.reduce((sum, child) => sum + child.ticks, head.ticks + head.childTicks);
  return ticks * MICROS_PER_TICK;
}

/** CPU time of each thread of a process so far, by its id; the main thread's is that of the process. Empty where nobody tells. */
export function threadMicros(pid: number): ReadonlyMap<number, number> {
  const threads = listed(`/proc/${pid}/task`).map((name): [number, number] => {
    const stat = statOf(`${pid}/task/${name}`);
    return [Number(name), (stat?.ticks ?? 0) * MICROS_PER_TICK];
  });
  return new Map(threads);
}

/** The most memory a process has had at once (VmHWM), in MiB. The pages of the log that it has mapped count. */
export const peakRssMib = (pid: number): number | undefined => statusMib(pid, 'VmHWM');

/** What of a process is in memory now, in MiB, pages of files that it has mapped included. */
export const rssMib = (pid: number): number | undefined => statusMib(pid, 'VmRSS');

/** What a process has now for itself alone, in MiB: the heap and buffers, not files that the kernel can drop. */
export const ownMemoryMib = (pid: number): number | undefined => statusMib(pid, 'RssAnon');

/** How busy all CPUs together are in the time from now, by whatever runs on the machine. Not Linux only. */
export async function busyPercent(milliseconds: number): Promise<number> {
  const read = () => {
    const times = cpus().map((cpu) => cpu.times);
    const idle = times.reduce((sum, each) => sum + each.idle, 0);
    return { idle, busy: times.reduce((sum, { user, nice, sys, irq }) => sum + user + nice + sys + irq, 0) };
  };
  const before = read();
  await delay(milliseconds);
  const after = read();
  const busy = after.busy - before.busy;
  return Math.round((100 * busy) / (busy + after.idle - before.idle || 1));
}

function statusMib(pid: number, field: string): number | undefined {
  const kib = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(read(`/proc/${pid}/status`))?.[1];
  return kib === undefined ? undefined : Math.round(Number(kib) / 1024);
}

/** @param who a process, or a thread as `<pid>/task/<tid>` */
function statOf(who: number | string): Stat | undefined {
  const text = read(`/proc/${who}/stat`);
  if (text === '') return undefined;
  // The second field is the program's name, which may hold blanks and brackets. After it: state, parent, …
  const fields = text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  const [parent = 0, user = 0, system = 0, childUser = 0, childSystem = 0] = [1, 11, 12, 13, 14].map(
    (at) => fields[at],
  );
  return { parent, ticks: user + system, childTicks: childUser + childSystem };
}

function listed(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
