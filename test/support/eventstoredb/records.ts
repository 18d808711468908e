import { isUtf8 } from 'node:buffer';
import type { NewEvent, RecordedEvent } from '../../../src/event-store/event-store.js';
import type { Proposed } from './requests.js';
import type { Recorded } from './responses.js';

/** The revision of what a tombstone leaves in its stream, after which nothing comes: the largest of 64 signed bits. */
export const TOMBSTONE_REVISION = 2n ** 63n - 1n;

/** Of an event is kept only whether it is JSON, as by the real server. */
const JSON_TYPE = 'application/json';
const BINARY_TYPE = 'application/octet-stream';

/**
 * How an event of the protocol, whose data and metadata are bytes of any kind, lies in the log, whose data is JSON: text
 * as it is, all else in base64. What is read back is byte for byte what came.
 */
export function toLog(event: Proposed, isTombstone = false): NewEvent {
  const metadata: Record<string, string> = event.contentType === JSON_TYPE ? { isJson: 'true' } : {};
  if (event.customMetadata.length > 0) Object.assign(metadata, wrapped(event.customMetadata));
  if (isTombstone) metadata.tombstone = 'true';
  return { id: event.id, type: event.type, data: wrapped(event.data), metadata };
}

export function fromLog({ id, type, data, metadata, streamId, revision, position, created }: RecordedEvent): Recorded {
  return {
    ...{ id, type, position, contentType: metadata.isJson === 'true' ? JSON_TYPE : BINARY_TYPE, stream: streamId },
    data: unwrapped(data),
    customMetadata: unwrapped(metadata),
    revision: isTombstone({ metadata }) ? TOMBSTONE_REVISION : BigInt(revision),
    createdMs: Date.parse(created),
  };
}

export const isTombstone = ({ metadata }: Pick<NewEvent, 'metadata'>): boolean => metadata.tombstone === 'true';

type Wrapped = { readonly text?: string } & { readonly base64?: string };

const wrapped = (bytes: Buffer): { text: string } | { base64: string } =>
  isUtf8(bytes) ? { text: bytes.toString('utf8') } : { base64: bytes.toString('base64') };

const unwrapped = ({ text, base64 }: Wrapped): Buffer =>
  base64 === undefined ? Buffer.from(text ?? '', 'utf8') : Buffer.from(base64, 'base64');
