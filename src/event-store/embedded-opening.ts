import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Opening a log that another process writes to.
 *
 * While LMDB opens a file it sets the number of the newest transaction, which all processes share, to what it read from the
 * file a moment before (mdb_env_open2 of mdb.c). Where a writer commits in between, its next transaction begins where the
 * last one began, and takes the place of what was committed and acknowledged. So for that moment nobody writes: whoever has
 * the log open is stopped, and goes on a few milliseconds later.
 */
export function whileOthersPause<Opened>(folder: string, open: () => Opened): Opened {
  const others = othersWithLog(folder);
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
const never = new Int32Array(new SharedArrayBuffer(4));

/** LMDB locks a byte of its lock file for as long as a process has it open. Source: proc_locks(5); Linux only, empty elsewhere */
function othersWithLog(folder: string): number[] {
  try {
    const { ino } = statSync(join(folder, 'lock.mdb'));
    const holders = readFileSync('/proc/locks', 'utf8')
      .split('\n')
      .filter((line) => line.split(/\s+/)[5]?.endsWith(`:${ino}`))
      .map((line) => Number(line.split(/\s+/)[4]));
    return [...new Set(holders)].filter((pid) => pid > 0 && pid !== process.pid);
  } catch {
    return [];
  }
}

/** All its threads are; also when it has ended. */
function isStopped(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).every((thread) => {
      const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8');
      return 'TtZX'.includes(stat.charAt(stat.lastIndexOf(')') + 2));
    });
  } catch {
    return true;
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended.
  }
}
