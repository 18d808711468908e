import { EmbeddedLog } from '../event-store/embedded-log.js';
import { EmbeddedLogReader } from '../event-store/embedded-log-reader.js';
import type { EventReader, EventStore, EventStoreLocation } from '../event-store/event-store.js';
import { EventStoreDb } from '../event-store/eventstoredb/event-store-db.js';
import { EventStoreDbReader } from '../event-store/eventstoredb/event-store-db-reader.js';

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
