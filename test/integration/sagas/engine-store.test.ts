import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openDatabase } from '../../../src/platform/database.js';
import { type Claim, EngineStore, type OpenDelivery } from '../../../src/sagas/engine-store.js';
import { Leases } from '../../../src/sagas/leases.js';
import { type TestDatabase, testDatabase } from '../../support/postgres.js';

let server: TestDatabase;
let pool: pg.Pool;
let one: EngineStore;
let other: EngineStore;

beforeEach(async () => {
  server = await testDatabase();
  await (await openDatabase({ connection: { connectionString: server.url }, entities: [] })).destroy();
  pool = new pg.Pool({ connectionString: server.url });
  one = new EngineStore(pool, 'one');
  other = new EngineStore(pool, 'other');
});
afterEach(async () => {
  await pool.end();
  await server.close();
});

const partitionsOf = (claims: readonly Claim[]) => claims.map(({ partition }) => partition).sort((a, b) => a - b);
const ALL = Array.from({ length: 16 }, (_, partition) => partition);
const heldBy = (claims: readonly Claim[], position = 5n) =>
  claims.map(({ partition, epoch }) => ({ partition, epoch, position }));
const letLeasesExpire = () => pool.query(`UPDATE engine_partitions SET expires_at = now() - interval '1 s'`);
const stored = async () =>
  (await pool.query('SELECT delivery_id FROM engine_deliveries WHERE due_at IS NOT NULL')).rows;

const idIn = (partition: number): string => partition.toString(16) + randomUUID().slice(1);
const open = (dueMs: number, about: Partial<OpenDelivery> = {}): OpenDelivery => ({
  id: randomUUID(),
  priority: 'NORMAL',
  dueAt: new Date(dueMs),
  awaits: [],
  ...about,
});

describe('leases', () => {
  it('are one instance’s each, until they end or are given back', async () => {
    const claims = await one.claim(10, [], false);
    expect(partitionsOf(claims)).toEqual(ALL.slice(0, 10));
    const others = await other.claim(16, [], false);
    expect(partitionsOf(others)).toEqual(ALL.slice(10));
    expect(await one.claim(16, partitionsOf(claims), false)).toEqual([]);
    await one.release([3]);
    expect(await other.claim(16, partitionsOf(others), false)).toMatchObject([{ partition: 3, epoch: 2n }]);
  });

  it('that another instance has taken are told, and nothing is stored', async () => {
    const claims = await one.claim(16, [], false);
    expect(await one.save({ held: heldBy(claims), open: [open(1)], closed: [] })).toEqual([]);
    expect(await stored()).toHaveLength(1);
    await letLeasesExpire();
    const taken = await other.claim(2, [], false);
    expect(taken).toMatchObject([
      { epoch: 2n, position: 5n },
      { epoch: 2n, position: 5n },
    ]);
    const lost = await one.save({ held: heldBy(claims, 9n), open: [open(2)], closed: [] });
    expect(lost.sort((a, b) => a - b)).toEqual(partitionsOf(taken));
    expect(await stored()).toHaveLength(1);
    // The other fourteen were nobody's meanwhile, and are its own still.
    const left = claims.filter(({ partition }) => !lost.includes(partition));
    expect(await one.save({ held: heldBy(left, 9n), open: [open(2)], closed: [] })).toEqual([]);
  });

  it('come back at once to the instance that had them, and to one that is proved to be alone', async () => {
    await one.claim(16, [], false);
    expect(await new EngineStore(pool, 'one').claim(16, [], false)).toHaveLength(16);
    expect(await other.claim(16, [], false)).toEqual([]);
    expect(await other.claim(16, [], true)).toHaveLength(16);
  });

  it('stay with the newest run of an instance, however late a claim of the run before arrives', async () => {
    await one.claim(4, [], false);
    const restarted = new EngineStore(pool, 'one');
    const claims = await restarted.claim(16, [], false);
    expect(claims).toHaveLength(16);
    expect(await one.claim(16, [], false)).toEqual([]);
    expect(await one.claim(16, [], true)).toEqual([]);
    expect(await restarted.save({ held: heldBy(claims, 1n), open: [], closed: [] })).toEqual([]);
    // An answer that was lost takes nothing from the run itself.
    expect(await restarted.claim(16, [], false)).toHaveLength(16);
  });

  it('are shared evenly by those who are alive', async () => {
    const [first, second, third] = [one, other, new EngineStore(pool, 'third')].map((s) => new Leases(s, false));
    if (!first || !second || !third) throw new Error('three');
    expect(await first.claim()).toHaveLength(16);
    expect(await second.claim()).toEqual([]);
    await first.claim();
    const surplus = first.leaveSurplus();
    expect(surplus).toHaveLength(8);
    expect(ALL.filter((partition) => first.isOpen(partition))).toHaveLength(8);
    first.drop(surplus);
    await one.release(surplus);
    expect(await second.claim()).toHaveLength(8);
    await third.claim();
    for (const [leases, store] of [
      [first, one],
      [second, other],
    ] as const) {
      await leases.claim();
      const given = leases.leaveSurplus();
      leases.drop(given);
      await store.release(given);
    }
    await third.claim();
    const held = [first, second, third].map(({ partitions }) => partitions.length);
    expect(held.reduce((sum, each) => sum + each)).toBe(16);
    expect(Math.max(...held)).toBeLessThanOrEqual(6);
    await new EngineStore(pool, 'third').leave();
    expect(await one.census()).toBe(2);
  });

  it('are over for their owner before they are over for others, whatever the database does', async () => {
    const leases = new Leases(one, false);
    const claims = await leases.claim();
    expect(leases.isValid(0)).toBe(true);
    // One that was not part of a renewal is no longer valid for it.
    leases.renewed(claims, performance.now() - 8_001);
    leases.renewed(
      claims.filter(({ partition }) => partition !== 0),
      performance.now(),
    );
    expect([leases.isValid(0), leases.has(0)]).toEqual([false, true]);
    const alone = new Leases(other, true);
    alone.renewed(await alone.claim(), performance.now() - 60_000);
    expect(alone.isValid(0)).toBe(true);
  });

  it('follow the database’s clock', async () => {
    const clock = async () =>
      (await pool.query('SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS now')).rows[0].now;
    const before = await clock();
    const nowMs = await one.nowMs();
    expect(nowMs).toBeGreaterThan(before - 1);
    expect(nowMs).toBeLessThan((await clock()) + 1);
  });
});

describe('the table of open deliveries', () => {
  it('emptied by somebody is noticed, and its partitions begin again', async () => {
    const claims = await one.claim(16, [], false);
    await one.save({ held: heldBy(claims, 7n), open: [open(1)], closed: [] });
    expect(await one.isWhole(ALL)).toBe(true);
    await pool.query('TRUNCATE engine_deliveries');
    expect(await one.isWhole(ALL)).toBe(false);
    // What is stored from now on is not all there is; it would outlive what it is about.
    const later = ALL.map((partition) => open(1, { id: idIn(partition) }));
    await one.save({ held: heldBy(claims, 8n), open: later, closed: [] });
    expect(await stored()).toHaveLength(16);
    // Whoever takes them next …
    expect((await new EngineStore(pool, 'one').claim(8, [], false)).map(({ position }) => position)).toEqual(
      Array(8).fill(0n),
    );
    // … and whoever has them.
    const rest = claims.slice(8);
    await one.restart(heldBy(rest));
    expect(await one.isWhole(ALL)).toBe(true);
    const { rows } = await pool.query('SELECT DISTINCT position::integer FROM engine_partitions');
    expect(rows).toEqual([{ position: 0 }]);
    expect(await stored()).toEqual([]);
  });

  it('gives what is overdue by priority, then by time, page after page', async () => {
    const claims = await one.claim(16, [], false);
    const rows = [
      open(3_000, { priority: 'LOW' }),
      open(2_000),
      open(1_000),
      open(9_000, { priority: 'URGENT' }),
      open(4_000, { priority: 'HIGH' }),
      open(60_000, { priority: 'URGENT' }),
    ];
    await one.save({ held: heldBy(claims), open: rows, closed: [] });
    const until = new Date(10_000);
    const first = await one.due(ALL, until, undefined, 2);
    const second = await one.due(ALL, until, first.next, 2);
    const third = await one.due(ALL, until, second.next, 2);
    const ids = [...first.ids, ...second.ids, ...third.ids];
    expect(ids.map((id) => rows.findIndex((row) => row.id === id))).toEqual([3, 4, 2, 1, 0]);
    expect(third.next).toBeUndefined();
    expect((await one.due([], until, undefined, 2)).ids).toEqual([]);
  });

  it('gives what comes due in order, never half of those due at the same time', async () => {
    const claims = await one.claim(16, [], false);
    const rows = [open(1_000), open(2_000), open(2_000), open(2_000), open(3_000)];
    await one.save({ held: heldBy(claims), open: rows, closed: [] });
    const page = await one.upcoming(ALL, new Date(1_000), new Date(10_000), 2);
    expect(page.ids).toHaveLength(3);
    expect(page.reached).toEqual(new Date(2_000));
    const next = await one.upcoming(ALL, page.reached, new Date(10_000), 2);
    expect(next).toEqual({ ids: [rows[4]?.id], reached: new Date(10_000) });
  });

  it('knows who waits for whom elsewhere', async () => {
    const claims = await one.claim(16, [], false);
    const [wanted, unwanted] = [randomUUID(), randomUUID()];
    const here = open(1, { id: idIn(3), awaits: [wanted] });
    const there = open(1, { id: idIn(4), awaits: [unwanted, wanted] });
    await one.save({ held: heldBy(claims), open: [here, there], closed: [] });
    expect(await one.waitersElsewhere([wanted], [3])).toEqual([{ waiter: there.id, dependency: wanted }]);
    expect(await one.waiting([3])).toEqual([here.id]);
    await one.save({ held: heldBy(claims), open: [], closed: [there.id] });
    expect(await one.waitersElsewhere([wanted], [3])).toEqual([]);
  });
});
