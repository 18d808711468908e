import { z } from 'zod';
import type { Attachment } from '../domain/vocabulary.js';
import { type Rejected, rejected } from './outcome.js';

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

export async function encrypted(
  attachments: readonly Attachment[],
  encryption: AttachmentEncryption,
): Promise<readonly Attachment[] | Rejected> {
  const inline = attachments.filter(({ contentId }) => contentId !== undefined);
  const files = attachments.filter(({ contentId }) => contentId === undefined);
  if (files.length === 0) return attachments;
  try {
    return [...inline, ...(await METHODS[encryption.method](files, encryption as never))];
  } catch (error) {
    const detail =
      error instanceof Unsuitable ? error.message : `an attachment cannot be encrypted (${encryption.method})`;
    return rejected(error instanceof Unsuitable ? 'VALIDATION' : 'CONFIGURATION', 'ENCRYPTION_FAILED', detail);
  }
}

class Unsuitable extends Error {}

type Method = 'pgp' | 'pdf' | 'zip';
type Of<M extends Method> = Extract<AttachmentEncryption, { method: M }>;

const METHODS: { [M in Method]: (files: readonly Attachment[], how: Of<M>) => Promise<Attachment[]> } = {
  async pgp(files, { publicKey }) {
    const { createMessage, encrypt, readKey } = await import('openpgp');
    const encryptionKeys = await readKey({ armoredKey: publicKey });
    return Promise.all(
      files.map(async ({ filename, base64 }) => {
        const message = await createMessage({ binary: bytesOf(base64), filename });
        const binary = (await encrypt({ message, encryptionKeys, format: 'binary' })) as Uint8Array;
        return fileOf(`${filename}.pgp`, 'application/octet-stream', binary);
      }),
    );
  },
  async pdf(files, { password }) {
    const { PDFDocument } = await import('@cantoo/pdf-lib');
    return Promise.all(
      files.map(async ({ filename, base64 }) => {
        const document = await PDFDocument.load(bytesOf(base64)).catch(() => {
          throw new Unsuitable('an attachment is no PDF that can be given a password');
        });
        document.encrypt({ userPassword: password, ownerPassword: password, algorithm: 'AES-256' });
        return fileOf(filename, 'application/pdf', await document.save());
      }),
    );
  },
  async zip(files, { password }) {
    const { Uint8ArrayReader, Uint8ArrayWriter, ZipWriter, configure } = await import('@zip.js/zip.js');
    configure({ useWebWorkers: false });
    const zip = new ZipWriter(new Uint8ArrayWriter(), { password, encryptionStrength: 3 });
    for (const [index, { filename, base64 }] of files.entries()) {
      const isTaken = files.slice(0, index).some((earlier) => earlier.filename === filename);
      await zip.add(isTaken ? `${index + 1}-${filename}` : filename, new Uint8ArrayReader(bytesOf(base64)));
    }
    return [fileOf('attachments.zip', 'application/zip', await zip.close())];
  },
};

const bytesOf = (base64: string): Uint8Array => Buffer.from(base64, 'base64');

const fileOf = (filename: string, contentType: string, bytes: Uint8Array): Attachment => ({
  filename,
  contentType,
  base64: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64'),
});
