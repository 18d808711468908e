import { randomUUID } from 'node:crypto';
import { EmbeddedLog } from './event-store/embedded-log.js';
import { EmbeddedLogReader } from './event-store/embedded-log-reader.js';
import type { EventReader, EventStore, EventStoreLocation } from './event-store/event-store.js';
import { EventStoreDb } from './event-store/eventstoredb/event-store-db.js';
import { EventStoreDbReader } from './event-store/eventstoredb/event-store-db-reader.js';

/**
 * Which of the two event stores runs is decided here and nowhere else.
 *
 * @param onTrouble hears of connections that were lost; the store goes on by itself
 */
export const openEventStore = async (
  location: EventStoreLocation,
  onTrouble: (error: Error) => void,
): Promise<EventStore> =>
  'path' in location ? EmbeddedLog.open(location.path) : await EventStoreDb.connect(location.url, { onTrouble });

/** For a thread of its own, beside the store that is open in another one. */
export const openEventReader = async (
  location: EventStoreLocation,
): Promise<EventReader & { close(): Promise<void> }> =>
  'path' in location ? EmbeddedLogReader.open(location.path) : await EventStoreDbReader.connect(location.url);

const IDENTITY_STREAM = 'waybill-log';

/**
 * Who this log is, for ever: the id of the one event in a stream of its own, written by whoever comes first. Positions
 * kept elsewhere mean something only together with it.
 */
export async function identityOf(store: EventStore): Promise<string> {
  const candidate = { id: randomUUID(), type: 'LogIdentified', data: {}, metadata: { schemaVersion: '1' } };
  const [known] = await store.readStream(IDENTITY_STREAM, { limit: 1 });
  if (known) return known.id;
  const answer = await store.append(IDENTITY_STREAM, 'no-stream', [candidate]);
  if (answer.ok) return candidate.id;
  const [first] = await store.readStream(IDENTITY_STREAM, { limit: 1 });
  if (!first) throw new Error(`the event store refuses the stream ${IDENTITY_STREAM} and does not have it`);
  return first.id;
}
