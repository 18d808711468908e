import { z } from 'zod';
import type { FileSource, LargeAttachment, OutgoingAttachment } from '../channel.js';
import { type Rejected, rejected } from '../outcome.js';
import { zipped } from './compression.js';
import { bytesOf, sourceOf, sourceOfBytes } from './file-sources.js';

/**
 * Attachments that only those can open who have the key or the password. Libraries are loaded by the first message that
 * needs them, as they take 50 to 600 ms and most installations need none.
 *
 * - `pgp`: each becomes an OpenPGP message for the public key (RFC 9580), `report.pdf.pgp`.
 * - `pdf`: each has to be a PDF and asks for the password when opened (AES-256, ISO 32000-2).
 * - `zip`: all together become `attachments.zip` (AES-256, WinZip AE-2), which 7-Zip and most desktops open.
 *
 * Inline images are part of the text and stay as they are.
 */
export type AttachmentEncryption =
  | { readonly method: 'pgp'; readonly publicKey: string }
  | { readonly method: 'pdf'; readonly password: string }
  | { readonly method: 'zip'; readonly password: string };

const password = z
  .string()
  .min(8, 'must have at least 8 characters')
  .max(127, 'must have at most 127 characters')
  .describe('Opens them; 8 to 127 characters.')
  .meta({ secret: true });
const method = <M extends string>(name: M) =>
  z.literal(name).describe('How: OpenPGP, an encrypted PDF, or AES-256 zip.');

export const attachmentEncryption = z.discriminatedUnion('method', [
  z.strictObject({
    method: method('pgp'),
    publicKey: z
      .string()
      .max(100_000)
      .regex(/^\s*-----BEGIN PGP PUBLIC KEY BLOCK-----/, 'must be an armored OpenPGP public key')
      .describe('Whom they are for, an armored OpenPGP public key.'),
  }),
  z.strictObject({ method: method('pdf'), password }),
  z.strictObject({ method: method('zip'), password }),
]);

/** Encrypted while they are read; a PDF only can be as a whole, in memory. */
export async function encrypted(
  attachments: readonly OutgoingAttachment[],
  encryption: AttachmentEncryption,
): Promise<readonly OutgoingAttachment[] | Rejected> {
  const inline = attachments.filter(({ contentId }) => contentId !== undefined);
  const files = attachments
    .filter(({ contentId }) => contentId === undefined)
    .map((file) => ({ filename: file.filename, source: sourceOf(file) }));
  if (files.length === 0) return attachments;
  try {
    return [...inline, ...(await METHODS[encryption.method](files, encryption as never))];
  } catch (error) {
    if (error instanceof OfContent) throw error.cause;
    const detail =
      error instanceof Unsuitable ? error.message : `an attachment cannot be encrypted (${encryption.method})`;
    return rejected(error instanceof Unsuitable ? 'VALIDATION' : 'CONFIGURATION', 'ENCRYPTION_FAILED', detail);
  }
}

class Unsuitable extends Error {}

/** It could not be read. */
class OfContent extends Error {}

type Method = 'pgp' | 'pdf' | 'zip';
type Of<M extends Method> = Extract<AttachmentEncryption, { method: M }>;
interface File {
  readonly filename: string;
  readonly source: FileSource;
}

const METHODS: { [M in Method]: (files: readonly File[], how: Of<M>) => Promise<LargeAttachment[]> } = {
  async pgp(files, { publicKey }) {
    const { createMessage, encrypt, readKey } = await import('openpgp');
    const encryptionKeys = await readKey({ armoredKey: publicKey });
    await encryptionKeys.getEncryptionKey(); // throws where it is none, or of no use any more
    return files.map(({ filename, source }) => ({
      filename: `${filename}.pgp`,
      contentType: 'application/octet-stream',
      source: {
        bytes: undefined,
        async *read() {
          const binary = ReadableStream.from(source.read()) as ReadableStream<Uint8Array>;
          const message = await createMessage({ binary: binary as never, filename });
          const sealed = (await encrypt({ message, encryptionKeys, format: 'binary' })) as unknown as typeof binary;
          for await (const chunk of sealed) yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
        },
      },
    }));
  },
  async pdf(files, { password }) {
    const { PDFDocument } = await import('@cantoo/pdf-lib');
    const made: LargeAttachment[] = [];
    for (const { filename, source } of files) {
      const bytes = await bytesOf(source).catch((cause) => Promise.reject(new OfContent('unread', { cause })));
      const document = await PDFDocument.load(bytes).catch(() => {
        throw new Unsuitable('an attachment is no PDF that can be given a password');
      });
      document.encrypt({ userPassword: password, ownerPassword: password, algorithm: 'AES-256' });
      const { buffer, byteOffset, byteLength } = await document.save();
      const contentType = 'application/pdf';
      made.push({ filename, contentType, source: sourceOfBytes(Buffer.from(buffer, byteOffset, byteLength)) });
    }
    return made;
  },
  async zip(files, { password }) {
    const source = zipped(distinct(files), password);
    return [{ filename: 'attachments.zip', contentType: 'application/zip', source }];
  },
};

/** The second `report.pdf` becomes `2-report.pdf`, so that it does not take the first one's place. */
export function distinct<File extends { readonly filename: string }>(files: readonly File[]): File[] {
  return files.map((file, index) => {
    const isTaken = files.slice(0, index).some(({ filename }) => filename === file.filename);
    return isTaken ? { ...file, filename: `${index + 1}-${file.filename}` } : file;
  });
}
