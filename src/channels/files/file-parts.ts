import { createHash } from 'node:crypto';
import type { FileSource } from '../channel.js';
import { sourceOfBytes } from './file-sources.js';

/** A part of a file, for providers that take large files in parts. */
export interface FilePart extends FileSource {
  /** From 0 on. */
  readonly index: number;
  /** Where in the file it begins. */
  readonly start: number;
  readonly bytes: number;
  readonly isLast: boolean;
}

/**
 * A file in parts of one size; the last may be shorter, and there is always one. Of a file whose size is known no part is
 * ever in memory; of any other one part is, and the beginning of the next.
 */
export async function* partsOf(file: FileSource, partBytes: number): AsyncGenerator<FilePart> {
  const { bytes } = file;
  if (bytes === undefined) return yield* partsAsTheyCome(file, partBytes);
  const count = Math.max(1, Math.ceil(bytes / partBytes));
  for (let index = 0; index < count; index++) {
    const range = { start: index * partBytes, end: Math.min((index + 1) * partBytes, bytes) };
    yield {
      index,
      start: range.start,
      bytes: range.end - range.start,
      isLast: index === count - 1,
      ...(file.held && { held: file.held.subarray(range.start, range.end) }),
      read: ({ start, end } = { start: 0, end: range.end - range.start }) =>
        file.read({ start: range.start + start, end: range.start + end }),
    };
  }
}

async function* partsAsTheyCome(file: FileSource, partBytes: number): AsyncGenerator<FilePart> {
  let held: Buffer[] = [];
  let length = 0;
  let index = 0;
  const part = (bytes: Buffer, isLast: boolean): FilePart => {
    const start = index * partBytes;
    return { ...sourceOfBytes(bytes), bytes: bytes.length, start, index: index++, isLast };
  };
  for await (const chunk of file.read()) {
    held.push(chunk);
    length += chunk.length;
    while (length > partBytes) {
      const all = Buffer.concat(held, length);
      yield part(all.subarray(0, partBytes), false);
      held = [all.subarray(partBytes)];
      length -= partBytes;
    }
  }
  yield part(Buffer.concat(held, length), true);
}

/** The digest of a file or part that is about to be sent, so that the other side can tell whether it has come whole. */
export async function digestOf({ read }: FileSource, algorithm: 'md5' | 'sha256'): Promise<Buffer> {
  const hash = createHash(algorithm);
  for await (const chunk of read()) hash.update(chunk);
  return hash.digest();
}
