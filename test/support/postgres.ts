import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { startPostgres } from '../../src/platform/embedded-postgres.js';

export interface TestDatabase {
  readonly url: string;
  /** Ends its sessions and drops it. */
  close(): Promise<void>;
}

/**
 * A fresh, empty database: one for each test file, made in `beforeAll` and closed in `afterAll`.
 *
 * The server is `TEST_DATABASE_URL`, or an embedded one that the first call in a process starts (about 1 s) and that
 * ends with the process, however that ends.
 */
export async function testDatabase(): Promise<TestDatabase> {
  const serverUrl = process.env.TEST_DATABASE_URL || (await sharedServer());
  const name = `test_${randomUUID().replaceAll('-', '')}`;
  await query(serverUrl, `create database ${name}`);
  return {
    url: serverUrl.replace(/\/[^/?]*(\?|$)/, `/${name}$1`),
    close: () => query(serverUrl, `drop database if exists ${name} with (force)`),
  };
}

/** Kept outside the module, which vitest may load more than once in a process. */
const shared = globalThis as { waybillTestServer?: Promise<string> };

function sharedServer(): Promise<string> {
  shared.waybillTestServer ??= startServer();
  return shared.waybillTestServer;
}

async function startServer(): Promise<string> {
  const dataDir = await mkdtemp(join(tmpdir(), 'waybill-test-'));
  removeWhenWeAreGone(dataDir);
  const log = { info() {}, error: (fields: object, message: string) => console.error(message, fields) };
  // The data need not survive anything, so nothing waits for the disk.
  const settings = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' };
  const { url } = await startPostgres({ dataDir, instanceId: randomUUID(), log, settings });
  return url;
}

/**
 * Leaves a small shell waiting on a pipe whose other end is ours: it closes when this process ends, by SIGKILL too.
 * Exit handlers would not do: vitest ends its workers by signals.
 */
function removeWhenWeAreGone(dataDir: string): void {
  const script = `
    cat >/dev/null
    pid=$(head -n 1 "$1/postgres/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid"
    for _ in $(seq 100); do test -e "$1/postgres/postmaster.pid" || break; sleep 0.05; done
    rm -rf "$1"`;
  const shell = spawn('sh', ['-c', script, 'sh', dataDir], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
  shell.unref();
  (shell.stdin as unknown as { unref(): void }).unref();
}

async function query(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
