import { AppendRefused, type NewEvent } from './event-store.js';

/** Well within LMDB's bound on keys (1,978 bytes with the revision). */
export const MAX_STREAM_BYTES = 1_024;
/** Attachments travel inside the event that requests the delivery. */
export const MAX_EVENT_BYTES = 32 * 1024 * 1024;
export const MAX_APPEND_BYTES = 64 * 1024 * 1024;
export const MAX_APPEND_EVENTS = 65_536;
/** Control characters, and halves of characters, which UTF-8 cannot hold. */
const UNUSABLE = /[\p{Cc}\p{Cs}]/u;

/** @throws AppendRefused for what no log takes; the sizes of events are known when they are encoded */
export function checkAppend(streamId: string, { length }: readonly NewEvent[]): void {
  if (length === 0) throw new AppendRefused('an append needs at least one event');
  if (length > MAX_APPEND_EVENTS)
    throw new AppendRefused(`an append of ${length} events is over the limit of ${MAX_APPEND_EVENTS}`);
  if (streamId === '' || streamId.length > MAX_STREAM_BYTES || Buffer.byteLength(streamId) > MAX_STREAM_BYTES)
    throw new AppendRefused(`the name of a stream must have from 1 to ${MAX_STREAM_BYTES} bytes`);
  if (UNUSABLE.test(streamId))
    throw new AppendRefused('the name of a stream must have neither control characters nor halves of characters');
}

/** @throws AppendRefused when an event, or all of them together, have more bytes than any log takes */
export function checkSizes(eventBytes: number, appendBytes: number): void {
  if (eventBytes > MAX_EVENT_BYTES)
    throw new AppendRefused(`an event of ${eventBytes} bytes is over the limit of ${MAX_EVENT_BYTES}`);
  if (appendBytes > MAX_APPEND_BYTES)
    throw new AppendRefused(`an append of ${appendBytes} bytes or more is over the limit of ${MAX_APPEND_BYTES}`);
}
