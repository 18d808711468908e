import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import { projections } from '../../../src/projections/registry.js';
import type { ProjectionHost as Host, HostOptions } from '../../../src/projections/runner/host.js';
import { newDelivery, requested, sent, World } from './world.js';

/** As built: a thread gets no TypeScript compiler from vitest. */
let ProjectionHost: typeof Host;
let world: World;

beforeAll(async () => {
  const [build, built] = ['../../../scripts/build.mjs', '../../../dist/projections/runner/host.js'];
  await (await import(build)).buildIfStale();
  ({ ProjectionHost } = await import(built));
  world = await World.create();
});
afterAll(() => world.close());

const hostOn = (logPath: string, options: Partial<HostOptions> = {}): Host =>
  new ProjectionHost({
    reader: world.log,
    codec: world.codec,
    postgres: { connectionString: world.server.url },
    log: { path: logPath },
    ...options,
  });

it('keeps the read models up to date from a thread of its own', async () => {
  const host = hostOn(world.logPath);
  host.start();
  await host.ready;
  const wanted = newDelivery();
  const changes = host.changes(({ id }) => id === wanted.id);
  const position = await world.record(wanted.stream, requested(), sent());
  expect(await host.waitFor(position, 20_000)).toBe(true);
  expect(await world.rows('select status from deliveries')).toEqual([{ status: 'DELIVERED' }]);
  expect((await changes.next()).value).toMatchObject([{ id: wanted.id }]);
  await changes.return?.();

  const rebuilds = host.rebuilds();
  const { id } = await host.orders.rebuild('deliveries');
  for await (const [rebuild] of rebuilds) if (rebuild?.id === id && rebuild.state === 'done') break;
  await expect(host.orders.rebuild('nonsense')).rejects.toMatchObject({ name: 'UnknownProjection' });
  const states = async () => (await host.status()).map(({ state }) => state);
  await expect.poll(states).toEqual(projections.map(() => 'running'));
  await host.stop();
});

it('is one of several instances from there, too', async () => {
  const hosts = ['first', 'second'].map((owner) => hostOn(world.logPath, { owner, isAlone: false }));
  for (const host of hosts) {
    host.start();
    await host.ready;
  }
  expect(await world.rows('select owner from projection_writer')).toEqual([{ owner: 'first' }]);
  const { id, stream } = newDelivery();
  const [, reader] = hosts as [Host, Host];
  const changes = reader.changes((change) => change.id === id);
  expect(await reader.waitFor(await world.record(stream, requested()), 20_000)).toBe(true);
  expect((await changes.next()).value).toMatchObject([{ id }]);
  await changes.return?.();
  for (const host of hosts) await host.stop();
});

it('says so when the thread falls silent', async () => {
  const host = hostOn(world.logPath);
  host.start();
  await host.ready;
  try {
    vi.useFakeTimers({ toFake: ['performance'] });
    vi.advanceTimersByTime(300_000);
    expect(host.progress()[0]).toMatchObject({ state: 'failing', lastError: expect.stringContaining('said nothing') });
    // It gives a sign of life every five seconds.
    await vi.waitFor(() => expect(host.progress()[0]?.state).toBe('running'), { timeout: 10_000 });
  } finally {
    vi.useRealTimers();
  }
  await host.stop();
});

it('starts the thread again when it dies', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'waybill-later-'));
  const logPath = join(folder, 'log');
  const host = hostOn(logPath);
  host.start();
  // There is no log yet to read.
  await expect
    .poll(() => host.progress()[0]?.lastError, { timeout: 20_000 })
    .toContain('the projection thread has died');
  expect(host.progress().map(({ state }) => state)).toEqual(projections.map(() => 'failing'));
  await expect(host.orders.rebuild('deliveries')).rejects.toThrow('thread');
  const log = EmbeddedLog.open(logPath);
  await host.ready;
  expect(host.progress()[0]?.lastError).toBeUndefined();
  await host.stop();
  await log.close();
  await rm(folder, { recursive: true });
});
