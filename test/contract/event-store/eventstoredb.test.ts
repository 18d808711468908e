import { afterAll, beforeAll } from 'vitest';
import { EventStoreDb } from '../../../src/event-store/eventstoredb/event-store-db.js';
import { type EventStoreProcess, startEventStore } from '../../support/eventstoredb/start.js';
import { eventStoreContract } from './contract.js';

let server: EventStoreProcess;
beforeAll(async () => {
  server = await startEventStore();
});
afterAll(() => server.stop());

eventStoreContract('EventStoreDB adapter → test server', () => EventStoreDb.connect(server.url));

/** Any server: its database need not be empty. */
const url = process.env.EVENTSTORE_TEST_URL;
if (url) eventStoreContract('EventStoreDB adapter → EVENTSTORE_TEST_URL', () => EventStoreDb.connect(url));
