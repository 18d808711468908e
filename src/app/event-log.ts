import { EmbeddedLog } from '../event-store/embedded-log.js';
import { EmbeddedLogReader } from '../event-store/embedded-log-reader.js';
import type { EventReader, EventStore, EventStoreLocation } from '../event-store/event-store.js';

/**
 * Which of the two event stores runs is decided here and nowhere else, and only the client of that one is loaded.
 *
 * @param onTrouble hears of connections that were lost; the store goes on by itself
 */
export const openEventStore = async (
  location: EventStoreLocation,
  onTrouble: (error: Error) => void,
): Promise<EventStore> => {
  if ('path' in location) return EmbeddedLog.open(location.path);
  const { EventStoreDb } = await import('../event-store/eventstoredb/event-store-db.js');
  return await EventStoreDb.connect(location.url, { onTrouble });
};

/** For a thread of its own, beside the store that is open in another one. */
export const openEventReader = async (
  location: EventStoreLocation,
): Promise<EventReader & { close(): Promise<void> }> => {
  if ('path' in location) return EmbeddedLogReader.open(location.path);
  const { EventStoreDbReader } = await import('../event-store/eventstoredb/event-store-db-reader.js');
  return await EventStoreDbReader.connect(location.url);
};
