import { z } from 'zod';
import type { FileSource, LargeAttachment, OutgoingContent, OutgoingMessage } from '../channel.js';
import { type Rejected, rejected } from '../outcome.js';
import { type AttachmentEncryption, attachmentEncryption, distinct, encrypted } from './attachment-encryption.js';
import { gzipped, zipped } from './compression.js';
import { sourceOf, sourceOfBytes } from './file-sources.js';
import { isForOneFile, pathOf, pathTemplate } from './paths.js';

/** What the channels that put files somewhere have in common: which files a message makes, and what they are called. */

/** Of all files of one message. Beyond it, one attempt would keep a connection for longer than anybody waits. */
export const MAX_FILE_BYTES = 1_024 * 1_024 * 1_024;

export interface FileConfig {
  readonly path: string;
  readonly compression?: 'none' | 'gzip' | 'zip';
  readonly encryption?: AttachmentEncryption;
  readonly maxBytes?: number;
}

export interface PlacedFile {
  readonly path: string;
  readonly contentType: string;
  readonly source: FileSource;
}

/** The files of a message, to be read while they are stored. */
export class PlacedFiles {
  readonly list: readonly PlacedFile[];
  /** Set when more came of a file than may, and its reading broke off. */
  refusal: Rejected | undefined;

  /** Of each file what was read of it, where its size is not known beforehand. */
  readonly #read: number[];

  /** @param limit bytes of all together */
  constructor(files: readonly PlacedFile[], limit: number) {
    this.#read = files.map(({ source }) => source.bytes ?? 0);
    this.list = files.map((file, index) =>
      file.source.bytes === undefined ? { ...file, source: this.#limited(file.source, index, limit) } : file,
    );
  }

  /** Bytes of all together, as far as they are known. */
  get size(): number {
    return this.#read.reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Of one file; where its size is not known beforehand, what was read of it. */
  bytesOf(index: number): number {
    return this.#read[index] ?? 0;
  }

  #limited({ read }: FileSource, index: number, limit: number): FileSource {
    const count = (bytes: number) => {
      this.#read[index] = bytes;
      if (this.size <= limit) return;
      this.refusal = tooLarge(this.size, limit);
      throw new Error(this.refusal.detail);
    };
    return {
      bytes: undefined,
      async *read() {
        let bytes = 0;
        for await (const chunk of read()) {
          bytes += chunk.length;
          count(bytes);
          yield chunk;
        }
      },
    };
  }
}

const tooLarge = (bytes: number, limit: number): Rejected =>
  rejected('VALIDATION', 'TOO_LARGE', `the files have ${bytes} bytes, ${limit} fit`);

/** The fields of FileConfig, for the schema of an adapter to spread into its own. */
export const fileFields = {
  path: pathTemplate,
  compression: z
    .enum(['none', 'gzip', 'zip'])
    .optional()
    .describe('gzip compresses each file, zip puts all of them into one archive.')
    .meta({ default: 'none' }),
  encryption: attachmentEncryption
    .optional()
    .describe('How files are encrypted, after they were compressed. Default: not at all.'),
  maxBytes: z
    .int()
    .min(1)
    .max(MAX_FILE_BYTES)
    .optional()
    .describe('Bytes of all files of one delivery together, as they are stored.')
    .meta({ default: MAX_FILE_BYTES }),
};

/**
 * The files of a message, ready to be stored: its attachments; without any, its content as one file. Of content that is
 * one thing only (a text, an HTML page, data) the file is just that; of several, a JSON document has them all.
 */
export async function filesOf(message: OutgoingMessage, config: FileConfig): Promise<PlacedFiles | Rejected> {
  const attachments = message.content.attachments ?? [];
  const plain = attachments.map((file) => ({
    ...{ filename: file.filename, contentType: file.contentType, source: sourceOf(file) },
  }));
  const compressed = compress(distinct(plain.length > 0 ? plain : [contentFile(message.content)]), config.compression);
  const files = config.encryption ? await encrypted(compressed, config.encryption) : compressed;
  if ('kind' in files) return files;
  if (files.length > 1 && isForOneFile(config.path)) {
    const detail = `there are ${files.length} files, and path gives them one name: add {filename}, or a slash at its end`;
    return rejected('CONFIGURATION', 'PATH_NOT_DISTINCT', detail);
  }
  const limit = config.maxBytes ?? MAX_FILE_BYTES;
  const placed = new PlacedFiles(
    files.map((file) => ({
      path: pathOf(config.path, file.filename, message),
      contentType: file.contentType,
      source: sourceOf(file),
    })),
    limit,
  );
  return placed.size <= limit ? placed : tooLarge(placed.size, limit);
}

function contentFile({ subject, text, html, data }: OutgoingContent): LargeAttachment {
  const parts = [text, html, data].filter((part) => part !== undefined).length;
  if (parts !== 1) return fileOf('content.json', 'application/json', JSON.stringify({ subject, text, html, data }));
  if (text !== undefined) return fileOf('content.txt', 'text/plain; charset=utf-8', text);
  if (html !== undefined) return fileOf('content.html', 'text/html; charset=utf-8', html);
  return fileOf('content.json', 'application/json', JSON.stringify(data));
}

function compress(files: readonly LargeAttachment[], how: FileConfig['compression']): readonly LargeAttachment[] {
  if (how === 'zip') return [{ filename: 'files.zip', contentType: 'application/zip', source: zipped(files) }];
  if (how !== 'gzip') return files;
  return files.map(({ filename, source }) => ({
    ...{ filename: `${filename}.gz`, contentType: 'application/gzip', source: gzipped(source) },
  }));
}

const fileOf = (filename: string, contentType: string, text: string): LargeAttachment => ({
  ...{ filename, contentType, source: sourceOfBytes(Buffer.from(text)) },
});
