import { PassThrough, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { WritableStream } from 'node:stream/web';
import { createGzip } from 'node:zlib';
import type { FileSource } from '../channel.js';
import { streamOf } from './file-sources.js';

/** Stages that files go through on their way, piece by piece. */

export const gzipped = (source: FileSource): FileSource => ({
  bytes: undefined,
  async *read() {
    const gzip = createGzip();
    // What breaks it off is thrown to whoever reads.
    pipeline(streamOf(source), gzip).catch(() => undefined);
    yield* gzip;
  },
});

export interface ZippedFile {
  readonly filename: string;
  readonly source: FileSource;
}

/** @param password encrypts with AES-256 (WinZip AE-2), which 7-Zip and most desktops open */
export const zipped = (files: readonly ZippedFile[], password?: string): FileSource => ({
  bytes: undefined,
  async *read() {
    const { ZipWriter, configure } = await import('@zip.js/zip.js');
    configure({ useWebWorkers: false });
    const out = new PassThrough();
    const options = password === undefined ? {} : { password, encryptionStrength: 3 as const };
    const zip = new ZipWriter(Writable.toWeb(out) as WritableStream as never, options);
    const write = async () => {
      for (const { filename, source } of files) await zip.add(filename, ReadableStream.from(source.read()) as never);
      await zip.close();
    };
    write().catch((error) => out.destroy(error));
    yield* out;
  },
});
