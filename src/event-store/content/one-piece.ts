import { hash } from 'node:crypto';
import { aad, type DataKey, decryptBytes, SEAL_BYTES } from '../event-cipher.js';
import type { ByteRange } from './pieces.js';

const COUNTER = Buffer.from([0, 0, 0, 1]);

/** As contents were sealed at first: nonce, ciphertext and tag, which has to be read as a whole. */
export class OnePiece {
  readonly #key: DataKey;
  readonly #streamId: string;
  readonly #path: string;

  constructor(key: DataKey, streamId: string, path: string) {
    this.#key = key;
    this.#streamId = streamId;
    this.#path = path;
  }

  async *open(
    { size, digest }: { readonly size: number; readonly digest: string },
    { start, end }: ByteRange,
    read: (range: ByteRange) => AsyncIterable<Buffer>,
  ): AsyncGenerator<Buffer> {
    const chunks: Buffer[] = [];
    for await (const chunk of read({ start: 0, end: size })) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    if (hash('sha256', body) !== digest) throw new Error('its digest is another one');
    const { key } = this.#key;
    const plain = decryptBytes(contentKey(key, this.#streamId), aad(this.#key, this.#streamId, this.#path), body);
    if (start < end) yield plain.subarray(start, end);
  }
}

/** As the keys of events are made; the word keeps these apart from those. */
const contentKey = (key: Buffer, streamId: string): Buffer =>
  hash('sha256', Buffer.concat([COUNTER, key, Buffer.from(`content\n${streamId}`)]), 'buffer');

/** How many bytes there are in a content that has so many sealed. */
export const plainSizeOfOne = (size: number): number => size - SEAL_BYTES;
