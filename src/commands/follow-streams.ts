import { setTimeout as delay } from 'node:timers/promises';
import type { EventReader, RecordedEvent } from '../event-store/event-store.js';

const RETRY_MS = 1_000;

/**
 * Tells which streams have changed, until `signal` aborts; goes on when the log was out of reach for a while.
 *
 * @param prefix of the streams' names; `changed` gets what follows it, and the event
 * @param after exclusive
 */
export async function followStreams(
  reader: EventReader,
  { prefix, after, signal }: { readonly prefix: string; readonly after: bigint; readonly signal: AbortSignal },
  changed: (id: string, event: RecordedEvent) => void,
): Promise<void> {
  let position = after;
  while (!signal.aborted) {
    try {
      for await (const batch of reader.subscribe({ after: position, prefixes: [prefix], signal })) {
        for (const event of batch.events) changed(event.streamId.slice(prefix.length), event);
        position = batch.position;
      }
      return;
    } catch {
      await delay(RETRY_MS, undefined, { signal }).catch(() => undefined);
    }
  }
}
