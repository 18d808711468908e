import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import { cpuMicros } from '../process-stats.js';
import { guard } from './guard.js';
import type { PeerStore } from './peer-process.js';

/** When Redis forces its log to the disk. Source: https://redis.io/docs/latest/operate/oss_and_stack/management/persistence */
export type Fsync = 'always' | 'everysec';

/** @returns undefined when there is no `redis-server` on the PATH */
export async function redisVersion(): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)('redis-server', ['--version']);
    return /v=(\S+)/.exec(stdout)?.[1];
  } catch {
    return undefined;
  }
}

/** An empty one, durable by its append-only file, no snapshots beside it, nothing evicted (as BullMQ asks for). */
export async function startRedis(fsync: Fsync): Promise<PeerStore> {
  const folder = await mkdtemp(join(tmpdir(), 'waybill-redis-'));
  const path = join(folder, 'socket');
  const settings = {
    port: '0',
    unixsocket: path,
    dir: folder,
    appendonly: 'yes',
    appendfsync: fsync,
    save: '',
    'maxmemory-policy': 'noeviction',
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
  const child = spawn('redis-server', flags, { detached: true, stdio: 'ignore' });
  const exited = once(child, 'exit');
  const pid = child.pid as number;
  const unguard = guard({ pid, signal: 'KILL', folders: [folder] });
  const probe = new Redis(path, { maxRetriesPerRequest: null, retryStrategy: () => 20 });
  probe.on('error', () => undefined); // until it listens
  await probe.ping();
  probe.disconnect();
  return {
    address: path,
    cpuMicros: () => cpuMicros(pid),
    async close() {
      child.kill('SIGKILL');
      await exited;
      await rm(folder, { recursive: true, force: true });
      unguard();
    },
  };
}
