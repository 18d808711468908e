import { createHash } from 'node:crypto';
import { access, constants, mkdir, open, opendir, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { z } from 'zod';
import type { ErrorCategory, FieldProblem, JsonObject } from '../../domain/vocabulary.js';
import type {
  ChannelAdapter,
  ChannelDescription,
  CleanUp,
  CleanUpOptions,
  ConnectionTest,
  OutgoingMessage,
  SendOptions,
  SendOutcome,
} from '../channel.js';
import { problemsOf } from '../config.js';
import { fileFields, filesOf, MAX_FILE_BYTES } from '../files.js';
import { abortReason, type Rejected, rejected, unanswered } from '../outcome.js';
import { fixedFolders, harmlessName, pathPattern, problemWithPath } from '../paths.js';
import { isCleanable, retention, type StorageConfig, UNCLEANABLE } from '../storage.js';

/**
 * Files in a folder of the server. An organization's files are all below `<root>/<organization id>/`, whatever its
 * paths and the symbolic links in them say.
 */
const DESCRIPTION: ChannelDescription = {
  channel: 'STORAGE',
  provider: 'local',
  configKey: 'storage',
  selectedBy: 'provider',
  secretFields: ['encryption.password'],
  idempotency: 'natural',
  acceptanceIsDelivery: true,
  inDoubt: 'resend',
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

type LocalConfig = StorageConfig<{ readonly durable?: boolean } | undefined>;

export class LocalAdapter implements ChannelAdapter {
  readonly #root: string;
  readonly schema: z.ZodType;

  /** @param root absolute; made when the first file comes */
  constructor(root: string) {
    this.#root = resolve(root);
    this.schema = z
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
  }

  describe(): ChannelDescription {
    return DESCRIPTION;
  }

  validate(config: JsonObject): FieldProblem[] {
    return problemsOf(this.schema, config);
  }

  /** A bare address is a path below the organization's folder. */
  withAddress(config: JsonObject, address: string): JsonObject {
    return { ...config, path: address };
  }

  validateAddress(address: string): string | undefined {
    return problemWithPath(address);
  }

  async test(): Promise<ConnectionTest> {
    const startedAt = performance.now();
    try {
      await mkdir(this.#root, { recursive: true, mode: 0o750 });
      await access(this.#root, constants.W_OK | constants.X_OK);
      return { ok: true, latencyMs: performance.now() - startedAt, problems: [] };
    } catch (error) {
      const { code, detail } = refused(error);
      return {
        ok: false,
        latencyMs: performance.now() - startedAt,
        problems: [{ path: 'path', problem: `${code}: ${detail}` }],
      };
    }
  }

  async send(message: OutgoingMessage, { attemptKey, signal }: SendOptions): Promise<SendOutcome> {
    const config = message.config as unknown as LocalConfig;
    if (signal.aborted) return unanswered(abortReason(signal), 'the file system', false);
    const files = await filesOf(message, config);
    if ('kind' in files) return files;
    try {
      for (const [index, { path, bytes }] of files.entries()) {
        if (signal.aborted) return unanswered(abortReason(signal), 'the file system', false);
        const key = `${message.deliveryId}/${attemptKey}/${index}`;
        await this.#write(
          join(this.#folderOf(message.organizationId), path),
          bytes,
          key,
          config.config?.durable ?? true,
        );
      }
    } catch (error) {
      return refused(error);
    }
    const [first] = files;
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
  async #write(path: string, bytes: Buffer, key: string, isDurable: boolean): Promise<void> {
    const folder = dirname(path);
    await mkdir(folder, { recursive: true, mode: 0o750 });
    await this.#confine(folder);
    const temporary = join(folder, `.${createHash('sha256').update(key).digest('hex').slice(0, 32)}.part`);
    try {
      // No symbolic link is followed to somebody else's file.
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;
      const file = await open(temporary, flags, 0o640);
      try {
        await file.writeFile(bytes);
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
