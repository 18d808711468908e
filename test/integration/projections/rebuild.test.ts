import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { EventReader } from '../../../src/event-store/event-store.js';
import { projections } from '../../../src/projections/registry.js';
import { Connection } from '../../../src/projections/runner/connection.js';
import type { Rebuild } from '../../../src/projections/runner/member.js';
import type { ProjectionRunner } from '../../../src/projections/runner/projection-runner.js';
import { RebuildConflict, UnknownProjection } from '../../../src/projections/runner/rebuild.js';
import { dropExpired } from '../../../src/projections/runner/versions.js';
import { failed, inboxed, newDelivery, requested, sent, suppressed, World } from './world.js';

// All in real databases, which a busy machine makes slow.
vi.setConfig({ testTimeout: 120_000 });

let world: World;

beforeEach(async () => {
  world = await World.create();
});
afterEach(() => world.close());

const of = (runner: ProjectionRunner, name: string) => runner.progress().find((one) => one.name === name);
const isDone = (runner: ProjectionRunner, name: string) => of(runner, name)?.rebuild?.state === 'done';

/** A reader that gives no history, which only rebuilds ask for, until it is opened. */
class Gate implements EventReader {
  open = () => {};
  /** How often history was asked for. */
  reads = 0;
  readonly #opened = new Promise<void>((resolve) => {
    this.open = resolve;
  });

  constructor(private readonly log: EventReader) {}

  async readAll(after: bigint, limit: number) {
    this.reads++;
    await this.#opened;
    return await this.log.readAll(after, limit);
  }

  readStream: EventReader['readStream'] = (...about) => this.log.readStream(...about);
  readLast: EventReader['readLast'] = (...about) => this.log.readLast(...about);
  readAllBackwards: EventReader['readAllBackwards'] = (...about) => this.log.readAllBackwards(...about);
  head: EventReader['head'] = () => this.log.head();
  eventsBetween: EventReader['eventsBetween'] = (...about) => this.log.eventsBetween(...about);
  subscribe: EventReader['subscribe'] = (options) => this.log.subscribe(options);
}

/** Deliveries whose events are mixed in the log, as in life. */
async function recordMixed(count: number): Promise<void> {
  const all = Array.from({ length: count }, newDelivery);
  await Promise.all(all.map(({ stream }, index) => world.record(stream, requested({}, index))));
  await Promise.all(all.map(({ stream }, index) => world.record(stream, ...failed(1, index + 1))));
  await Promise.all(all.map(({ stream }, index) => world.record(stream, sent(2, index + 12))));
}

/** Schemas of versions that are being built or kept. */
const OTHER_VERSIONS = `select nspname from pg_namespace where nspname ~ '^waybill_(building|kept)_'`;

describe('a rebuild', () => {
  it.each(projections.map(({ name }) => name))('of %s gives the same rows, while others are written', async (name) => {
    const runner = world.runner({ batchEvents: 20, cachedViews: 10 });
    runner.start();
    await recordMixed(30);
    await world.shown(runner);
    await world.record(newDelivery().stream, requested());
    const before = await world.digests();

    const writing = Promise.all([
      recordMixed(10),
      world.record(`suppression-${randomUUID()}`, suppressed()),
      world.record(`inbox-${randomUUID()}`, inboxed()),
    ]);
    const rebuild = await runner.rebuild(name);
    expect(rebuild).toMatchObject({ name, state: 'running', processed: 0, finishedAt: null });
    await writing;
    await world.until(() => isDone(runner, name));
    await world.shown(runner);
    const rebuilt = await world.digests();
    expect(rebuilt[name]?.sha256).not.toBe(before[name]?.sha256);

    // Once more, with nobody writing: whatever the first one had missed or applied twice would differ now.
    const again = await runner.rebuild(name);
    await world.until(() => of(runner, name)?.rebuild?.id === again.id && isDone(runner, name));
    await world.shown(runner);
    expect(await world.digests()).toEqual(rebuilt);
    expect(of(runner, name)?.state).toBe('running');
  });

  it('gives what live projections have, for all of them', async () => {
    const runner = world.runner({ batchEvents: 13, cachedViews: 5 });
    runner.start();
    await recordMixed(25);
    await world.shown(runner);
    const live = await world.digests();
    for (const { name } of projections) await runner.rebuild(name);
    await world.until(() => projections.every(({ name }) => isDone(runner, name)));
    expect(await world.digests()).toEqual(live);
  });

  it('of all of them reads the log once, and is not held up by one that is cancelled or has a poisoned row', async () => {
    await recordMixed(20);
    await world.record(newDelivery().stream, requested(), sent(13));
    await recordMixed(20);
    const gate = new Gate(world.log);
    const runner = world.runner({ reader: gate, batchEvents: 20, cachedViews: 10 });
    runner.start();
    await world.shown(runner);
    const live = await world.digests();
    const others = projections.map(({ name }) => name).filter((name) => name !== 'legs');
    const begun = await runner.rebuildAll();
    expect(begun.map(({ name, state }) => [name, state])).toEqual(
      [...others, 'legs'].sort().map((name) => [name, 'running']),
    );
    await expect(runner.rebuildAll(['inbox', 'inbox'])).rejects.toBeInstanceOf(RebuildConflict);
    await expect(runner.rebuildAll(['nonsense'])).rejects.toBeInstanceOf(UnknownProjection);
    await world.rows(`alter table waybill_building_attempts.attempts
      add constraint picky check (provider_message_id <> 'message-13')`);
    // All wait for the same read of history.
    await expect.poll(() => gate.reads, { timeout: 60_000 }).toBe(1);
    expect(await runner.cancelRebuild('legs')).toMatchObject({ state: 'cancelled' });
    gate.open();
    await world.until(() => others.every((name) => isDone(runner, name)));
    expect(of(runner, 'attempts')?.parked).toBe(1);
    expect(gate.reads).toBeGreaterThan(8);
    const { attempts: _, ...rest } = await world.digests();
    const { attempts: __, ...before } = live;
    expect(rest).toEqual(before);
    for (const name of others)
      expect(of(runner, name)?.rebuild?.comparison).toBe(name === 'attempts' ? 'different' : 'equal');
    expect(await world.rows(OTHER_VERSIONS)).toHaveLength(others.length);
  });

  it('of all of them goes on after a restart, together', async () => {
    await recordMixed(40);
    const first = world.runner({ batchEvents: 10 });
    first.start();
    await world.shown(first);
    const live = await world.digests();
    // At 40 a second it is somewhere on the way when it is stopped.
    const begun = await first.rebuildAll(undefined, { eventsPerSecond: 40 });
    const positions = () =>
      world.rows(`select distinct position from projection_checkpoints where name like '%@building'`);
    await world.until(() => begun.every(({ name }) => (of(first, name)?.rebuild?.processed ?? 0) > 0));
    await first.stop();
    expect(await positions()).toHaveLength(1);
    expect(await positions()).not.toEqual([{ position: '0' }]);

    const second = world.runner();
    second.start();
    await world.until(() => projections.every(({ name }) => isDone(second, name)));
    for (const { name, id } of begun) expect(of(second, name)?.rebuild).toMatchObject({ id, comparison: 'equal' });
    expect(await world.digests()).toEqual(live);
  });

  it('is told of as it gets on, and leaves a row that says when it was finished', async () => {
    const told: Rebuild[] = [];
    const runner = world.runner({}, { rebuild: (rebuild) => told.push(rebuild) });
    runner.start();
    await recordMixed(10);
    await world.shown(runner);
    await runner.rebuild('dashboard');
    await world.until(() => isDone(runner, 'dashboard'));
    expect(told.at(0)).toMatchObject({ state: 'running', processed: 0, total: 40 });
    expect(told.at(-1)).toMatchObject({ state: 'done', processed: 40, total: 40 });
    const [row] = await world.rows(
      'select state, processed, finished_at is not null as finished from projection_rebuilds',
    );
    expect(row).toEqual({ state: 'done', processed: '40', finished: true });
  });

  it('of one projection leaves the others at work', async () => {
    const gate = new Gate(world.log);
    const runner = world.runner({ reader: gate });
    runner.start();
    await recordMixed(10);
    await world.shown(runner);
    await runner.rebuild('dashboard');
    const position = await world.record(newDelivery().stream, requested());
    await world.until(() => (of(runner, 'deliveries')?.position ?? 0n) >= position);
    await world.until(() => (of(runner, 'dashboard')?.position ?? 0n) >= position);
    expect(of(runner, 'dashboard')).toMatchObject({ state: 'rebuilding', isBehind: false });
    expect(of(runner, 'deliveries')).toMatchObject({ state: 'running', isBehind: false });
    gate.open();
    await world.until(() => isDone(runner, 'dashboard'));
  });

  it('goes on after a restart', async () => {
    await recordMixed(30);
    const gate = new Gate(world.log);
    const first = world.runner({ reader: gate, batchEvents: 10 });
    first.start();
    await world.shown(first);
    const live = await world.digests();
    const begun = await first.rebuild('deliveries');
    const stopped = first.stop();
    gate.open();
    await stopped;
    expect(of(first, 'deliveries')?.rebuild?.state).toBe('running');

    const second = world.runner();
    second.start();
    await world.until(() => isDone(second, 'deliveries'));
    expect(of(second, 'deliveries')?.rebuild?.id).toBe(begun.id);
    expect(await world.digests()).toEqual(live);
  });

  it('takes parked events up again', async () => {
    const runner = world.runner();
    runner.start();
    const { stream } = newDelivery();
    await world.rows(`alter table attempts add constraint picky check (provider_message_id <> 'message-13')`);
    await world.record(stream, requested(), sent(13));
    await world.shown(runner);
    expect(of(runner, 'attempts')?.parked).toBe(1);
    await world.rows('alter table attempts drop constraint picky');
    await runner.rebuild('attempts');
    await world.until(() => isDone(runner, 'attempts'));
    expect(of(runner, 'attempts')?.parked).toBe(0);
    expect(await world.rows('select status from attempts')).toEqual([{ status: 'SUCCEEDED' }]);
  });

  it('is refused while another one is going on, and for what does not exist', async () => {
    const runner = world.runner();
    runner.start();
    await recordMixed(5);
    await world.shown(runner);
    const both = await Promise.allSettled([runner.rebuild('deliveries'), runner.rebuild('deliveries')]);
    expect(both.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    expect(both[1]).toMatchObject({ reason: expect.any(RebuildConflict) });
    await expect(runner.rebuild('nonsense')).rejects.toBeInstanceOf(UnknownProjection);
    await world.until(() => isDone(runner, 'deliveries'));
  });
});

/** How many rows the deliveries read model shows, again and again until it is told to end; the fewest it ever did. */
function watchRows(): () => Promise<number> {
  let [fewest, isOver] = [Number.POSITIVE_INFINITY, false];
  const watching = (async () => {
    while (!isOver) {
      const [row] = await world.rows('select count(*)::integer as n from deliveries');
      fewest = Math.min(fewest, row?.n as number);
    }
  })();
  watching.catch(() => {});
  return async () => {
    isOver = true;
    await watching;
    return fewest;
  };
}

describe('the version that is asked meanwhile', () => {
  it('is whole at every moment, and is the new one afterwards, with its indexes and the views on it', async () => {
    const runner = world.runner({ batchEvents: 10 });
    runner.start();
    await recordMixed(25);
    await world.shown(runner);
    await world.rows('create view known_deliveries with (security_barrier) as select id from deliveries');
    const definitions = () =>
      world.rows(`select indexdef from pg_indexes where schemaname = 'public' and tablename = 'deliveries' order by 1`);
    const table = () =>
      world.rows(`select reloptions, relrowsecurity, relacl from pg_class where oid = to_regclass('deliveries')`);
    await world.rows(`
      grant select on deliveries to public;
      alter table deliveries enable row level security;
      create policy own on deliveries for select using (organization_id = current_setting('who', true))`);
    const before = [await definitions(), await table()];
    const end = watchRows();
    const { id } = await runner.rebuild('deliveries');
    await world.until(() => of(runner, 'deliveries')?.rebuild?.id === id && isDone(runner, 'deliveries'));
    expect(await end()).toBe(25);
    expect([await definitions(), await table()]).toEqual(before);
    const policies = await world.rows(
      `select polname from pg_policy where polrelid = 'deliveries'::regclass order by polname`,
    );
    expect(policies).toEqual([{ polname: 'own' }, { polname: 'tenant' }]);
    expect(of(runner, 'deliveries')?.rebuild?.comparison).toBe('equal');

    await world.record(newDelivery().stream, requested());
    await world.shown(runner);
    expect(await world.rows('select count(*)::integer as n from known_deliveries')).toEqual([{ n: 26 }]);
    expect(await world.rows(`select reloptions from pg_class where relname = 'known_deliveries'`)).toEqual([
      { reloptions: ['security_barrier=true'] },
    ]);
  });

  it('is mended when its rows are not what the log says, which is told', async () => {
    const runner = world.runner();
    runner.start();
    await recordMixed(10);
    await world.shown(runner);
    const live = await world.digests();
    await world.rows(`update attempts set warning = 'somebody was here' where number = 1`);
    await runner.rebuild('attempts', { kind: 'verify' });
    await world.until(() => isDone(runner, 'attempts'));
    expect(of(runner, 'attempts')?.rebuild).toMatchObject({ kind: 'verify', comparison: 'different' });
    expect((await world.digests()).attempts).not.toEqual(live.attempts);
    expect(await world.rows(OTHER_VERSIONS)).toEqual([]);

    const { id } = await runner.rebuild('attempts');
    await world.until(() => of(runner, 'attempts')?.rebuild?.id === id && isDone(runner, 'attempts'));
    expect(of(runner, 'attempts')?.rebuild?.comparison).toBe('different');
    expect(await world.digests()).toEqual(live);
  });

  it('can be gone back to after the switch, as up to date as the one that had replaced it', async () => {
    const runner = world.runner({ batchEvents: 10 });
    runner.start();
    await recordMixed(10);
    await world.shown(runner);
    await expect(runner.rebuild('deliveries', { kind: 'rollback' })).rejects.toThrow('no earlier version');
    await runner.rebuild('deliveries');
    await world.until(() => isDone(runner, 'deliveries'));
    await world.rows(`update deliveries set tags = '{new}'`);
    await recordMixed(10);
    await world.shown(runner);
    for (const tagged of [0, 10]) {
      const end = watchRows();
      const { id } = await runner.rebuild('deliveries', { kind: 'rollback' });
      await world.until(() => of(runner, 'deliveries')?.rebuild?.id === id && isDone(runner, 'deliveries'));
      expect(await end()).toBe(20);
      expect(await world.rows(`select count(*)::integer as n from deliveries where tags = '{new}'`)).toEqual([
        { n: tagged },
      ]);
    }
  });

  it('stays when the rebuild is cancelled, and nothing else does', async () => {
    const gate = new Gate(world.log);
    const runner = world.runner({ reader: gate });
    runner.start();
    await recordMixed(10);
    await world.shown(runner);
    const live = await world.digests();
    await expect(runner.cancelRebuild('attempts')).rejects.toBeInstanceOf(RebuildConflict);
    await runner.rebuild('attempts');
    gate.open();
    expect(await runner.cancelRebuild('attempts')).toMatchObject({ state: 'cancelled' });
    expect(of(runner, 'attempts')).toMatchObject({ state: 'running', rebuild: { state: 'cancelled' } });
    expect(await world.digests()).toEqual(live);
    expect(await world.rows(OTHER_VERSIONS)).toEqual([]);
    expect(await world.rows(`select name from projection_checkpoints where name like '%@%'`)).toEqual([]);
  });

  it('goes on while somebody reads for long, and is exchanged when nobody does', async () => {
    const runner = world.runner();
    runner.start();
    await recordMixed(5);
    await world.shown(runner);
    const reader = await world.sql.connect();
    await reader.query('begin; select count(*) from attempts');
    await runner.rebuild('attempts');
    await world.until(() => of(runner, 'attempts')?.rebuild?.reason === 'waits for a query that takes long');
    await recordMixed(5);
    await world.shown(runner);
    await reader.query('commit');
    reader.release();
    await world.until(() => isDone(runner, 'attempts'));
    expect(await world.rows('select count(*)::integer as n from attempts')).toEqual([{ n: 20 }]);
  });
});

describe('a replaced version', () => {
  it('is dropped when it was kept long enough', async () => {
    const host = world.host({ keepReplacedMs: 0, leaseMs: 400 });
    await host.ready;
    await recordMixed(5);
    await host.waitFor(await world.log.head(), 60_000);
    const kept = () => world.rows(`select name from projection_kept`);
    await host.orders.rebuild('attempts');
    await expect
      .poll(() => host.progress().find(({ name }) => name === 'attempts')?.rebuild?.state, { timeout: 60_000 })
      .toBe('done');
    expect(await kept()).toEqual([{ name: 'attempts' }]);
    const connection = await Connection.open({ connectionString: world.server.url }, () => {});
    expect(await dropExpired(connection)).toEqual(['attempts']);
    await connection.close();
    expect(await world.rows(OTHER_VERSIONS)).toEqual([]);
  });
});

describe('a program whose projection has a newer version', () => {
  it('rebuilds it at its start', async () => {
    const first = world.runner();
    first.start();
    await recordMixed(10);
    await world.shown(first);
    await first.stop();
    const live = await world.digests();
    const newer = projections.map((one) => (one.name === 'dashboard' ? { ...one, version: 2 } : one));
    const second = world.runner({ projections: newer });
    second.start();
    await world.until(() => isDone(second, 'dashboard'));
    expect(await world.digests()).toEqual(live);

    const older = world.runner();
    older.start();
    await world.until(() => of(older, 'dashboard')?.state === 'failing');
    expect(of(older, 'dashboard')?.lastError).toContain('newer version');
  });
});
