import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import type { ProjectionHost as Host } from '../../../src/projections/host.js';
import { newDelivery, requested, sent, World } from './world.js';

/** As built: a thread gets no TypeScript compiler from vitest. */
let ProjectionHost: typeof Host;
let world: World;

beforeAll(async () => {
  const [build, built] = ['../../../scripts/build.mjs', '../../../dist/projections/host.js'];
  await (await import(build)).buildIfStale();
  ({ ProjectionHost } = await import(built));
  world = await World.create();
});
afterAll(() => world.close());

const hostOn = (logPath: string): Host =>
  new ProjectionHost({
    reader: world.log,
    codec: world.codec,
    postgres: { connectionString: world.server.url },
    log: { path: logPath },
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
  const { id } = await host.rebuild('deliveries');
  for await (const [rebuild] of rebuilds) if (rebuild?.id === id && rebuild.state === 'done') break;
  await expect(host.rebuild('nonsense')).rejects.toMatchObject({ name: 'UnknownProjection' });
  expect((await host.status()).map(({ state }) => state)).toEqual(['running', 'running', 'running', 'running']);
  await host.stop();
});

it('starts the thread again when it dies', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'waybill-later-'));
  const logPath = join(folder, 'log');
  const host = hostOn(logPath);
  host.start();
  // There is no log yet to read.
  await expect.poll(() => host.progress()[0]?.lastError).toContain('the projection thread has died');
  expect(host.progress().map(({ state }) => state)).toEqual(['failing', 'failing', 'failing', 'failing']);
  await expect(host.rebuild('deliveries')).rejects.toThrow('thread');
  const log = EmbeddedLog.open(logPath);
  await host.ready;
  expect(host.progress()[0]?.lastError).toBeUndefined();
  await host.stop();
  await log.close();
  await rm(folder, { recursive: true });
});
