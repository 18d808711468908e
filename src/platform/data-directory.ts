import { randomBytes, randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { access, chmod, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Config } from './config.js';
import { type ProcessLock, takeProcessLock } from './process-lock.js';

/**
 * The folder that holds everything one embedded instance must not lose (`WAYBILL_DATA`):
 *
 *     format.json    {"version": 1}: which Waybill can read this folder
 *     instance.id    a uuid made at first start; moves with the folder
 *     admin.key      the administrator's key, unless WAYBILL_ADMIN_KEY gives it
 *     waybill.lock   held by the running instance
 *     keys.json      the key ring, unless WAYBILL_KEY_RING_FILE or WAYBILL_KEY_RING names another
 *     keys.restore   see RESTORED_KEYS
 *     destroyed-keys the ids of keys that were destroyed (destroyed-keys-file.ts)
 *     content/       what is too large for the event log, unless WAYBILL_CONTENT names another place
 *     postgres…      see embedded-postgres.ts
 */

/** Wrapped keys out of a backup, to be put into the database at the next start. */
export const RESTORED_KEYS = 'keys.restore';

/** Raised when the layout changes in a way that an older Waybill would misread. */
const FORMAT_VERSION = 1;

/** The folder cannot be used; the message is one line that says why and what to do. */
export class DataDirectoryError extends Error {
  override readonly name = 'DataDirectoryError';
}

export interface DataDirectory {
  /** Absolute. */
  readonly path: string;
  readonly instanceId: string;
  /** Lets another instance have the folder. The kernel does the same when this process dies. */
  release(): void;
}

/**
 * Creates the folder at first start and takes it for this process alone.
 *
 * @throws DataDirectoryError when it cannot be read or written, another instance runs on it, or a newer Waybill made it
 */
export async function openDataDirectory(path: string): Promise<DataDirectory> {
  await makeUsable(path);
  const lock = await lockOrExplain(path);
  try {
    await checkFormat(path);
    return { path, instanceId: await instanceId(path), release: () => lock.release() };
  } catch (error) {
    lock.release();
    throw error;
  }
}

/**
 * The administrator's key: the configured one, else the one kept in `admin.key`, else a new one that is kept there.
 *
 * @returns `isNew` once in the life of a folder: the caller prints the key then and never again
 */
export async function adminKey(config: Pick<Config, 'adminKey' | 'dataDir'>): Promise<{ key: string; isNew: boolean }> {
  if (config.adminKey) return { key: config.adminKey, isNew: false };
  const file = join(config.dataDir, 'admin.key');
  const kept = (await readIfPresent(file))?.trim();
  if (kept === undefined) {
    const key = randomBytes(32).toString('base64url');
    await writeDurably(file, `${key}\n`, 0o600);
    return { key, isNew: true };
  }
  if (kept.length < 32) {
    throw new DataDirectoryError(`${file} is damaged: delete it, and the next start makes a new administrator's key`);
  }
  // Someone may have restored the folder from a backup that knows no modes.
  await chmod(file, 0o600);
  return { key: kept, isNew: false };
}

/** Writes a whole file or nothing, and returns when it would survive a power cut. */
export async function writeDurably(file: string, content: string, mode: number): Promise<void> {
  const temporary = `${file}.${process.pid}.tmp`;
  await rm(temporary, { force: true });
  const handle = await open(temporary, 'wx', mode);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, file);
  await syncDirectory(dirname(file));
}

/** Makes renames and new names in a folder survive a power cut. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A file's text, or undefined when there is no such file. */
export async function readIfPresent(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function makeUsable(path: string): Promise<void> {
  try {
    // Only a folder made here is closed to others; on one that exists (a mounted volume) the operator's modes stand.
    await mkdir(path, { recursive: true, mode: 0o700 });
    if (!(await stat(path)).isDirectory()) throw Object.assign(new Error(), { code: 'ENOTDIR' });
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw cannotUse(path, error);
  }
}

async function lockOrExplain(path: string): Promise<ProcessLock> {
  const file = join(path, 'waybill.lock');
  const result = await takeProcessLock(file).catch((error: unknown) => {
    throw cannotUse(path, error);
  });
  if ('release' in result) return result;
  throw new DataDirectoryError(
    `Data directory ${path} is in use by ${result.heldBy}: stop that instance or choose another WAYBILL_DATA`,
  );
}

async function checkFormat(path: string): Promise<void> {
  const file = join(path, 'format.json');
  const text = await readIfPresent(file);
  if (text === undefined) return writeDurably(file, `${JSON.stringify({ version: FORMAT_VERSION })}\n`, 0o600);
  const version = versionIn(text);
  if (version === undefined)
    throw new DataDirectoryError(`${file} is damaged: it should say {"version":${FORMAT_VERSION}}`);
  if (version > FORMAT_VERSION) {
    throw new DataDirectoryError(
      `Data directory ${path} has format ${version} and this Waybill knows up to ${FORMAT_VERSION}: start the newer Waybill that made it`,
    );
  }
}

function versionIn(text: string): number | undefined {
  try {
    const { version } = JSON.parse(text);
    return Number.isInteger(version) && version > 0 ? version : undefined;
  } catch {
    return undefined;
  }
}

async function instanceId(path: string): Promise<string> {
  const file = join(path, 'instance.id');
  const kept = (await readIfPresent(file))?.trim();
  if (kept === undefined) {
    const id = randomUUID();
    await writeDurably(file, `${id}\n`, 0o600);
    return id;
  }
  // It becomes part of a path, so nothing but a uuid may pass.
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(kept)) return kept;
  throw new DataDirectoryError(`${file} is damaged: it should hold one uuid`);
}

const REASONS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  ENOTDIR: 'it is not a directory',
  EEXIST: 'it is not a directory',
  EROFS: 'the file system is read-only',
  ENOSPC: 'the disk is full',
  ENAMETOOLONG: 'the path is too long',
};

function cannotUse(path: string, error: unknown): DataDirectoryError {
  const { code, message } = error as NodeJS.ErrnoException;
  const reason = REASONS[code ?? ''] ?? message;
  return new DataDirectoryError(`Data directory ${path} cannot be used: ${reason} (WAYBILL_DATA chooses another)`);
}
