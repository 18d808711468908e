import { type EventStoreProcess, startEventStore } from './eventstoredb/start.js';

/** One test server for each data directory, so that a Waybill that is started again finds its log. */
const running = new Map<string, Promise<EventStoreProcess>>();

/** Waybill's processes keep their log in an EventStoreDB test server instead of the embedded log. */
export const isEventStoreDbWanted = process.env.WAYBILL_TEST_LOG === 'eventstoredb';

export async function eventStoreOf(dataDir: string): Promise<EventStoreProcess> {
  const known = running.get(dataDir) ?? startEventStore();
  running.set(dataDir, known);
  return await known;
}

/** Ends it and removes its log. */
export async function removeEventStoreOf(dataDir: string): Promise<void> {
  const known = running.get(dataDir);
  running.delete(dataDir);
  await (await known)?.stop();
}
