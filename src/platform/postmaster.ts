import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { readIfPresent } from './data-directory.js';

/** The main process of a PostgreSQL server, ours or left behind by a Waybill that was killed. */

export interface PidFile {
  readonly pid: number;
  /** Undefined in the first moments of a start. */
  readonly socketDirectory: string | undefined;
}

/**
 * Reads `postmaster.pid`: pid, data directory, start time, port, socket directory, one a line.
 * Source: https://www.postgresql.org/docs/18/storage-file-layout.html and src/include/utils/pidfile.h
 */
export async function readPidFile(cluster: string): Promise<PidFile | undefined> {
  const lines = (await readIfPresent(join(cluster, 'postmaster.pid')))?.split('\n');
  const pid = Number(lines?.[0]);
  if (!lines || !Number.isInteger(pid) || pid <= 0) return undefined;
  return { pid, socketDirectory: lines[4] || undefined };
}

/** Whether this process is the server of this database, and not a later one that got the same pid, nor a dead one. */
export function isPostmaster(pid: number, cluster: string): boolean {
  try {
    if (process.platform !== 'linux') {
      const command = execFileSync('ps', ['-ww', '-o', 'command=', '-p', String(pid)], { encoding: 'utf8' });
      return command.includes(`postgres -D ${cluster} `);
    }
    // A dead process that no one has waited for has no command line.
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return (command[0] ?? '').endsWith('/postgres') && command[1] === '-D' && command[2] === cluster;
  } catch {
    return false;
  }
}

/**
 * Ends a server, harder step by step.
 *
 * SIGINT ends sessions and writes a checkpoint; SIGQUIT leaves recovery to the next start; SIGKILL is for a server that
 * is stopped or stuck. Nothing committed is lost by any of them.
 *
 * @param firstSignal SIGINT, or SIGQUIT for a server that does not answer
 * @returns when it is gone; 5 s + 2 s later at most, unless the kernel holds it
 */
export async function stopPostmaster(
  pid: number,
  cluster: string,
  firstSignal: 'SIGINT' | 'SIGQUIT' = 'SIGINT',
): Promise<void> {
  const steps = [
    ['SIGINT', 5_000],
    ['SIGQUIT', 2_000],
    ['SIGKILL', 2_000],
  ] as const;
  for (const [signal, patienceMs] of steps.slice(firstSignal === 'SIGINT' ? 0 : 1)) {
    if (!isPostmaster(pid, cluster)) return;
    process.kill(pid, signal);
    for (const deadline = Date.now() + patienceMs; Date.now() < deadline; await wait(10)) {
      if (!isPostmaster(pid, cluster)) return;
    }
  }
  throw new Error(`PostgreSQL (process ${pid}) does not end, not even by SIGKILL`);
}
