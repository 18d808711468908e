import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { projections } from '../../../src/projections/registry.js';
import { type InstanceProcess, startInstance } from './instance-process.js';
import { failed, newDelivery, requested, sent, World } from './world.js';

/**
 * FAULTS.md: kill -9 mid-projection batch; SIGSTOP of the owner, then SIGCONT. With real processes that share a log and
 * a Postgres: each event is applied once, and whoever was stopped stores nothing any more.
 */
const TAKE_OVER = { timeout: 15_000, interval: 20 };

let world: World;
let instances: Map<string, InstanceProcess>;
let recorded: string[];

beforeEach(async () => {
  world = await World.create();
  instances = new Map();
  recorded = [];
});
afterEach(async () => {
  await Promise.all([...instances.values()].map((instance) => instance.kill()));
  await world.close();
});

async function start(owner: string, leaseMs?: number): Promise<void> {
  const settings = { logPath: world.logPath, url: world.server.url, owner, leaseMs: leaseMs ?? 8_000 };
  instances.set(owner, await startInstance(settings));
}

const writer = async (): Promise<InstanceProcess> => {
  const [row] = await world.rows('select owner from projection_writer');
  return instances.get(row?.owner as string) as InstanceProcess;
};

const epoch = async (): Promise<number> => {
  const [row] = await world.rows('select epoch::integer from projection_writer');
  return row?.epoch as number;
};

/** Until the rows move on again by the hands of another one. */
async function takenOver({ owner }: InstanceProcess): Promise<void> {
  await expect.poll(async () => (await writer()).owner, TAKE_OVER).not.toBe(owner);
  const position = async () =>
    BigInt((await world.rows('select min(position) from projection_checkpoints'))[0]?.min as string);
  const head = await world.log.head();
  await expect.poll(async () => (await position()) >= head, TAKE_OVER).toBe(true);
}

/** Records without a pause, so that there is always a batch under way. */
function recording(): () => Promise<void> {
  const over = new AbortController();
  const written = (async () => {
    while (!over.signal.aborted) {
      const deliveries = Array.from({ length: 10 }, newDelivery);
      await Promise.all(deliveries.map(({ stream }) => world.record(stream, requested(), ...failed(), sent(2, 13))));
      recorded.push(...deliveries.map(({ id }) => id));
      await delay(20);
    }
  })();
  return () => {
    over.abort();
    return written;
  };
}

/** Nothing lost, nothing doubled: the rows are those that a rebuild makes. */
async function expectWhole(): Promise<void> {
  const head = await world.log.head();
  await Promise.all([...instances.values()].map((instance) => instance.reached(head)));
  const live = await world.digests();
  await Promise.all([...instances.values()].map((instance) => instance.stop()));
  const [health] = await world.rows('select deliveries::integer, failures::integer from destination_health');
  expect(health).toEqual({ deliveries: recorded.length * 2, failures: recorded.length });

  const host = world.host();
  await host.ready;
  for (const { name } of projections) await host.orders.rebuild(name);
  const isDone = () => host.progress().every(({ rebuild }) => rebuild?.state === 'done');
  await expect.poll(isDone, TAKE_OVER).toBe(true);
  expect(await world.digests()).toEqual(live);
}

it('kill -9 of whoever writes, again and again', { timeout: 90_000 }, async () => {
  await Promise.all(['a', 'b', 'c'].map((owner) => start(owner)));
  const stop = recording();
  for (let round = 0; round < 3; round++) {
    // Not a wait for anything: it is to happen at any moment.
    await delay(Math.random() * 500);
    const victim = await writer();
    await victim.kill();
    await takenOver(victim);
    await start(victim.owner);
  }
  await stop();
  await expectWhole();
});

it('whoever is stopped in its tracks finds itself replaced, and stores nothing any more', {
  timeout: 90_000,
}, async () => {
  await world.rows('create table moves (number serial, pid integer default pg_backend_pid())');
  await world.rows(`create function moved() returns trigger language plpgsql as
    $$ begin insert into moves default values; return new; end $$`);
  await world.rows(`create trigger moved after update on projection_checkpoints
    for each row when (old.position <> new.position) execute function moved()`);
  await Promise.all(['a', 'b'].map((owner) => start(owner, 1_500)));
  const stop = recording();
  for (let round = 0; round < 3; round++) {
    // Not a wait for anything: it is to happen at any moment.
    await delay(Math.random() * 500);
    const victim = await writer();
    const before = await epoch();
    victim.signal('SIGSTOP');
    await takenOver(victim);
    victim.signal('SIGCONT');
    // It goes on with what it was about to do, and then learns how things are.
    await victim.reached(await world.log.head());
    expect(await epoch()).toBeGreaterThan(before);
  }
  await stop();
  // Each has told of each, in whichever role it was.
  for (const { changed } of instances.values()) await expect.poll(() => changed.size, TAKE_OVER).toBe(recorded.length);
  // Whoever has moved a checkpoint does so no more once another one has.
  const moves = (await world.rows('select pid from moves order by number')).map(({ pid }) => pid);
  const turns = moves.filter((pid, index) => pid !== moves[index - 1]);
  expect(turns.length).toBeGreaterThan(2);
  expect(turns).toEqual([...new Set(turns)]);
  await expectWhole();
});
