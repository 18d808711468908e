import { crc32 } from 'node:zlib';
import type { NewEvent, RecordedEvent } from './event-store.js';

/** How one event lies in the embedded log: CRC-32 (4 bytes, big-endian) of what follows, then JSON in UTF-8. */
type Stored = [
  streamId: string,
  revision: number,
  id: string,
  type: string,
  data: unknown,
  metadata: unknown,
  created: string,
];

export function encodeRecord(streamId: string, revision: number, event: NewEvent, created: string): Buffer {
  const stored: Stored = [streamId, revision, event.id, event.type, event.data, event.metadata, created];
  const json = JSON.stringify(stored);
  const bytes = Buffer.allocUnsafe(4 + Buffer.byteLength(json));
  bytes.write(json, 4, 'utf8');
  bytes.writeUInt32BE(crc32(bytes.subarray(4)), 0);
  return bytes;
}

/** @throws LogCorrupted when the bytes are not what was written */
export function decodeRecord(position: number, bytes: Buffer): RecordedEvent {
  if (bytes.length < 4 || crc32(bytes.subarray(4)) !== bytes.readUInt32BE(0))
    throw new LogCorrupted(`the event log is damaged at position ${position}: its checksum does not match`);
  const [streamId, revision, id, type, data, metadata, created] = JSON.parse(bytes.toString('utf8', 4)) as Stored;
  return {
    streamId,
    revision,
    position: BigInt(position),
    id,
    type,
    data: data as RecordedEvent['data'],
    metadata: metadata as RecordedEvent['metadata'],
    created,
  };
}

export class LogCorrupted extends Error {
  override name = 'LogCorrupted';
}
