import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ProjectionHost } from '../../../src/projections/runner/host.js';
import { Latest } from '../../../src/projections/runner/latest.js';
import { newDelivery, ORGANIZATION, requested, sent, World } from './world.js';

let world: World;
let host: ProjectionHost;

beforeEach(async () => {
  world = await World.create();
  const postgres = { connectionString: world.server.url };
  host = new ProjectionHost({ reader: world.log, codec: world.codec, postgres });
});
afterEach(async () => {
  await host.stop();
  await world.close();
});

it('lets whoever waits for a position go on when it is visible', async () => {
  const position = await world.record(newDelivery().stream, requested());
  const waiting = Promise.all(Array.from({ length: 1_000 }, () => host.waitFor(position, 20_000)));
  host.start();
  expect(new Set(await waiting)).toEqual(new Set([true]));
  expect(host.position()).toBe(position);
  expect(host.position('dashboard')).toBe(position);
  expect(await host.waitFor(position, 0)).toBe(true);
});

it('says so when a position is not visible in time, or nobody wants to wait any longer', async () => {
  host.start();
  await host.ready;
  expect(await host.waitFor(1n, 1)).toBe(false);
  const giveUp = new AbortController();
  const waiting = host.waitFor(1n, 20_000, giveUp.signal);
  giveUp.abort();
  expect(await waiting).toBe(false);
  const until = host.waitFor(1n, 20_000);
  await host.stop();
  expect(await until).toBe(false);
});

it('tells how far each projection is behind the log', async () => {
  await world.record(newDelivery().stream, requested(), sent());
  const [before] = await host.status();
  expect(before).toMatchObject({
    name: 'deliveries',
    version: 1,
    state: 'catching-up',
    position: 0n,
    head: 2n,
    lagEvents: 2,
  });
  expect(before?.lagSeconds).toBeGreaterThanOrEqual(0);
  host.start();
  await host.waitFor(2n, 20_000);
  for (const status of await host.status())
    expect(status).toMatchObject({ position: 2n, head: 2n, lagEvents: 0, lagSeconds: 0, parked: 0 });
});

it('tells which deliveries have changed, to those who want to know', async () => {
  host.start();
  await host.ready;
  const wanted = newDelivery();
  const changes = host.changes(({ id }) => id === wanted.id);
  await world.record(newDelivery().stream, requested());
  await world.record(wanted.stream, requested());
  expect((await changes.next()).value).toEqual([{ id: wanted.id, organizationId: ORGANIZATION }]);
  const rest = changes.next();
  await changes.return?.();
  expect(await rest).toMatchObject({ done: true });
});

it('tells how a rebuild gets on', async () => {
  host.start();
  await host.waitFor(await world.record(newDelivery().stream, requested()), 20_000);
  const progress = host.rebuilds();
  const { id } = await host.orders.rebuild('attempts');
  for await (const [rebuild] of progress) {
    expect(rebuild?.id).toBe(id);
    if (rebuild?.state === 'done') break;
  }
});

it('makes nobody wait for a projection that is being rebuilt', async () => {
  host.start();
  await host.waitFor(await world.record(newDelivery().stream, requested()), 20_000);
  await host.orders.rebuild('dashboard');
  const position = await world.record(newDelivery().stream, requested());
  expect(await host.waitFor(position, 20_000)).toBe(true);
});

it('keeps only the newest of each key for a slow consumer, and ends one that is too slow', async () => {
  const queue = new Latest<number>(() => {});
  queue.push('a', 1);
  queue.push('b', 2);
  queue.push('a', 3);
  expect((await queue.next()).value).toEqual([3, 2]);
  let isClosed = false;
  const slow = new Latest<number>(() => {
    isClosed = true;
  });
  for (let index = 0; index <= 10_000; index++) slow.push(randomUUID(), index);
  expect(isClosed).toBe(true);
  await expect(slow.next()).rejects.toThrow('too many changes');
});
