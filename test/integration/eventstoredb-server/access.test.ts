import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AccessDeniedError, EventStoreDBClient } from '@eventstore/db-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type EventStoreProcess, startEventStore } from '../../support/eventstoredb/start.js';
import { LOCALHOST } from '../../support/peers/certificate.js';
import { RawClient } from './raw.js';
import { admin, collect, newEvents, newStream } from './world.js';

const ops = { username: 'ops', password: 'changeit' };
const azureDiamond = { username: 'AzureDiamond', password: 'hunter2' };

describe('with TLS', () => {
  let folder: string;
  let server: EventStoreProcess;
  let client: EventStoreDBClient;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'waybill-tls-'));
    const tls = { cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') };
    await writeFile(tls.cert, LOCALHOST.cert);
    await writeFile(tls.key, LOCALHOST.key);
    server = await startEventStore({ tls });
    client = EventStoreDBClient.connectionString(server.url);
  });
  afterAll(async () => {
    await client?.dispose();
    await server?.stop();
    await rm(folder, { recursive: true });
  });

  const read = (stream: string, credentials?: typeof admin) =>
    collect(client.readStream(stream, { ...(credentials && { credentials }) }));
  const without = (credentials: string) =>
    EventStoreDBClient.connectionString(server.url.replace('admin:changeit@', credentials));

  it('everything is as without', async () => {
    const stream = newStream();
    await client.appendToStream(stream, newEvents(3));
    await client.appendToStream(stream, newEvents(2), { credentials: admin, expectedRevision: 2n });
    expect(await read(stream)).toHaveLength(5);
    expect((await collect(client.readAll({ maxCount: 2 }))).length).toBe(2);
    for await (const { event } of client.subscribeToStream(stream, { fromRevision: 3n })) {
      expect(event?.revision).toBe(4n);
      break;
    }
  });

  it('a client that does not know the certificate does not come in', async () => {
    const stranger = EventStoreDBClient.connectionString(`esdb://admin:changeit@127.0.0.1:${server.port}?tls=true`);
    await expect(stranger.appendToStream(newStream(), newEvents(1), { deadline: 5_000 })).rejects.toThrow();
  });

  it('a user that is not there, or a wrong password, is refused everything', async () => {
    const stream = newStream();
    await client.appendToStream(stream, newEvents(1));
    for (const credentials of [
      azureDiamond,
      { ...admin, password: 'hunter2' },
      { username: 'constructor', password: 'x' },
    ]) {
      await expect(client.appendToStream(stream, newEvents(1), { credentials })).rejects.toThrow(AccessDeniedError);
      await expect(read(stream, credentials)).rejects.toMatchObject({ code: 16 });
      await expect(client.deleteStream(stream, { credentials })).rejects.toMatchObject({ code: 16 });
      const other = without(`${credentials.username}:${credentials.password}@`);
      await expect(other.appendToStream(stream, newEvents(1))).rejects.toThrow(AccessDeniedError);
      await other.dispose();
    }
    expect(await read(stream)).toHaveLength(1);
  });

  it('nobody may do nothing with streams', async () => {
    const nobody = without('');
    const stream = newStream();
    await client.appendToStream(stream, newEvents(1));
    await expect(nobody.appendToStream(stream, newEvents(1))).rejects.toThrow(AccessDeniedError);
    await expect(collect(nobody.readStream(stream))).rejects.toMatchObject({ code: 7, type: 'access-denied' });
    await expect(collect(nobody.readAll())).rejects.toThrow(AccessDeniedError);
    await expect(nobody.tombstoneStream(stream)).rejects.toThrow(AccessDeniedError);
    await nobody.dispose();
  });

  it('other users than admin have the ordinary streams, but neither $all nor the system’s', async () => {
    const stream = newStream();
    await client.appendToStream(stream, newEvents(1), { credentials: ops });
    expect(await read(stream, ops)).toHaveLength(1);
    await client.setStreamMetadata(stream, { maxCount: 2 }, { credentials: ops });
    await expect(collect(client.readAll({ credentials: ops }))).rejects.toThrow(AccessDeniedError);
    await expect(read('$users', ops)).rejects.toThrow(AccessDeniedError);
    await expect(client.appendToStream('$mine', newEvents(1), { credentials: ops })).rejects.toThrow(AccessDeniedError);
    expect(await read('$users', admin)).toHaveLength(2);
  });

  it.each([
    ['readRoles', (stream: string) => read(stream, ops)],
    ['writeRoles', (stream: string) => client.appendToStream(stream, newEvents(1), { credentials: ops })],
    ['deleteRoles', (stream: string) => client.deleteStream(stream, { credentials: ops })],
    ['metaReadRoles', (stream: string) => client.getStreamMetadata(stream, { credentials: ops })],
    ['metaWriteRoles', (stream: string) => client.setStreamMetadata(stream, {}, { credentials: ops })],
  ] as const)('a stream’s $acl decides: %s', async (right, operation) => {
    const stream = newStream();
    await client.appendToStream(stream, newEvents(1));
    for (const roles of [['somebody'], []]) {
      await client.setStreamMetadata(stream, { acl: { [right]: roles } });
      await expect(operation(stream)).rejects.toThrow(AccessDeniedError);
    }
    for (const roles of [['somebody', 'ops'], ['$ops'], ['$all']]) {
      await client.setStreamMetadata(stream, { acl: { [right]: roles } });
      if (right === 'deleteRoles') await client.appendToStream(stream, newEvents(1));
      await operation(stream);
    }
  });

  it('BatchAppend, too, asks the $acl', async () => {
    const stream = newStream();
    await client.setStreamMetadata(stream, { acl: { writeRoles: ['somebody'] } });
    const other = without('ops:changeit@');
    await expect(other.appendToStream(stream, newEvents(1))).rejects.toThrow(AccessDeniedError);
    await other.appendToStream(newStream(), newEvents(1));
    await other.dispose();
  });
});

describe('without TLS', () => {
  let server: EventStoreProcess;
  let raw: RawClient;
  beforeAll(async () => {
    server = await startEventStore({ publicHost: 'localhost' });
    raw = new RawClient(server.port);
  });
  afterAll(async () => {
    raw.close();
    await server.stop();
  });

  const DELETE = '/event_store.client.streams.Streams/Delete';
  const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`;

  it.each([
    ['a wrong password', basic('admin:hunter2')],
    ['a user that is not there', basic('AzureDiamond:hunter2')],
    ['a user without a password', basic('admin')],
    ['another scheme', 'Bearer changeit'],
  ])('whoever names %s is refused', async (_, authorization) => {
    await expect(raw.call(DELETE, authorization)).rejects.toMatchObject({ code: 16 });
  });

  it('whoever names nobody, or a user rightly, is not', async () => {
    for (const authorization of [undefined, basic('admin:changeit'), basic('ops:changeit')])
      await expect(raw.call(DELETE, authorization)).rejects.not.toMatchObject({ code: 16 });
    const client = EventStoreDBClient.connectionString(server.url);
    expect(await collect(client.readAll())).not.toEqual([]);
    await client.dispose();
  });

  it('a cluster is found that has one member, under its public name', async () => {
    const client = EventStoreDBClient.connectionString(`esdb+discover://127.0.0.1:${server.port}?tls=false`);
    await client.appendToStream(newStream(), newEvents(1));
    const { resolveUri } = client as unknown as { resolveUri(): Promise<string> };
    expect(await resolveUri()).toBe(`localhost:${server.port}`);
    await client.dispose();
  });

  it('what is not there is unimplemented, and not among the features', async () => {
    for (const path of [
      '/event_store.client.persistent_subscriptions.PersistentSubscriptions/List',
      '/event_store.client.projections.Projections/Statistics',
      '/event_store.client.operations.Operations/Shutdown',
      '/event_store.client.streams.Streams/Unknown',
    ])
      await expect(raw.call(path)).rejects.toMatchObject({ code: 12 });
    const features = (
      await raw.call('/event_store.client.server_features.ServerFeatures/GetSupportedMethods')
    ).toString();
    const methods = ['read', 'append', 'delete', 'tombstone', 'batchappend', 'getsupportedmethods'];
    for (const method of methods) expect(features).toContain(method);
    expect(features).toContain('24.6.0.0');
    for (const absent of ['persistent', 'projections', 'operations', 'monitoring', 'users'])
      expect(features).not.toContain(absent);
  });
});
