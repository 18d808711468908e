import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { openDataDirectory } from '../../src/platform/data-directory.js';
import { startPostgres } from '../../src/platform/embedded-postgres.js';
import { SYSTEM_DIRECTORY } from '../../src/platform/postgres-account.js';
import { familyCpuMicros } from '../process-stats.js';
import { guard } from './guard.js';
import type { PeerStore } from './peer-process.js';

/** The PostgreSQL of the peers: the one that Waybill brings, with the settings that Waybill gives its own. */
export interface PeersPostgres {
  readonly version: string;
  freshDatabase(): Promise<PeerStore>;
  close(): Promise<void>;
}

export async function startPeersPostgres(): Promise<PeersPostgres> {
  const dataDir = await mkdtemp(join(tmpdir(), 'waybill-peers-'));
  const { instanceId, release } = await openDataDirectory(dataDir);
  const log = { info() {}, error: (fields: object, message: string) => console.error(message, fields) };
  const server = await startPostgres({ dataDir, instanceId, log });
  // The second is for root, whose own folders the server may not enter.
  const folders = [dataDir, join(SYSTEM_DIRECTORY, instanceId)];
  const unguard = guard({ pid: server.pid, signal: 'QUIT', folders });
  const admin = new pg.Client({ ...server.connection });
  await admin.connect();
  const { rows } = await admin.query<{ server_version: string }>('show server_version');
  return {
    version: rows[0]?.server_version ?? '',
    async freshDatabase() {
      const name = `peer_${randomUUID().replaceAll('-', '')}`;
      await admin.query(`create database ${name}`);
      return {
        address: server.url.replace(/\/[^/?]*\?/, `/${name}?`),
        cpuMicros: () => familyCpuMicros(server.pid),
        async close() {
          await admin.query(`drop database ${name} with (force)`);
          // What it has left to write is not for the next one to wait for.
          await admin.query('checkpoint');
        },
      };
    },
    async close() {
      await admin.end();
      await server.stop();
      release();
      await Promise.all(folders.map((folder) => rm(folder, { recursive: true, force: true })));
      unguard();
    },
  };
}
