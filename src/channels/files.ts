import { promisify } from 'node:util';
import { gzip as gzipCallback } from 'node:zlib';
import { z } from 'zod';
import type { Attachment, Content } from '../domain/vocabulary.js';
import { type AttachmentEncryption, attachmentEncryption, encrypted } from './attachment-encryption.js';
import type { OutgoingMessage } from './channel.js';
import { type Rejected, rejected } from './outcome.js';
import { isForOneFile, pathOf, pathTemplate } from './paths.js';

/** What the channels that put files somewhere have in common: which files a message makes, and what they are called. */

const gzip = promisify(gzipCallback);

/** Of all files of one message. Beyond it, what is held in memory at once would be felt by everybody else. */
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
  readonly bytes: Buffer;
}

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
export async function filesOf(message: OutgoingMessage, config: FileConfig): Promise<readonly PlacedFile[] | Rejected> {
  const attachments = message.content.attachments ?? [];
  const plain = distinct(attachments.length > 0 ? attachments : [contentFile(message.content)]);
  const compressed = await compress(plain, config.compression ?? 'none');
  const files = config.encryption ? await encrypted(compressed, config.encryption) : compressed;
  if ('kind' in files) return files;
  if (files.length > 1 && isForOneFile(config.path)) {
    const detail = `there are ${files.length} files, and path gives them one name: add {filename}, or a slash at its end`;
    return rejected('CONFIGURATION', 'PATH_NOT_DISTINCT', detail);
  }
  const placed = files.map(({ filename, contentType, base64 }) => ({
    path: pathOf(config.path, filename, message),
    contentType,
    bytes: Buffer.from(base64, 'base64'),
  }));
  const size = placed.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const limit = config.maxBytes ?? MAX_FILE_BYTES;
  return size <= limit ? placed : rejected('VALIDATION', 'TOO_LARGE', `the files have ${size} bytes, ${limit} fit`);
}

function contentFile({ subject, text, html, data }: Content): Attachment {
  const parts = [text, html, data].filter((part) => part !== undefined).length;
  if (parts !== 1) return attachment('content.json', 'application/json', JSON.stringify({ subject, text, html, data }));
  if (text !== undefined) return attachment('content.txt', 'text/plain; charset=utf-8', text);
  if (html !== undefined) return attachment('content.html', 'text/html; charset=utf-8', html);
  return attachment('content.json', 'application/json', JSON.stringify(data));
}

async function compress(files: readonly Attachment[], how: 'none' | 'gzip' | 'zip'): Promise<readonly Attachment[]> {
  if (how === 'none') return files;
  if (how === 'gzip') {
    return Promise.all(
      files.map(async ({ filename, base64 }) =>
        attachment(`${filename}.gz`, 'application/gzip', await gzip(Buffer.from(base64, 'base64'))),
      ),
    );
  }
  const { Uint8ArrayReader, Uint8ArrayWriter, ZipWriter, configure } = await import('@zip.js/zip.js');
  configure({ useWebWorkers: false });
  const zip = new ZipWriter(new Uint8ArrayWriter());
  for (const { filename, base64 } of files) {
    await zip.add(filename, new Uint8ArrayReader(Buffer.from(base64, 'base64')));
  }
  return [attachment('files.zip', 'application/zip', Buffer.from(await zip.close()))];
}

/** The second `report.pdf` of a message becomes `2-report.pdf`, so that it does not take the first one's place. */
function distinct(files: readonly Attachment[]): Attachment[] {
  return files.map((file, index) => {
    const isTaken = files.slice(0, index).some(({ filename }) => filename === file.filename);
    const { filename, contentType, base64 } = file;
    return { filename: isTaken ? `${index + 1}-${filename}` : filename, contentType, base64 };
  });
}

function attachment(filename: string, contentType: string, bytes: string | Buffer): Attachment {
  return { filename, contentType, base64: Buffer.from(bytes as string).toString('base64') };
}
