import { createCipheriv, createDecipheriv, createHash, hash, randomBytes } from 'node:crypto';

/**
 * How a content lies outside the log: in pieces of 64 KiB, each sealed by itself with AES-256-GCM, so that one as large as a
 * disk goes through memory piece by piece, and any part of it is read without the rest (the STREAM construction of
 * Hoang, Reyhanitabar, Rogaway and Vizár, 2015). The number of each piece is its nonce; that and whether it is the last are
 * its additional data, so that none can be moved, left out, or cut off.
 *
 * Each content has a key of its own, made of its subject's key, its stream and 16 random bytes by the one-step function of
 * NIST SP 800-56C with SHA-256: a nonce never comes twice under one key.
 */
const PIECE = 65_536;
const TAG = 16;
const SALT = 16;
const CIPHER = 'aes-256-gcm';
const COUNTER = Buffer.from([0, 0, 0, 1]);

/** What a content is bound to. */
export interface ContentPlace {
  /** The subject's key, 32 bytes, and its id. */
  readonly key: { readonly id: string; readonly key: Buffer };
  readonly streamId: string;
  /** The field of the event. */
  readonly path: string;
}

/** Offsets of bytes; `end` is not included. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** The parts that a content cannot be without: whoever holds them seals it or opens it. */
export class Pieces {
  /** Goes into the event, in hexadecimal. */
  readonly salt: string;
  readonly #key: Buffer;
  readonly #place: string;

  /** @param salt of a content that was sealed; a new one has a new one */
  constructor({ key, streamId, path }: ContentPlace, salt = randomBytes(SALT).toString('hex')) {
    const words = Buffer.from(`content in pieces\n${streamId}\n${salt}`);
    this.salt = salt;
    this.#key = hash('sha256', Buffer.concat([COUNTER, key.key, words]), 'buffer');
    this.#place = `${streamId}\n${path}\n${key.id}`;
  }

  /** All of it, where it is in memory anyway. */
  sealAll(bytes: Buffer): Buffer {
    const sealed = Buffer.allocUnsafeSlow(sealedSize(bytes.length));
    let written = 0;
    for (let index = 0; written < sealed.length; index++) {
      const piece = bytes.subarray(index * PIECE, (index + 1) * PIECE);
      const isLast = (index + 1) * PIECE >= bytes.length;
      for (const part of this.#seal(piece, index, isLast)) written += part.copy(sealed, written);
    }
    return sealed;
  }

  /** Whatever comes, as it comes. */
  async *seal(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
    let held: Buffer | undefined;
    let index = 0;
    for await (const piece of inSizesOf(PIECE, source)) {
      if (held) yield Buffer.concat(this.#seal(held, index++, false));
      held = piece;
    }
    yield Buffer.concat(this.#seal(held ?? Buffer.alloc(0), index, true));
  }

  /**
   * @param read gives sealed bytes
   * @param digest of all sealed bytes, SHA-256 in hexadecimal; compared where all of them are read, before the last are given
   * @throws Error when they are not those that were sealed
   */
  async *open(
    { size, digest }: { readonly size: number; readonly digest: string },
    { start, end }: ByteRange,
    read: (range: ByteRange) => AsyncIterable<Uint8Array>,
  ): AsyncGenerator<Buffer> {
    const count = countOf(size);
    const first = Math.min(Math.floor(start / PIECE), count - 1);
    const last = Math.min(Math.max(Math.ceil(end / PIECE), first + 1), count) - 1;
    const range = { start: first * (PIECE + TAG), end: Math.min((last + 1) * (PIECE + TAG), size) };
    const hash = first === 0 && last === count - 1 ? createHash('sha256') : undefined;
    let index = first;
    for await (const sealed of inSizesOf(PIECE + TAG, read(range))) {
      const clear = this.#open(sealed, index, index === count - 1);
      hash?.update(sealed);
      if (index === last && hash && hash.digest('hex') !== digest) throw new Error('its digest is another one');
      const from = index * PIECE;
      const part = clear.subarray(Math.max(0, start - from), Math.max(0, end - from));
      index += 1;
      if (part.length > 0) yield part;
    }
    if (index !== last + 1) throw new Error('its end is missing');
  }

  #seal(piece: Buffer, index: number, isLast: boolean): [Buffer, Buffer] {
    const cipher = createCipheriv(CIPHER, this.#key, nonceOf(index));
    cipher.setAAD(this.#additional(index, isLast));
    const body = cipher.update(piece);
    cipher.final();
    return [body, cipher.getAuthTag()];
  }

  #open(sealed: Buffer, index: number, isLast: boolean): Buffer {
    const decipher = createDecipheriv(CIPHER, this.#key, nonceOf(index), { authTagLength: TAG });
    decipher.setAAD(this.#additional(index, isLast));
    decipher.setAuthTag(sealed.subarray(-TAG));
    const clear = decipher.update(sealed.subarray(0, -TAG));
    decipher.final();
    return clear;
  }

  #additional(index: number, isLast: boolean): Buffer {
    return Buffer.from(`${this.#place}\n${index}\n${isLast ? 'last' : 'more'}`);
  }
}

/** How many bytes there are in a content that has so many sealed. */
export const plainSize = (size: number): number => size - countOf(size) * TAG;

const sealedSize = (bytes: number): number => bytes + Math.max(1, Math.ceil(bytes / PIECE)) * TAG;

const countOf = (size: number): number => Math.max(1, Math.ceil(size / (PIECE + TAG)));

function nonceOf(index: number): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32BE(index, 8);
  return nonce;
}

/** The same bytes in buffers of one size; the last may be shorter, and is never empty. */
async function* inSizesOf(size: number, source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let held: Buffer[] = [];
  let length = 0;
  for await (const chunk of source) {
    let rest = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
    while (length + rest.length >= size) {
      const part = rest.subarray(0, size - length);
      yield held.length === 0 ? part : Buffer.concat([...held, part], size);
      rest = rest.subarray(part.length);
      held = [];
      length = 0;
    }
    if (rest.length > 0) held.push(rest);
    length += rest.length;
  }
  if (length > 0) yield Buffer.concat(held, length);
}
