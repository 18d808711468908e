import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { createServer } from 'node:net';
import { hostname } from 'node:os';
import { setTimeout as wait } from 'node:timers/promises';

/**
 * A lock that only a living process can hold: the kernel keeps it and frees it however the process ends.
 *
 * Node cannot call flock(2), but the lock belongs to the *open file*, not to the caller: the small program `flock` locks
 * the descriptor it inherits and ends, and the lock stays with us. Unlike a file that names a pid, it also holds between
 * two containers that share a volume, where both may well be pid 7. Macs have the same lock as a flag of open(2).
 * Where there is no `flock` program, the name of an abstract socket is as exclusive, though only on one machine's
 * network namespace.
 */
export interface ProcessLock {
  release(): void;
}

/** From <sys/fcntl.h> on macOS; Node has no name for it. */
const O_EXLOCK = 0x20;

/** How long a refused start looks for the holder's pid, which is written just after the lock is taken. */
const HOLDER_UNKNOWN_MS = 2_000;

/**
 * @param file made if missing and never deleted: a deleted lock file could be locked twice
 * @returns the lock, or who holds it
 */
export async function takeProcessLock(file: string): Promise<ProcessLock | { heldBy: string }> {
  const descriptor = process.platform === 'darwin' ? openExclusively(file) : openSync(file, 'a+', 0o600);
  const held = descriptor === undefined ? undefined : await lock(descriptor);
  if (descriptor === undefined || held === undefined) {
    if (descriptor !== undefined) closeSync(descriptor);
    return { heldBy: await describeHolder(file) };
  }
  ftruncateSync(descriptor);
  writeSync(descriptor, JSON.stringify({ pid: process.pid, host: hostname() }));
  return {
    release() {
      // Without this, a start refused later in this process's life would name a holder that has let go.
      ftruncateSync(descriptor);
      held.release();
      closeSync(descriptor);
    },
  };
}

function openExclusively(file: string): number | undefined {
  try {
    const { O_RDWR, O_CREAT, O_APPEND, O_NONBLOCK } = constants;
    return openSync(file, O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK | O_EXLOCK, 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return undefined;
    throw error;
  }
}

async function lock(descriptor: number): Promise<ProcessLock | undefined> {
  if (process.platform === 'darwin') return { release() {} };
  const { status } = spawnSync('flock', ['-xn', '3'], { stdio: ['ignore', 'ignore', 'ignore', descriptor] });
  if (status === 0) return { release() {} };
  if (status === 1) return undefined;
  return lockByName(descriptor);
}

/** Binds a socket whose name is the file's identity; it never accepts anything. */
function lockByName(descriptor: number): Promise<ProcessLock | undefined> {
  const { dev, ino } = fstatSync(descriptor);
  const name = createHash('sha256').update(`${dev}:${ino}`).digest('hex');
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(undefined);
      else reject(error);
    });
    server.listen(`\0waybill-${name}`, () => {
      server.unref();
      resolve({ release: () => void server.close() });
    });
  });
}

async function describeHolder(file: string): Promise<string> {
  for (const deadline = Date.now() + HOLDER_UNKNOWN_MS; Date.now() < deadline; await wait(10)) {
    const holder = readHolder(file);
    if (holder === undefined) continue;
    if (holder.host !== hostname()) return `process ${holder.pid} on ${holder.host}`;
    if (isAlive(holder.pid)) return `process ${holder.pid}`;
  }
  return 'another process';
}

function readHolder(file: string): { pid: number; host: string } | undefined {
  try {
    const holder = JSON.parse(readFileSync(file, 'utf8'));
    return Number.isInteger(holder.pid) && typeof holder.host === 'string' ? holder : undefined;
  } catch {
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
