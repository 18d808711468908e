import { createCipheriv, createDecipheriv, randomUUID } from 'node:crypto';
import { mkdir, open, opendir, rm } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * Files that are kept until a point in time, each sealed under a key that is not kept here. Any part of one can be read
 * without reading what is before it: it lies in pieces of 64 KiB, each sealed with AES-256-GCM for its place.
 */
const PIECE = 65_536;
const TAG = 16;
const CIPHER = 'aes-256-gcm';
/** `<end of its time, in seconds since 1970>.<uuid>`: what is to be removed shows in the names alone. */
const PLACE = /^(\d{10,11})\.[0-9a-f-]{36}$/;

export class EncryptedFiles {
  readonly #root: string;

  /** @param root absolute; made when the first file comes */
  constructor(root: string) {
    this.#root = root;
  }

  /** @param key 32 bytes, for these files only @returns where they are; on the disk when this resolves */
  async put(files: readonly Buffer[], key: Buffer, until: Date): Promise<string> {
    const place = `${Math.ceil(until.getTime() / 1_000)}.${randomUUID()}`;
    const folder = join(this.#root, place);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    try {
      for (const [index, bytes] of files.entries()) await write(join(folder, String(index)), index, bytes, key);
      const directory = await open(folder, 'r');
      await directory.sync().finally(() => directory.close());
      return place;
    } catch (error) {
      await this.remove(place).catch(() => undefined);
      throw error;
    }
  }

  /**
   * @param range offsets in the file, the last one included
   * @throws while it is read when a piece is missing or was tampered with
   */
  async *read(
    place: string,
    index: number,
    { key, bytes }: { readonly key: Buffer; readonly bytes: number },
    { start, end }: { readonly start: number; readonly end: number },
  ): AsyncGenerator<Buffer> {
    if (bytes === 0) return;
    const file = await open(this.#path(place, index), 'r');
    try {
      const last = Math.floor(end / PIECE);
      for (let piece = Math.floor(start / PIECE); piece <= last; piece++) {
        const from = piece * PIECE;
        const size = Math.min(PIECE, bytes - from);
        const sealed = Buffer.allocUnsafe(size + TAG);
        const { bytesRead } = await file.read(sealed, 0, sealed.length, piece * (PIECE + TAG));
        if (bytesRead !== sealed.length) throw new Error('a file that is kept has lost its end');
        const clear = unseal(sealed, key, index, piece, bytes);
        yield clear.subarray(Math.max(0, start - from), Math.min(size, end + 1 - from));
      }
    } finally {
      await file.close();
    }
  }

  async remove(place: string): Promise<void> {
    if (PLACE.test(place)) await rm(join(this.#root, place), { recursive: true, force: true });
  }

  /** Whatever has had its time. Harmless to do twice, or on two instances at once. @returns how many places */
  async removeExpired(now: Date): Promise<number> {
    let removed = 0;
    const entries = await opendir(this.#root).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      return [];
    });
    for await (const { name } of entries) {
      const until = Number(PLACE.exec(name)?.[1] ?? Number.NaN) * 1_000;
      if (!(until <= now.getTime())) continue;
      await this.remove(name);
      removed += 1;
    }
    return removed;
  }

  #path(place: string, index: number): string {
    if (!PLACE.test(place) || !Number.isInteger(index) || index < 0) throw new Error('this is no place for a file');
    return join(this.#root, place, String(index));
  }
}

async function write(path: string, index: number, bytes: Buffer, key: Buffer): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    for (let piece = 0; piece * PIECE < bytes.length; piece++) {
      const cipher = createCipheriv(CIPHER, key, nonce(index, piece));
      cipher.setAAD(sizeOf(bytes.length));
      const sealed = cipher.update(bytes.subarray(piece * PIECE, (piece + 1) * PIECE));
      cipher.final();
      await file.writev([sealed, cipher.getAuthTag()]);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

function unseal(sealed: Buffer, key: Buffer, index: number, piece: number, bytes: number): Buffer {
  const decipher = createDecipheriv(CIPHER, key, nonce(index, piece), { authTagLength: TAG });
  decipher.setAAD(sizeOf(bytes));
  decipher.setAuthTag(sealed.subarray(-TAG));
  const clear = decipher.update(sealed.subarray(0, -TAG));
  decipher.final();
  return clear;
}

/** Never twice under one key: the key is for these files only, and each is written once. */
function nonce(index: number, piece: number): Buffer {
  const bytes = Buffer.alloc(12);
  bytes.writeUInt32BE(index, 0);
  bytes.writeBigUInt64BE(BigInt(piece), 4);
  return bytes;
}

/** Every piece vouches for the length of the whole, so that a file that was cut off does not pass for a shorter one. */
function sizeOf(bytes: number): Buffer {
  const text = Buffer.alloc(8);
  text.writeBigUInt64BE(BigInt(bytes));
  return text;
}
