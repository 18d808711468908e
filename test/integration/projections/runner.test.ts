import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { projections } from '../../../src/projections/registry.js';
import { Superseded } from '../../../src/projections/runner/checkpoints.js';
import type { ProjectionRunner } from '../../../src/projections/runner/projection-runner.js';
import { failed, newDelivery, requested, sent, World } from './world.js';

let world: World;

beforeEach(async () => {
  world = await World.create();
});
afterEach(() => world.close());

const [attempts] = projections.filter(({ name }) => name === 'attempts');
const states = (runner: ProjectionRunner) => runner.progress().map(({ state }) => state);
const of = (runner: ProjectionRunner, name: string) => runner.progress().find((one) => one.name === name);

async function recordDeliveries(count: number): Promise<void> {
  const all = Array.from({ length: count }, (_, index) =>
    world.record(newDelivery().stream, requested({}, index), ...failed(1, index + 2), sent(2, index + 9)),
  );
  await Promise.all(all);
}

/** What additive read models say: wrong as soon as one batch was applied twice or not at all. */
async function expectCounted(deliveries: number): Promise<void> {
  const [health] = await world.rows('select * from destination_health');
  expect(health).toMatchObject({ deliveries: String(deliveries * 2), failures: String(deliveries) });
  const [dashboard] = await world.rows('select sum(total) as total, sum(delivered) as delivered from dashboard_hours');
  expect(dashboard).toEqual({ total: String(deliveries), delivered: String(deliveries) });
  expect(await world.rows('select count(*)::integer as n from attempts')).toEqual([{ n: deliveries * 2 }]);
  expect(await world.rows('select count(*)::integer as n from deliveries')).toEqual([{ n: deliveries }]);
}

/** Until a writer of read models waits for a lock. */
async function blockedWriter(): Promise<number> {
  for (;;) {
    const [blocked] = await world.rows(
      `select pid from pg_stat_activity where datname = current_database()
       and application_name like 'waybill-projections/%' and wait_event_type = 'Lock'`,
    );
    if (blocked) return blocked.pid as number;
  }
}

describe('the group', () => {
  it('says that it is running once it has caught up, and goes on with what comes', async () => {
    await recordDeliveries(30);
    const runner = world.runner({ batchEvents: 7 });
    runner.start();
    await world.until(() => states(runner).every((state) => state === 'running'));
    await expectCounted(30);
    await recordDeliveries(5);
    await world.shown(runner);
    await expectCounted(35);
  });

  it('continues where another run has ended', async () => {
    await recordDeliveries(10);
    const first = world.runner();
    first.start();
    await world.shown(first);
    await first.stop();
    await recordDeliveries(10);
    const second = world.runner();
    second.start();
    await world.shown(second);
    await expectCounted(20);
  });

  it('shows positions of streams it does not follow, so that whoever waits for them is served', async () => {
    const runner = world.runner();
    runner.start();
    await world.log.append(`template-${randomUUID()}`, 'no-stream', [
      { id: randomUUID(), type: 'TemplateCreated', data: {}, metadata: {} },
    ]);
    await world.shown(runner);
    expect(runner.progress().map(({ parked }) => parked)).toEqual(projections.map(() => 0));
  });

  it('applies a batch once when its connection is killed in the middle of it', async () => {
    const lock = await world.sql.connect();
    await lock.query('begin; lock table attempts in access exclusive mode');
    const runner = world.runner();
    runner.start();
    await recordDeliveries(20);
    await world.rows('select pg_terminate_backend($1)', [await blockedWriter()]);
    await world.until(() => states(runner).includes('failing'));
    expect(of(runner, 'attempts')?.lastError).toMatch(/terminat|ECONNRESET/);
    await lock.query('commit');
    lock.release();
    await world.shown(runner);
    await world.until(() => states(runner).every((state) => state === 'running'));
    await expectCounted(20);
  });

  it('loses the race for a checkpoint without harm: two instances on one database count once', async () => {
    const runners = [world.runner({ batchEvents: 3 }), world.runner({ batchEvents: 5 })];
    for (const runner of runners) runner.start();
    await recordDeliveries(40);
    for (const runner of runners) await world.shown(runner);
    await expectCounted(40);
  });

  it('stops in time although Postgres hangs, and nothing of the unfinished batch is stored', async () => {
    const lock = await world.sql.connect();
    await lock.query('begin; lock table attempts in access exclusive mode');
    const runner = world.runner();
    runner.start();
    await recordDeliveries(20);
    await blockedWriter();
    await runner.stop();
    await lock.query('commit');
    lock.release();
    const next = world.runner();
    next.start();
    await world.shown(next);
    await expectCounted(20);
  });
});

describe('a runner whose epoch is over', () => {
  it('stores nothing, even where everything is as it left it, and says so', async () => {
    let over = () => {};
    const superseded = new Promise<void>((resolve) => {
      over = resolve;
    });
    const runner = world.runner({}, { superseded: () => over() });
    runner.start();
    await recordDeliveries(5);
    await world.shown(runner);
    await world.rows('update projection_checkpoints set epoch = 1');
    const before = await world.digests();
    await recordDeliveries(5);
    await superseded;
    expect(await world.digests()).toEqual(before);
    await expect(runner.rebuild('attempts')).rejects.toBeInstanceOf(Superseded);
    expect(await world.digests()).toEqual(before);
  });
});

describe('a projection that does not get on', () => {
  it('says so after a while, and begins anew', async () => {
    let subscriptions = 0;
    const reader = new Proxy(world.log, {
      get(log, name) {
        const member = Reflect.get(log, name);
        if (name !== 'subscribe') return typeof member === 'function' ? member.bind(log) : member;
        // The first one is never heard of again.
        const silent = async function* ({ signal }: { signal: AbortSignal }): AsyncGenerator<never> {
          await new Promise((resolve) => signal.addEventListener('abort', resolve));
        };
        return ++subscriptions === 1 ? silent : member.bind(log);
      },
    });
    const runner = world.runner({ reader, stalledAfterMs: 300 });
    runner.start();
    await recordDeliveries(5);
    await world.until(() => states(runner).every((state) => state === 'failing'));
    expect(of(runner, 'deliveries')?.lastError).toMatch(/^no progress for \d+ s: about 20 events are waiting$/);
    await world.until(() => states(runner).every((state) => state === 'running'));
    expect(of(runner, 'deliveries')?.lastError).toBeUndefined();
    await expectCounted(5);
  });

  it('says so also when it is the log that does not answer, and can be stopped all the same', async () => {
    const hangs = async () => await new Promise<never>(() => {});
    const reader = new Proxy(world.log, {
      get: (log, name) => (name === 'head' ? hangs : Reflect.get(log, name).bind(log)),
    });
    const runner = world.runner({ reader, stalledAfterMs: 300 });
    runner.start();
    await world.until(() => states(runner).every((state) => state === 'failing'));
    expect(of(runner, 'deliveries')?.lastError).toContain('the event log does not answer');
    const stoppedAt = performance.now();
    await runner.stop();
    expect(performance.now() - stoppedAt).toBeLessThan(10_000);
  });
});

describe('an event that cannot be understood', () => {
  it('is parked with what follows in its stream, and nothing else', async () => {
    const [poisoned, healthy] = [newDelivery(), newDelivery()];
    const runner = world.runner();
    runner.start();
    await world.record(poisoned.stream, requested());
    await world.recordUnknown(poisoned.stream);
    await world.record(healthy.stream, requested(), sent());
    await world.shown(runner);
    await world.record(poisoned.stream, sent());
    await world.shown(runner);

    expect(runner.progress().map(({ parked }) => parked)).toEqual(
      projections.map(({ prefixes }) => (prefixes.includes('delivery-') ? 2 : 0)),
    );
    const parked = await world.rows(`select stream, type, error from parked_events where projection = 'deliveries'`);
    expect(parked).toEqual([
      { stream: poisoned.stream, type: 'FromTheFuture', error: expect.stringContaining('unknown event type') },
      { stream: poisoned.stream, type: 'AttemptSucceeded', error: expect.anything() },
    ]);
    const rows = await world.rows('select id, status from deliveries');
    expect(rows).toHaveLength(2);
    expect(rows).toContainEqual({ id: poisoned.id, status: 'QUEUED' });
    expect(rows).toContainEqual({ id: healthy.id, status: 'DELIVERED' });
  });

  it('is still counted after a restart', async () => {
    const { stream } = newDelivery();
    await world.recordUnknown(stream);
    const first = world.runner();
    first.start();
    await world.shown(first);
    await first.stop();
    const second = world.runner();
    second.start();
    await world.record(stream, sent());
    await world.shown(second);
    expect(second.progress().map(({ parked }) => parked)).toEqual(
      projections.map(({ prefixes }) => (prefixes.includes('delivery-') ? 2 : 0)),
    );
  });

  it('is parked for one projection alone when it is Postgres that refuses its rows', async () => {
    await world.rows(`alter table attempts add constraint picky check (provider_message_id <> 'message-13')`);
    const subscribe = vi.spyOn(world.log, 'subscribe');
    const runner = world.runner();
    runner.start();
    const { stream } = newDelivery();
    await recordDeliveries(20);
    await world.record(stream, requested(), sent(13));
    await recordDeliveries(20);
    await world.shown(runner);
    expect(runner.progress().map(({ name, parked }) => [name, parked])).toEqual(
      projections.map(({ name }) => [name, name === 'attempts' ? 1 : 0]),
    );
    const [parked] = await world.rows('select type, error from parked_events');
    expect(parked).toEqual({ type: 'AttemptSucceeded', error: expect.stringContaining('picky') });
    expect(await world.rows('select count(*)::integer as n from attempts')).toEqual([{ n: 80 }]);
    expect(states(runner)).toEqual(projections.map(() => 'running'));
    // However few events were tried at once to find it, the log is still read in large steps.
    expect(subscribe.mock.calls.length).toBeGreaterThan(1);
    expect(new Set(subscribe.mock.calls.map(([{ batchSize }]) => batchSize))).toEqual(new Set([2_000]));
  });
});

describe('a projection that lags', () => {
  it('goes through history by itself and joins the others at their position', async () => {
    if (!attempts) throw new Error('there is no such projection');
    await recordDeliveries(25);
    const without = world.runner({ projections: projections.filter((one) => one !== attempts) });
    without.start();
    await world.shown(without);
    await without.stop();

    const runner = world.runner({ batchEvents: 10 });
    runner.start();
    const writing = recordDeliveries(25);
    await world.until(() => of(runner, 'attempts')?.isBehind === false && of(runner, 'attempts')?.state === 'running');
    await writing;
    await world.shown(runner);
    await expectCounted(50);
    const checkpoints = await world.rows('select distinct position from projection_checkpoints');
    expect(checkpoints).toEqual([{ position: String(await world.log.head()) }]);
  });
});

describe('states', () => {
  it('tell that Postgres is away, and why', async () => {
    const postgres = { connectionString: `${world.server.url}`.replace(/\/test_[0-9a-f]+/, '/there_is_no_such_one') };
    const lost = world.runner({ postgres });
    lost.start();
    await world.until(() => states(lost).every((state) => state === 'failing'));
    expect(of(lost, 'deliveries')?.lastError).toContain('there_is_no_such_one');
  });
});
