import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { appendFile, chmod, chown, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readIfPresent, syncDirectory, writeDurably } from './data-directory.js';
import { CLUSTER, type PostgresHome } from './postgres-account.js';
import { POSTGRES_ENVIRONMENT, type PostgresBinaries } from './postgres-binaries.js';

/** The database files: made at first start, configured at every start. */

/** Superuser and database have the same name. */
export const DATABASE = 'waybill';

/**
 * For a machine with two cores that also runs Waybill itself.
 * Source of every name: https://www.postgresql.org/docs/18/runtime-config.html
 */
const SETTINGS = {
  listen_addresses: '',
  unix_socket_permissions: '0700',
  max_connections: '50',
  shared_buffers: '128MB',
  effective_cache_size: '512MB',
  max_wal_size: '1GB',
  checkpoint_timeout: '5min',
  checkpoint_completion_target: '0.9',
  wal_compression: 'on',
  synchronous_commit: 'on',
  // Nothing here runs long enough to earn back the compilation.
  jit: 'off',
  // Saves three processes; they read ahead for scans of tables larger than memory, which read models here are not.
  io_method: 'sync',
  max_wal_senders: '0',
  max_logical_replication_workers: '0',
  timezone: 'UTC',
  log_timezone: 'UTC',
  lc_messages: 'C',
  log_checkpoints: 'off',
  // Statements and details ("Key (email)=(…) already exists") carry personal data, and this log is not encrypted.
  log_min_error_statement: 'panic',
  log_error_verbosity: 'terse',
} as const;

/** A way into the server: over its socket, with the password, as the one user. */
const HOST_BASED_AUTHENTICATION = `# Written by Waybill at every start.\nlocal all ${DATABASE} scram-sha-256\n`;

/**
 * Makes the database files unless they are there.
 *
 * initdb works in a folder of its own that is renamed when it is done: a start killed half-way leaves nothing that
 * looks like a database.
 *
 * @param options.durable false: do not wait for the disk (tests)
 * @throws Error, one line, when initdb fails or another major version made the files
 */
export async function ensureCluster(
  { directory, account }: PostgresHome,
  binaries: PostgresBinaries,
  password: string,
  options: { durable: boolean },
): Promise<void> {
  const cluster = join(directory, CLUSTER);
  const version = (await readIfPresent(join(cluster, 'PG_VERSION')))?.trim();
  if (version === binaries.majorVersion) return;
  if (version !== undefined) {
    throw new Error(
      `${cluster} was made by PostgreSQL ${version} and this Waybill brings ${binaries.majorVersion}: start the Waybill that made it, or set DATABASE_URL`,
    );
  }

  await removeUnfinished(directory);
  const workshop = join(directory, `${UNFINISHED}${randomUUID()}`);
  const passwordFile = join(workshop, 'password');
  await mkdir(workshop, { mode: 0o700 });
  try {
    await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
    if (account) {
      await chown(workshop, account.uid, account.gid);
      await chown(passwordFile, account.uid, account.gid);
    }
    await initdb(join(workshop, CLUSTER));
    await appendFile(join(workshop, CLUSTER, 'postgresql.conf'), "\ninclude 'waybill.conf'\n");
    await rename(join(workshop, CLUSTER), cluster);
    await syncDirectory(directory);
  } finally {
    await rm(workshop, { recursive: true, force: true });
  }

  async function initdb(target: string): Promise<void> {
    const program = join(binaries.directory, 'bin', 'initdb');
    const flags = [
      `--pgdata=${target}`,
      `--username=${DATABASE}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      // PostgreSQL's own Unicode rules with code point order: the same on every machine, whatever its C library.
      '--locale=C',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--no-instructions',
      ...(options.durable ? [] : ['--no-sync']),
    ];
    try {
      await promisify(execFile)(program, flags, { cwd: '/', env: POSTGRES_ENVIRONMENT, ...account });
    } catch (error) {
      const { stderr, message } = error as Error & { stderr?: string };
      throw new Error(`initdb failed: ${(stderr || message).trim().split('\n').join(' | ')}`);
    }
  }
}

/**
 * Writes the configuration, so that a newer Waybill's settings reach an older database.
 *
 * @param overrides win over the settings above (tests)
 * @returns the server's `cluster_name`: a running server that answers with the same has the same settings and version
 */
export async function configureCluster(
  { directory, account }: PostgresHome,
  binaries: PostgresBinaries,
  overrides: Readonly<Record<string, string>>,
): Promise<string> {
  const settings = Object.entries({ ...SETTINGS, ...overrides }).map(([name, value]) => `${name} = '${value}'`);
  const fingerprint = createHash('sha256')
    .update([binaries.version, HOST_BASED_AUTHENTICATION, ...settings].join('\n'))
    .digest('hex')
    .slice(0, 12);
  const name = `waybill-${fingerprint}`;
  const text = ['# Written by Waybill at every start.', ...settings, `cluster_name = '${name}'`, ''].join('\n');
  await replaceIfDifferent('waybill.conf', text);
  await replaceIfDifferent('pg_hba.conf', HOST_BASED_AUTHENTICATION);
  return name;

  async function replaceIfDifferent(file: string, content: string): Promise<void> {
    const path = join(directory, CLUSTER, file);
    if ((await readIfPresent(path)) === content) return;
    await writeDurably(path, content, 0o600);
    if (account) await chown(path, account.uid, account.gid);
    await chmod(path, 0o600);
  }
}

const UNFINISHED = `${CLUSTER}.init-`;

async function removeUnfinished(directory: string): Promise<void> {
  const names = (await readdir(directory)).filter((name) => name.startsWith(UNFINISHED));
  await Promise.all(names.map((name) => rm(join(directory, name), { recursive: true, force: true, maxRetries: 3 })));
}
