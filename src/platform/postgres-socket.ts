import { createHash } from 'node:crypto';
import { lstat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Account, canEnter, makePrivateDirectory, type PostgresHome } from './postgres-account.js';
import { DATABASE } from './postgres-cluster.js';

/** The one way into the server: a socket in a folder that nobody else can open, and the password. */
export interface Connection {
  /** The socket's folder. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
}

/** Part of the socket's file name only; no TCP port is used. */
export const PORT = 5432;

/** `sun_path` has 108 bytes on Linux and 104 on macOS, the last one for the zero. */
const MAX_SOCKET_PATH_BYTES = 103;

/** In the home if the path is short enough for a socket, else in the folder for temporary files. */
export async function chooseSocketDirectory({ directory, account }: PostgresHome): Promise<string> {
  const hash = createHash('sha256').update(directory).digest('hex').slice(0, 16);
  const temporary = account && !(await canEnter(tmpdir(), account)) ? '/tmp' : tmpdir();
  const candidates = [
    join(directory, 'postgres.socket'),
    ...[temporary, '/tmp'].map((at) => join(at, `waybill-${hash}`)),
  ];
  const fits = (path: string) => Buffer.byteLength(`${path}/.s.PGSQL.${PORT}`) <= MAX_SOCKET_PATH_BYTES;
  const chosen = candidates.find(fits) as string;
  await makePrivateDirectory(chosen, account);
  return chosen;
}

export async function isPrivate(directory: string, account: Account | undefined): Promise<boolean> {
  const found = await lstat(directory).catch(() => undefined);
  if (!found?.isDirectory()) return false;
  return found.uid === (account?.uid ?? process.getuid?.()) && (found.mode & 0o077) === 0;
}

export function connectionTo(host: string, password: string): Connection {
  return { host, port: PORT, user: DATABASE, password, database: DATABASE };
}

export function urlOf({ host, port, user, password, database }: Connection): string {
  return `postgresql://${user}:${password}@/${database}?host=${encodeURIComponent(host)}&port=${port}`;
}
