import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { databaseOf, digestsIn } from '../support/digests.js';
import { expectSameAfterRebuild } from '../support/fault-audit.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';
import { type TestDatabase, testDatabase } from '../support/postgres.js';
import { Asking, Recording } from '../support/read-models-asked.js';
import { postgresPid, removeDataDir, startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * FAULTS.md, "rebuild under live writes; killed in each state; cancelled; two at once; switched then rolled back" and
 * "Postgres restarts": while deliveries go on and somebody asks all the time, who must see the same answer every time.
 *
 * The process is killed where it waits for a lock that the test holds: so it is known in which phase that was.
 * The long form (`npm run test:fault`) has more deliveries, and kills at random moments besides.
 */
const isLong = process.env.FAULT_LONG === '1';
const SETTLED = isLong ? 20_000 : 400;
const KILLS = 40;
const POLL = { timeout: 60_000, interval: 10 };

let receiver: WebhookReceiver;
let database: TestDatabase | undefined;
let sql: pg.Pool | undefined;
let dataDir: string;
let waybill: WaybillProcess;
let asking: Asking;
let recording: Recording;
let env: NodeJS.ProcessEnv;

beforeEach(async () => {
  receiver = await startWebhookReceiver({ record: false });
  dataDir = await mkdtemp(join(tmpdir(), 'waybill-rebuild-'));
  env = {};
});
afterEach(async () => {
  await recording?.stop();
  await asking?.stop();
  await waybill?.kill();
  await sql?.end();
  sql = undefined;
  await removeDataDir(dataDir);
  await database?.close();
  database = undefined;
  await receiver.close();
});

const start = async () => {
  waybill = await startWaybill({ dataDir, env });
};
const connection = async (): Promise<pg.ClientConfig> =>
  database ? { connectionString: database.url } : await databaseOf({ dataDir });

/** Deliveries that have ended, which somebody asks for all the time, and new ones all the time. */
async function setOut(): Promise<void> {
  await start();
  asking = await Asking.begin(() => waybill, receiver.url, SETTLED);
  recording = new Recording(() => waybill, receiver.url);
}

interface Rebuild {
  readonly id: string;
  readonly kind: string;
  readonly state: string;
  readonly phase: string;
  readonly comparison: string | null;
  readonly reason: string | null;
}

async function rows<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
  if (!sql) {
    sql = new pg.Pool({ ...(await connection()), max: 1 });
    sql.on('error', () => undefined);
  }
  return (await sql.query<Row>(text, values)).rows;
}

const newest = async (name: string): Promise<Rebuild> =>
  (
    await rows<Rebuild>('select * from projection_rebuilds where name = $1 order by started_at desc limit 1', [name])
  )[0] as Rebuild;
const position = async (key: string): Promise<bigint> =>
  BigInt((await rows('select position from projection_checkpoints where name = $1', [key]))[0]?.position ?? -1);
const order = (mutation: string, name: string, more = '') =>
  waybill.graphql<Record<string, Rebuild>>(`mutation { ${mutation}(name: "${name}"${more}) { id state } }`);
/** One that takes a second or two to get to where the live version is. @returns its id */
async function slowRebuild(): Promise<string> {
  const { data } = await order('rebuildProjection', NAME, `, eventsPerSecond: ${SETTLED}`);
  if (!data?.rebuildProjection) throw new Error('no rebuild has begun');
  return data.rebuildProjection.id;
}
const until = (name: string, expected: object, timeout = 60_000) =>
  expect.poll(() => newest(name), { timeout, interval: 50 }).toMatchObject(expected);

/** Locks that somebody holds besides Waybill. */
interface Held {
  readonly pid: number;
  readonly letGo: () => Promise<void>;
}

async function hold(...statements: string[]): Promise<Held> {
  const holder = new pg.Client(await connection());
  await holder.connect();
  const { rows: own } = await holder.query<{ pid: number }>('select pg_backend_pid() as pid');
  await holder.query('begin');
  for (const statement of statements) await holder.query(statement);
  return { pid: own[0]?.pid as number, letGo: () => holder.end() };
}

/** Until a connection of Waybill with this name waits in such a statement for what is held, and not for another one of Waybill. */
const untilItWaits = (application: string, statement: string, { pid }: Held) =>
  expect
    .poll(
      () =>
        rows(
          `select from pg_stat_activity where datname = current_database() and application_name like $1
             and $3 = any(pg_blocking_pids(pid)) and query ilike $2`,
          [application, `%${statement}%`, pid],
        ),
      POLL,
    )
    .toHaveLength(1);

const NAME = 'destinations';
const BUILDING = `waybill_building_${NAME}`;
/** Index and statistics of the last of its tables have to wait; rows have not. */
const NO_INDEXES = `lock table ${BUILDING}.destination_health in share update exclusive mode`;

test('kill -9 in each phase of a rebuild', { timeout: 400_000 }, async () => {
  database = await testDatabase();
  env = { DATABASE_URL: database.url };
  await setOut();
  const id = await slowRebuild();
  const killed = async (phase: string, held?: Held) => {
    expect(await newest(NAME)).toMatchObject({ id, state: 'running', phase });
    await waybill.kill();
    await held?.letGo();
  };
  const begun = async () => {
    const noIndexes = await hold(NO_INDEXES);
    await start();
    await untilItWaits('waybill-rebuild', 'analyze', noIndexes);
    return noIndexes;
  };

  await expect.poll(() => position(`${NAME}@building`), POLL).toBeGreaterThan(0n);
  await killed('building');
  const reached = await position(`${NAME}@building`);
  expect(reached).toBeLessThan(await position(NAME));

  const indexing = await begun();
  expect(await position(`${NAME}@building`)).toBeGreaterThan(reached);
  await killed('indexing', indexing);

  // What was recorded meanwhile is yet to come, and cannot be stored.
  const behind = await begun();
  const before = await position(`${NAME}@building`);
  await expect.poll(() => position(NAME), POLL).toBeGreaterThan(before);
  const noBatch = await hold(`select from projection_checkpoints where name = '${NAME}@building' for update`);
  await behind.letGo();
  await untilItWaits('waybill-projections/%', 'move', noBatch);
  await killed('verifying', noBatch);

  const unverified = await begun();
  const noDigest = await hold(`lock table ${BUILDING}.destinations in access exclusive mode`);
  await unverified.letGo();
  await untilItWaits('waybill-rebuild', 'hash_record_extended', noDigest);
  await killed('verifying', noDigest);

  // In the transaction that exchanges the versions, when all but the last of its statements has been run.
  const noEnd = await hold(`insert into projection_kept (name, drop_after) values ('${NAME}', now())`);
  await start();
  await untilItWaits('waybill-rebuild', 'projection_kept', noEnd);
  await killed('switching', noEnd);

  await start();
  await until(NAME, { id, state: 'done', comparison: 'equal' });

  // The version that was replaced, when its time is over.
  await rows('update projection_kept set drop_after = now()');
  await waybill.kill();
  const noDrop = await hold(`lock table waybill_kept_${NAME}.destinations in access share mode`);
  await start();
  await untilItWaits('waybill-projections-lease', 'drop schema', noDrop);
  await waybill.kill();
  await noDrop.letGo();
  await start();
  await expect.poll(() => rows('select from projection_kept'), POLL).toHaveLength(0);
  expect(await rows(`select nspname from pg_namespace where nspname ~ '^waybill_(building|kept|moving)'`)).toEqual([]);
  await finish();
});

test('PostgreSQL dies during a rebuild', { timeout: 240_000 }, async () => {
  await setOut();
  asking.isWithoutDatabase = true;
  // What is held while the database dies has to outlive it.
  await rows(`create schema gate
    create table gate (is_closed boolean)`);
  await rows('insert into gate.gate values (true)');
  await rows(`create function gate.wait() returns trigger language plpgsql as $$ begin
    while (select is_closed from gate.gate) loop perform pg_sleep(0.02); end loop;
    return new;
  end $$`);
  await rows('create trigger gate before insert on projection_kept for each row execute function gate.wait()');
  const id = await slowRebuild();
  const die = async () => {
    const pid = await postgresPid(dataDir);
    if (pid === undefined) throw new Error('no PostgreSQL runs');
    process.kill(pid, 'SIGKILL');
    await expect.poll(async () => (await postgresPid(dataDir)) ?? pid, POLL).not.toBe(pid);
  };
  await expect.poll(() => position(`${NAME}@building`), POLL).toBeGreaterThan(0n);
  await die();
  await expect
    .poll(
      () => rows(`select from pg_stat_activity where wait_event = 'PgSleep' and query ilike '%projection_kept%'`),
      POLL,
    )
    .toHaveLength(1);
  await die();
  await expect.poll(() => rows('update gate.gate set is_closed = false'), POLL).toEqual([]);
  await expect.poll(() => fetch(`${waybill.url}/ready`).then(({ status }) => status), POLL).toBe(200);
  await until(NAME, { id, state: 'done' });
  await finish();
});

test('two at once, cancelled, and switched and rolled back', { timeout: 240_000 }, async () => {
  database = await testDatabase();
  env = { DATABASE_URL: database.url };
  await setOut();
  expect((await order('rollbackProjection', 'deliveries')).errors).toMatchObject([
    { extensions: { code: 'CONFLICT' } },
  ]);
  await order('rebuildProjection', 'deliveries', ', eventsPerSecond: 10');
  for (const mutation of ['rebuildProjection', 'verifyProjection', 'rollbackProjection'])
    expect((await order(mutation, 'deliveries')).errors).toMatchObject([{ extensions: { code: 'CONFLICT' } }]);
  expect((await order('cancelRebuild', 'deliveries')).data).toMatchObject({ cancelRebuild: { state: 'cancelled' } });
  expect((await order('cancelRebuild', 'deliveries')).errors).toMatchObject([{ extensions: { code: 'CONFLICT' } }]);
  expect(await rows(`select from pg_namespace where nspname ~ '^waybill_(building|kept|moving)'`)).toEqual([]);
  expect(await position('deliveries@building')).toBe(-1n);

  await order('rebuildProjection', 'deliveries');
  await until('deliveries', { kind: 'rebuild', state: 'done' });
  const then = await position('deliveries@kept');
  await expect.poll(() => position('deliveries'), POLL).toBeGreaterThan(then);
  const noEnd = await hold(`select from projection_kept where name = 'deliveries' for update`);
  await order('rollbackProjection', 'deliveries');
  await untilItWaits('waybill-rebuild', 'projection_kept', noEnd);
  await waybill.kill();
  await noEnd.letGo();
  await start();
  await until('deliveries', { kind: 'rollback', state: 'done' });
  await finish();
});

if (isLong)
  test(`kill -9 at any moment of rebuilds of all read models, ${KILLS} times`, { timeout: 1_800_000 }, async () => {
    database = await testDatabase();
    env = { DATABASE_URL: database.url };
    await setOut();
    const names = (await rows<{ name: string }>(`select name from projection_checkpoints where name !~ '@'`)).map(
      ({ name }) => name,
    );
    for (let kills = 0; kills < KILLS; kills++) {
      for (const name of names) if ((await newest(name))?.state !== 'running') await order('rebuildProjection', name);
      // Not a wait for anything: the kill is to come at any moment of what is going on.
      await delay(Math.random() * 3_000);
      await waybill.kill();
      await start();
    }
    for (const name of names) await until(name, { state: 'done' }, 240_000);
    await finish();
  });

/** All was seen whole at every moment, everything that was accepted is delivered, once, and the rows follow from the log. */
async function finish(): Promise<void> {
  const accepted = await recording.stop();
  expect(accepted.length).toBeGreaterThan(0);
  await recording.untilDelivered();
  expect(await asking.stop()).toEqual([]);
  expect(asking.answers).toBeGreaterThan(10);
  const settings = await connection();
  await expectSameAfterRebuild(waybill, () => digestsIn(settings));
}
