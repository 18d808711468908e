import { createHash } from 'node:crypto';
import type { LargeAttachment } from '../../src/channels/channel.js';

/** A file that is not in memory: its bytes are made when they are read, the same each time. */
export interface LargeFile extends LargeAttachment {
  /** SHA-256 of all of it, hexadecimal. */
  readonly digest: string;
  /** Readings that have begun and not ended. */
  open(): number;
}

const CHUNK = 65_536;

/** @param brokenAt reading it throws there, as when what is stored was damaged */
export function largeFile(filename: string, bytes: number, brokenAt = Number.POSITIVE_INFINITY): LargeFile {
  let open = 0;
  const at = (from: number, to: number): Buffer => {
    const chunk = Buffer.alloc(to - from);
    for (let offset = 0; offset < chunk.length; offset++) {
      const place = from + offset;
      chunk[offset] = (place * 31 + (place >> 16) * 17) & 0xff;
    }
    return chunk;
  };
  async function* read({ start, end } = { start: 0, end: bytes }) {
    open += 1;
    try {
      for (let from = start; from < end; from += CHUNK) {
        if (from >= brokenAt) throw new Error('what is stored is damaged');
        yield at(from, Math.min(end, from + CHUNK));
      }
    } finally {
      open -= 1;
    }
  }
  const hash = createHash('sha256');
  for (let from = 0; from < bytes; from += CHUNK) hash.update(at(from, Math.min(bytes, from + CHUNK)));
  const digest = hash.digest('hex');
  return { filename, contentType: 'application/octet-stream', source: { bytes, read }, digest, open: () => open };
}
