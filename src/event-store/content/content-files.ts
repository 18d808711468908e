import { link, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  type ContentStore,
  MARK,
  MARK_BYTES,
  parseName,
  type StoredFile,
  shardOf,
  Unreadable,
} from './content-store.js';
import type { ByteRange } from './pieces.js';

const PAGE = 1_000;
/** Read at once. */
const READ_BYTES = 128 * 1_024;

/** Contents as files of a folder, which instances may share. A crash leaves at most a part of a file that no event names. */
export class ContentFiles implements ContentStore {
  readonly place: string;
  /** Folders that are known to be there, and to outlive a power cut. */
  readonly #shards = new Set<string>();

  /** @param folder an absolute path; it is made with the first content */
  constructor(folder: string) {
    this.place = folder;
  }

  async readMark(): Promise<string | undefined> {
    return (await readFile(join(this.place, MARK)).catch(ifThere))
      ?.subarray(0, MARK_BYTES + 1)
      .toString()
      .trim();
  }

  async writeMark(line: string): Promise<void> {
    await mkdir(this.place, { recursive: true, mode: 0o700 });
    await sync(dirname(this.place));
    const file = join(this.place, MARK);
    const made = `${file}.${process.pid}`;
    try {
      await rm(made, { force: true });
      await write(made, Buffer.from(`${line}\n`));
      // Whole or not at all; unlike a rename it takes nobody's place.
      await link(made, file).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'EEXIST') throw error;
      });
    } finally {
      await rm(made, { force: true });
    }
    await sync(this.place);
  }

  async put(name: string, bytes: Buffer | AsyncIterable<Buffer>): Promise<void> {
    const folder = this.#folderOf(name);
    await this.#make(folder);
    const file = join(folder, name);
    try {
      await write(file, bytes);
      await sync(folder);
    } catch (error) {
      // Somebody has tidied up by hand: the next one makes it again.
      this.#shards.delete(folder);
      await rm(file, { force: true }).catch(() => undefined);
      throw error;
    }
  }

  async rename(name: string, other: string): Promise<void> {
    const folder = this.#folderOf(other);
    await rename(join(this.#folderOf(name), name), join(folder, other));
    await sync(folder);
  }

  async size(name: string): Promise<number | undefined> {
    return (await stat(join(this.#folderOf(name), name)).catch(ifThere))?.size;
  }

  async *read(name: string, size: number, { start, end }: ByteRange): AsyncGenerator<Buffer> {
    const handle = await open(join(this.#folderOf(name), name), 'r').catch(ifThere);
    if (!handle) throw new Unreadable('missing');
    try {
      if ((await handle.stat()).size !== size) throw new Unreadable('damaged');
      for (let at = start; at < end; ) {
        const chunk = Buffer.allocUnsafe(Math.min(READ_BYTES, end - at));
        const { bytesRead } = await handle.read(chunk, 0, chunk.length, at);
        if (bytesRead === 0) throw new Unreadable('damaged');
        at += bytesRead;
        yield chunk.subarray(0, bytesRead);
      }
    } finally {
      await handle.close();
    }
  }

  async *list(prefix = ''): AsyncGenerator<readonly StoredFile[]> {
    const shards = prefix.length < 2 ? ((await readdir(this.place).catch(ifThere)) ?? []) : [shardOf(prefix)];
    let page: StoredFile[] = [];
    for (const shard of shards) {
      if (shard.length !== 2) continue;
      for (const name of (await readdir(join(this.place, shard)).catch(ifThere)) ?? []) {
        if (!name.startsWith(prefix) || !parseName(name)) continue;
        const found = await stat(join(this.place, shard, name)).catch(ifThere);
        if (found) page.push({ name, bytes: found.size, modifiedAtMs: found.mtimeMs });
        if (page.length < PAGE) continue;
        yield page;
        page = [];
      }
    }
    if (page.length > 0) yield page;
  }

  async remove(names: readonly string[]): Promise<void> {
    for (const name of names) await rm(join(this.#folderOf(name), name), { force: true });
  }

  async #make(folder: string): Promise<void> {
    if (this.#shards.has(folder)) return;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await sync(this.place);
    this.#shards.add(folder);
  }

  /** Names come from the log, which others may have written to: none may lead out of the folder. */
  #folderOf(name: string): string {
    if (!parseName(name)) throw new Error('this is not the name of a content');
    return join(this.place, shardOf(name));
  }
}

async function write(file: string, bytes: Buffer | AsyncIterable<Buffer>): Promise<void> {
  const handle = await open(file, 'wx', 0o600);
  try {
    await writeFile(handle, bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes new names in a folder survive a power cut. */
async function sync(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

const ifThere = (error: NodeJS.ErrnoException): undefined => {
  if (error.code !== 'ENOENT') throw error;
};
