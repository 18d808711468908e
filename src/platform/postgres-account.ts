import { execFile } from 'node:child_process';
import { chmod, chown, lstat, mkdir, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

/**
 * Who runs the embedded PostgreSQL and where its files live.
 *
 * PostgreSQL refuses to run as root. Then an unprivileged account runs it, and that account must be able to reach its
 * files: a data directory below a closed folder such as /root will not do, however it is itself readable.
 */
export interface Account {
  readonly uid: number;
  readonly gid: number;
}

export interface PostgresHome {
  /** Absolute. The data directory itself wherever that is possible. */
  readonly directory: string;
  /** Undefined: the account this process runs as. */
  readonly account: Account | undefined;
}

const run = promisify(execFile);

/** For root only: a place that every account can reach. */
export const SYSTEM_DIRECTORY = '/var/lib/waybill';

/** Folder of the database inside the home. */
export const CLUSTER = 'postgres';

/**
 * Finds where an earlier start put the database, and runs it as its owner; at first start decides both.
 *
 * @throws Error, one line, when root finds no account to run it
 */
export async function findPostgresHome(dataDir: string, instanceId: string): Promise<PostgresHome> {
  if (process.getuid?.() !== 0) return { directory: dataDir, account: undefined };

  const elsewhere = join(SYSTEM_DIRECTORY, instanceId);
  for (const directory of [dataDir, elsewhere]) {
    const owner = await ownerOf(join(directory, CLUSTER));
    if (owner && owner.uid !== 0) return { directory, account: owner };
    if (owner) {
      // A backup restored by root, most likely.
      const account = await unprivilegedAccount();
      await run('chown', ['-R', `${account.uid}:${account.gid}`, join(directory, CLUSTER)]);
      return { directory, account };
    }
  }

  const account = await unprivilegedAccount();
  if (await canEnter(dirname(await realpath(dataDir)), account)) {
    await letIn(dataDir, account);
    return { directory: dataDir, account };
  }
  await mkdir(elsewhere, { recursive: true, mode: 0o755 });
  await letIn(elsewhere, account);
  return { directory: elsewhere, account };
}

/** Makes a folder that only the account (or, without one, this process's user) can open. */
export async function makePrivateDirectory(path: string, account: Account | undefined): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const found = await lstat(path);
  const owner = account?.uid ?? process.getuid?.();
  if (!found.isDirectory() || (found.uid !== owner && found.uid !== process.getuid?.())) {
    throw new Error(`${path} belongs to someone else: remove it`);
  }
  if (account && found.uid !== account.uid) await chown(path, account.uid, account.gid);
  if ((found.mode & 0o777) !== 0o700) await chmod(path, 0o700);
}

/** Whether the modes of a folder and all folders above let an account pass. Access control lists are not considered. */
export async function canEnter(path: string, { uid, gid }: Account): Promise<boolean> {
  const { mode, uid: owner, gid: group } = await stat(path);
  const bit = uid === owner ? 0o100 : gid === group ? 0o010 : 0o001;
  if ((mode & bit) === 0) return false;
  return path === '/' || canEnter(dirname(path), { uid, gid });
}

/** Lets the account pass through a folder to its own files, not list it; everyone else stays outside. */
async function letIn(directory: string, account: Account): Promise<void> {
  if (await canEnter(directory, account)) return;
  const { uid, mode } = await stat(directory);
  await chown(directory, uid, account.gid);
  await chmod(directory, (mode & 0o700) | 0o010);
}

async function ownerOf(cluster: string): Promise<Account | undefined> {
  try {
    const { uid, gid } = await stat(join(cluster, 'PG_VERSION'));
    return { uid, gid };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function unprivilegedAccount(): Promise<Account> {
  const found = (await lookUp('postgres')) ?? (await lookUp('waybill'));
  if (found) return found;
  for (const [program, ...options] of [
    ['useradd', '--system', '--user-group', '--no-create-home', '--home-dir', '/', '--shell', '/usr/sbin/nologin'],
    ['adduser', '-S', '-D', '-H'],
  ] as const) {
    // A failure here shows in the look-up below.
    await run(program, [...options, 'waybill']).catch(() => undefined);
    const made = await lookUp('waybill');
    if (made) return made;
  }
  throw new Error(
    'PostgreSQL cannot run as root and no user "waybill" could be made: start Waybill as an ordinary user or set DATABASE_URL',
  );
}

/** Asks `id`, not /etc/passwd: accounts may come from a directory service. */
async function lookUp(name: string): Promise<Account | undefined> {
  try {
    const [uid, gid] = await Promise.all(['-u', '-g'].map((flag) => run('id', [flag, name])));
    return { uid: Number(uid?.stdout), gid: Number(gid?.stdout) };
  } catch {
    return undefined;
  }
}
