import { Readable } from 'node:stream';
import type { Attachment } from '../../domain/vocabulary.js';
import type { ByteRange, FileSource, OutgoingAttachment } from '../channel.js';

/** An attachment's bytes, for whoever can send them as they come. */
export function sourceOf(attachment: OutgoingAttachment): FileSource {
  return 'source' in attachment ? attachment.source : sourceOfBytes(Buffer.from(attachment.base64, 'base64'));
}

export function sourceOfBytes(bytes: Buffer): FileSource {
  return {
    bytes: bytes.length,
    held: bytes,
    async *read({ start, end } = { start: 0, end: bytes.length }) {
      if (start < end) yield bytes.subarray(start, end);
    },
  };
}

/** All of a file in memory, for a library or a provider that takes nothing else. */
export async function bytesOf(source: FileSource): Promise<Buffer> {
  if (source.held) return source.held;
  const chunks: Buffer[] = [];
  for await (const chunk of source.read()) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** The same for a provider whose API is JSON. */
export async function inBase64(attachment: OutgoingAttachment): Promise<Attachment> {
  if (!('source' in attachment)) return attachment;
  const { filename, contentType, contentId, source } = attachment;
  const base64 = (await bytesOf(source)).toString('base64');
  return { filename, contentType, base64, ...(contentId !== undefined && { contentId }) };
}

/** As a stream of Node's, which reads nothing before somebody reads it. */
export const streamOf = (source: Pick<FileSource, 'read'>, range?: ByteRange): Readable =>
  Readable.from(source.read(range), { objectMode: false });
