import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DATA_FILE } from './embedded-file.js';

/**
 * Opening a log that another process writes to.
 *
 * While LMDB opens a file it sets the number of the newest transaction, which all processes share, to what it read from the
 * file a moment before (mdb_env_open2 of mdb.c). Where a writer commits in between, its next transaction begins where the
 * last one began, and takes the place of what was committed and acknowledged. So for that moment nobody writes: whoever has
 * the log open is stopped, and goes on a few milliseconds later.
 */
export function whileOthersPause<Opened>(folder: string, open: () => Opened): Opened {
  if (othersWithLog(folder).length === 0) return open();
  const turn = waitForTurn(folder);
  try {
    return paused(folder, open);
  } finally {
    closeSync(turn);
  }
}

/**
 * One process after the other: two would stop each other, and each would let go on whom the other one still needs to stand still.
 * LMDB has no such lock on its data. Where there is no program `flock`, all are let in at once.
 *
 * @returns what to close when the turn is over; it is over by itself when the process ends
 */
function waitForTurn(folder: string): number {
  const file = openSync(join(folder, DATA_FILE), 'r');
  const { error } = spawnSync('flock', ['-x', '3'], { stdio: ['ignore', 'ignore', 'ignore', file], timeout: TURNS_MS });
  if ((error as NodeJS.ErrnoException | undefined)?.code !== 'ETIMEDOUT') return file;
  closeSync(file);
  throw new Error('another process does not come to an end of opening it');
}

function paused<Opened>(folder: string, open: () => Opened): Opened {
  // Who was stopped by somebody else stays so.
  const others = othersWithLog(folder).filter((pid) => !isStopped(pid));
  if (others.length === 0) return open();
  // Should this process be killed meanwhile, the others go on all the same.
  const resume = `sleep ${(PATIENCE_MS * 2) / 1_000}; kill -CONT ${others.join(' ')}`;
  const guard = spawn('sh', ['-c', resume], { detached: true, stdio: 'ignore' });
  guard.on('error', () => undefined);
  guard.unref();
  try {
    for (const pid of others) signal(pid, 'SIGSTOP');
    const deadline = performance.now() + PATIENCE_MS;
    while (!others.every(isStopped)) {
      if (performance.now() > deadline) throw new Error('the process that writes to it cannot be paused');
      Atomics.wait(never, 0, 0, 1);
    }
    return open();
  } finally {
    for (const pid of others) signal(pid, 'SIGCONT');
    if (guard.pid !== undefined) signal(-guard.pid, 'SIGKILL');
  }
}

/** Longer than any fsync: a thread that is in one stops after it. */
const PATIENCE_MS = 5_000;
/** Some whose turn takes as long as it may. */
const TURNS_MS = 4 * PATIENCE_MS;
const never = new Int32Array(new SharedArrayBuffer(4));

/** LMDB locks a byte of its lock file for as long as a process has it open. Source: proc_locks(5); Linux only, empty elsewhere */
function othersWithLog(folder: string): number[] {
  const lockFile = statSync(join(folder, 'lock.mdb'), { throwIfNoEntry: false });
  if (!lockFile) return [];
  const holders = read('/proc/locks')
    .split('\n')
    .map((line) => line.split(/\s+/))
    .filter(([, , , , , file]) => file?.endsWith(`:${lockFile.ino}`))
    .map(([, , , , pid]) => Number(pid));
  return [...new Set(holders)].filter((pid) => pid > 0 && pid !== process.pid);
}

/** All its threads are; also when it has ended. */
const isStopped = (pid: number): boolean =>
  listed(`/proc/${pid}/task`).every((thread) => {
    const stat = read(`/proc/${pid}/task/${thread}/stat`);
    return stat === '' || 'TtZX'.includes(stat.charAt(stat.lastIndexOf(')') + 2));
  });

/** Nothing where the process or thread has ended meanwhile. */
const listed = (folder: string): string[] => orElse(() => readdirSync(folder), []);
const read = (file: string): string => orElse(() => readFileSync(file, 'utf8'), '');

function orElse<Value>(attempt: () => Value, otherwise: Value): Value {
  try {
    return attempt();
  } catch {
    return otherwise;
  }
}

/** Nobody is there to be told any more, or it is somebody else's: then it is not seen to stop. */
const signal = (pid: number, name: NodeJS.Signals): boolean => orElse(() => process.kill(pid, name), false);
