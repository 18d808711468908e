import { createHash } from 'node:crypto';
import { access, constants, mkdir, open, opendir, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { z } from 'zod';
import type { ErrorCategory, JsonObject } from '../../domain/vocabulary.js';
import { Adapter, type ConfigOf, type Declaration, inField, problemAt } from '../adapter.js';
import type { CleanUp, CleanUpOptions, FileSource, OutgoingMessage, SendOptions, SendOutcome } from '../channel.js';
import { fixedFolders, harmlessName, pathPattern, problemWithPath } from '../files/paths.js';
import { fileFields, filesOf, MAX_FILE_BYTES } from '../files/placed-files.js';
import { isCleanable, retention, UNCLEANABLE } from '../files/storage.js';
import { abortReason, type Rejected, rejected, unanswered } from '../outcome.js';

/**
 * Files in a folder of the server. An organization's files are all below `<root>/<organization id>/`, whatever its
 * paths and the symbolic links in them say.
 */
const DECLARATION: Declaration = {
  channel: 'STORAGE',
  provider: 'local',
  configKey: 'storage',
  selectedBy: 'provider',
  idempotency: 'natural',
  acceptanceIsDelivery: true,
  inDoubt: 'resend',
  tested: 'Makes the folder of all files, and asks whether it can be written to.',
  limits: { maxBytes: MAX_FILE_BYTES, timeoutMs: 60_000 },
};

const DAY_MS = 86_400_000;

/** Errors of the file system (errno(3)); any other is the system's. */
const ERRORS: Readonly<Record<string, ErrorCategory>> = {
  ENOSPC: 'TEMPORARY',
  EDQUOT: 'TEMPORARY',
  EMFILE: 'TEMPORARY',
  EIO: 'TEMPORARY',
  EACCES: 'CONFIGURATION',
  EPERM: 'CONFIGURATION',
  EROFS: 'CONFIGURATION',
  ENOTDIR: 'CONFIGURATION',
  EEXIST: 'CONFIGURATION', // a file is where a folder has to be
  EISDIR: 'CONFIGURATION',
  ELOOP: 'CONFIGURATION',
  ENAMETOOLONG: 'VALIDATION',
  EFBIG: 'VALIDATION',
};

const schema = () =>
  z
    .strictObject({
      provider: z.literal('local').describe('Chooses this provider.'),
      config: z
        .strictObject({
          durable: z
            .boolean()
            .optional()
            .describe('Wait until the file is on the disk, which takes some milliseconds.')
            .meta({ default: true }),
        })
        .optional()
        .describe('How files are written. Where the folder is the operator says (`localStorageRoot`).'),
      ...fileFields,
      retention,
    })
    .refine(isCleanable, UNCLEANABLE);

type LocalConfig = ConfigOf<typeof schema>;

export class LocalAdapter extends Adapter<LocalConfig> {
  readonly errors = { source: 'https://man7.org/linux/man-pages/man3/errno.3.html', categories: ERRORS };
  readonly #root: string;

  /** @param root absolute; made when the first file comes */
  constructor(root: string) {
    super(DECLARATION, schema(), inField('path', problemWithPath));
    this.#root = resolve(root);
  }

  protected async probe() {
    try {
      await mkdir(this.#root, { recursive: true, mode: 0o750 });
      await access(this.#root, constants.W_OK | constants.X_OK);
      return undefined;
    } catch (error) {
      return problemAt('path', refused(error));
    }
  }

  protected async deliver(
    config: LocalConfig,
    message: OutgoingMessage,
    { attemptKey, signal }: SendOptions,
  ): Promise<SendOutcome> {
    if (signal.aborted) return unanswered(abortReason(signal), 'the file system', false);
    const files = await filesOf(message, config);
    if ('kind' in files) return files;
    try {
      for (const [index, { path, source }] of files.list.entries()) {
        if (signal.aborted) return unanswered(abortReason(signal), 'the file system', false);
        const key = `${message.deliveryId}/${attemptKey}/${index}`;
        await this.#write(
          join(this.#folderOf(message.organizationId), path),
          source,
          key,
          signal,
          config.config?.durable ?? true,
        );
      }
    } catch (error) {
      if (signal.aborted) return unanswered(abortReason(signal), 'the file system', false);
      return files.refusal ?? refused(error);
    }
    const [first] = files.list;
    return { kind: 'accepted', delivered: true, ...(first && { providerMessageId: first.path.replace(/^\/+/, '') }) };
  }

  async cleanUp(config: JsonObject, { organizationId, now, signal }: CleanUpOptions): Promise<CleanUp> {
    const { retention: kept, path } = config as unknown as LocalConfig;
    if (kept?.autoCleanup !== true) return { removed: 0 };
    const base = this.#folderOf(organizationId);
    const pattern = pathPattern(path, organizationId);
    let removed = 0;
    for await (const file of filesBelow(join(base, fixedFolders(path, organizationId)))) {
      signal.throwIfAborted();
      const isOurs = pattern.test(relative(base, file).split(sep).join('/'));
      if (!isOurs || (await stat(file)).mtimeMs >= now.getTime() - kept.days * DAY_MS) continue;
      await rm(file, { force: true });
      removed += 1;
    }
    return { removed };
  }

  #folderOf(organizationId: string): string {
    return join(this.#root, harmlessName(organizationId));
  }

  /** Under another name first, so that nobody reads half a file; then on the disk, then renamed, then that too. */
  async #write(
    path: string,
    { read }: FileSource,
    key: string,
    signal: AbortSignal,
    isDurable: boolean,
  ): Promise<void> {
    const folder = dirname(path);
    await mkdir(folder, { recursive: true, mode: 0o750 });
    await this.#confine(folder);
    const temporary = join(folder, `.${createHash('sha256').update(key).digest('hex').slice(0, 32)}.part`);
    try {
      // No symbolic link is followed to somebody else's file.
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;
      const file = await open(temporary, flags, 0o640);
      try {
        await writeFile(file, read(), { signal });
        if (isDurable) await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => undefined);
      throw error;
    }
    if (!isDurable) return;
    const directory = await open(folder, constants.O_RDONLY);
    await directory.sync().finally(() => directory.close());
  }

  /** @throws OutsideError when a symbolic link leads out of the root */
  async #confine(folder: string): Promise<void> {
    const inside = relative(await realpath(this.#root), await realpath(folder));
    if (inside === '..' || inside.startsWith(`..${sep}`) || isAbsolute(inside)) throw new OutsideError();
  }
}

class OutsideError extends Error {
  readonly code = 'OUTSIDE_ROOT';
}

function refused(error: unknown): Rejected {
  const { code = 'UNKNOWN' } = error as { code?: string };
  if (error instanceof OutsideError) {
    return rejected('CONFIGURATION', code, 'the path leads out of the folder for files, by a symbolic link');
  }
  return rejected(
    ERRORS[code] ?? 'SYSTEM',
    /^[A-Z][A-Z0-9_]*$/.test(code) ? code : 'UNKNOWN',
    `the file system says ${code}`,
  );
}

/** Regular files only, at any depth; no symbolic link is followed. A folder that is not there has none. */
async function* filesBelow(folder: string): AsyncGenerator<string> {
  const entries = await opendir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
    return [];
  });
  for await (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path);
    else if (entry.isFile()) yield path;
  }
}
