import { crc32 } from 'node:zlib';
import { EventOfText, type EventText, type NewEvent, type RecordedEvent } from './event-store.js';

/** How one event lies in the embedded log: CRC-32 (4 bytes, big-endian) of what follows, then its text in UTF-8. */
const HEADER_BYTES = 4;
/** UTF-8 needs at most this many bytes for one unit of a JavaScript string. */
const MOST_BYTES_PER_UNIT = 3;
/** Records share memory: an allocation for each of them would cost more than its copy. */
const SLAB_BYTES = 256 * 1024;

let slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
let used = 0;

/** @returns bytes in memory that is shared with other records and never written again */
export function encodeRecord(streamId: string, revision: number, event: NewEvent, created: string): Buffer {
  const stored: EventText = [streamId, revision, event.id, event.type, event.data, event.metadata, created];
  const json = JSON.stringify(stored);
  const most = HEADER_BYTES + json.length * MOST_BYTES_PER_UNIT;
  if (most > SLAB_BYTES) return checked(Buffer.concat([Buffer.alloc(HEADER_BYTES), Buffer.from(json)]));
  if (used + most > SLAB_BYTES) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    used = 0;
  }
  const start = used;
  used += HEADER_BYTES + slab.write(json, start + HEADER_BYTES, 'utf8');
  return checked(slab.subarray(start, used));
}

function checked(record: Buffer): Buffer {
  record.writeUInt32BE(crc32(record.subarray(HEADER_BYTES)), 0);
  return record;
}

/** @throws LogCorrupted when the bytes are not what was written */
export function decodeRecord(position: number, bytes: Buffer): RecordedEvent {
  if (bytes.length < HEADER_BYTES || crc32(bytes.subarray(HEADER_BYTES)) !== bytes.readUInt32BE(0))
    throw new LogCorrupted(`the event log is damaged at position ${position}: its checksum does not match`);
  return new EventOfText(BigInt(position), bytes.toString('utf8', HEADER_BYTES));
}

/** The log holds something else than what was written to it; the message is one line that says what. */
export class LogCorrupted extends Error {
  override name = 'LogCorrupted';
}
