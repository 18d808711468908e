import { randomUUID } from 'node:crypto';
import { EventStoreDBClient, jsonEvent } from '@eventstore/db-client';
import { afterAll, beforeAll } from 'vitest';
import { type EventStoreOptions, type EventStoreProcess, startEventStore } from '../../support/eventstoredb/start.js';

/** One server for a test file, and the official client; the tests have streams of their own. */
export function eventStoreForFile(options: EventStoreOptions = {}) {
  let server: EventStoreProcess;
  let client: EventStoreDBClient;
  beforeAll(async () => {
    server = await startEventStore(options);
    client = EventStoreDBClient.connectionString(server.url);
  });
  afterAll(async () => {
    await client?.dispose();
    await server?.stop();
  });
  return {
    get server() {
      return server;
    },
    get client() {
      return client;
    },
  };
}

/** Given with a call, credentials make the client use Append; without, it uses BatchAppend. */
export const admin = { username: 'admin', password: 'changeit' };
export const bothAppends = [
  ['BatchAppend', {}],
  ['Append', { credentials: admin }],
] as const;

export const newStream = (prefix = 'test'): string => `${prefix}-${randomUUID()}`;

export const newEvent = (type = 'test', data: object = { message: 'test' }) => jsonEvent({ type, data: { ...data } });
export const newEvents = (count: number, type?: string) =>
  Array.from({ length: count }, (_, index) => newEvent(type, { message: 'test', index }));

export async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const all: Item[] = [];
  for await (const item of items) all.push(item);
  return all;
}

export const idsOf = (items: readonly { readonly event?: { readonly id: string } }[]) =>
  items.map(({ event }) => event?.id);
export const revisionsOf = (items: readonly { readonly event?: { readonly revision: bigint } }[]) =>
  items.map(({ event }) => Number(event?.revision));
