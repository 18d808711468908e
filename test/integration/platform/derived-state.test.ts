import { randomUUID } from 'node:crypto';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DataSource } from 'typeorm';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openDatabase } from '../../../src/platform/database.js';
import { DERIVED_TABLES, EVIDENCE_TABLES, matchDerivedState } from '../../../src/platform/derived-state.js';
import { client } from '../../e2e/journeys.js';
import { type TestDatabase, testDatabase } from '../../support/postgres.js';
import { removeDataDir, startWaybill } from '../../support/waybill-process.js';

let server: TestDatabase;
beforeEach(async () => {
  server = await testDatabase();
});
afterEach(() => server.close());

describe('what follows from the log', () => {
  const US = randomUUID();
  const OTHERS = randomUUID();
  let database: DataSource;
  let warnings: string[];
  beforeEach(async () => {
    warnings = [];
    database = await openDatabase({ connection: { connectionString: server.url }, entities: [] });
  });
  afterEach(() => database.destroy());

  const match = (head: bigint, { id = US, formerly = [] as string[], isShared = true } = {}) =>
    matchDerivedState(
      database,
      { id, formerly, head: async () => head },
      { isShared, instanceId: 'me' },
      { warn: (_, message) => warnings.push(message) },
    );

  /** As if projections and engine of an instance had got so far, leaving a row in every table. */
  async function fill(log: string, projections: number, engine: number): Promise<void> {
    await database.query(`
      insert into event_log values ('${log}');
      insert into deliveries
        select gen_random_uuid(), '', '', '', '{}', '{}', '{}', null, null, null, '{}', '{}', false, now(), null, null, null, now(), 0, 1;
      insert into delivery_hours select '', now(), ${Array.from({ length: 24 }, () => 0).join(', ')};
      insert into attempts (delivery_id, leg, number, organization_id, route, channel, provider, status, started_at)
        values (gen_random_uuid(), 1, 1, '', 0, '', '', '', now());
      insert into destinations (id, organization_id, label, type, config, is_default, enabled, deleted, created_at, updated_at)
        values (gen_random_uuid(), '', '', '', '{}', false, true, false, now(), now());
      insert into destination_health (destination_id, deliveries, failures, consecutive_failures, response_ms)
        values (gen_random_uuid(), 0, 0, 0, 0);
      insert into suppressions select gen_random_uuid(), '', 'EMAIL', '', 'MANUAL', now(), null, null, '', true;
      insert into legs (delivery_id, leg, organization_id, channel, priority, status, attempts, requested_at, dead_lettered, updated_at)
        values (gen_random_uuid(), 1, '', '', '', '', 0, now(), false, now());
      insert into dashboard_hours select '', now(), '', ${Array.from({ length: 20 }, () => 0).join(', ')};
      insert into inbox_messages
        values (gen_random_uuid(), '', '', gen_random_uuid(), '{}', '', now(), null, now(), 1, 1);
      insert into inbox_presence values ('', '', '', now());
      insert into projection_checkpoints values ('deliveries', 1, ${projections});
      insert into projection_rebuilds values (gen_random_uuid(), 'deliveries', 'done', 0, 0, now(), now());
      insert into projection_kept (name, drop_after) values ('deliveries', now());
      insert into parked_events values ('deliveries', 1, 'delivery-1', 'T', 'error');
      insert into engine_partitions select p, 'owner', 7, now(), ${engine} from generate_series(0, 15) as p;
      insert into projection_writer (owner, epoch, backend, expires_at) values ('owner', 1, 1, now());
      insert into engine_instances values ('owner', now());
      insert into engine_deliveries values (gen_random_uuid(), 0, now(), '{}');
      insert into engine_suspensions values (gen_random_uuid(), 0, '', 1, '', '', 1, now());
      insert into status_webhook_progress values (true, ${engine}, '{}', 'owner', now())`);
  }

  const rows = async (): Promise<Record<string, number>> =>
    Object.fromEntries(
      await Promise.all(
        DERIVED_TABLES.map(async (table) => [
          table,
          (await database.query(`select count(*)::integer as n from ${table}`))[0].n,
        ]),
      ),
    );
  const EMPTY = Object.fromEntries(DERIVED_TABLES.map((table) => [table, table === 'event_log' ? 1 : 0]));

  it('is every table there is, but for the evidence', async () => {
    const tables: { name: string }[] = await database.query(
      `select tablename as name from pg_tables where schemaname = current_schema() and tablename <> 'migrations'`,
    );
    expect(tables.map(({ name }) => name).sort()).toEqual([...DERIVED_TABLES, ...EVIDENCE_TABLES].sort());
  });

  it('stays as it is when the log holds all of it', async () => {
    await fill(US, 10, 8);
    const before = await rows();
    expect(Object.values(before)).not.toContain(0);
    await match(10n);
    await match(11n);
    expect(await rows()).toEqual(before);
    expect(warnings).toEqual([]);
  });

  it.each([
    ['a projection', 11, 10],
    ['the engine', 10, 11],
  ])('is emptied when %s has seen more than the log holds', async (_, projections, engine) => {
    await fill(US, projections, engine);
    await match(10n);
    expect(await rows()).toEqual(EMPTY);
    expect(await database.query('select id from event_log')).toEqual([{ id: US }]);
    expect(warnings).toEqual([expect.stringContaining('has seen more than this event log holds')]);
    await match(10n);
    expect(warnings).toHaveLength(1);
  });

  it('belongs to the first of two logs whose instances start on the same new database', async () => {
    const outcomes = await Promise.allSettled([match(0n), match(0n, { id: OTHERS })]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  });

  it('is not touched when it follows another log, whose name is told in one line', async () => {
    await fill(OTHERS, 11, 11);
    const before = await rows();
    await expect(match(10n)).rejects.toThrow(
      new Error(
        `DATABASE_URL: this database holds the read models of another Waybill (event log ${OTHERS}); give each its own`,
      ),
    );
    expect(await rows()).toEqual(before);
  });

  it('is not touched when it is ahead of the log while another instance works on it', async () => {
    await fill(US, 11, 11);
    await database.query(`update engine_partitions set expires_at = now() + interval '10 s' where partition = 3`);
    const before = await rows();
    await expect(match(10n)).rejects.toThrow(/does not follow from the event log, and other instances work on it/);
    expect(await rows()).toEqual(before);
  });

  it('is emptied when the log was restored since, also in a shared database', async () => {
    await fill(OTHERS, 5, 5);
    await match(10n, { formerly: [OTHERS] });
    expect(await rows()).toEqual(EMPTY);
    expect(await database.query('select id from event_log')).toEqual([{ id: US }]);
  });

  it('is emptied when it is of another log, in a database that nobody else can reach', async () => {
    await fill(OTHERS, 5, 5);
    await match(10n, { isShared: false });
    expect(await rows()).toEqual(EMPTY);
    expect(warnings).toEqual([expect.stringContaining('does not follow from this event log')]);
  });
});

describe('Waybill', () => {
  it('keeps its hands off another one’s database, and goes on with its own after a kill -9', {
    timeout: 60_000,
  }, async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'waybill-owner-'));
    const env = { DATABASE_URL: server.url };
    const first = await startWaybill({ dataDir, env });
    await expect(startWaybill({ env })).rejects.toThrow(
      /\nDATABASE_URL: this database holds the read models of another Waybill \(event log \S+\); give each its own$/,
    );
    await first.kill();
    const second = await startWaybill({ dataDir, env });
    await expect.poll(async () => (await fetch(`${second.url}/ready`)).status, { timeout: 10_000 }).toBe(200);
    await second.stop();
    await removeDataDir(dataDir);
  });

  it('tells what its log tells when an older backup of that was put back', { timeout: 60_000 }, async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'waybill-backup-'));
    const [log, backup] = [join(dataDir, 'log'), join(dataDir, 'log.backup')];
    const held = { to: [{ channel: 'WEBHOOK', address: 'http://127.0.0.1:9/' }], approval: { approvers: ['admin'] } };
    const COUNT = '{ deliveries(first: 1) { totalCount } }';

    let waybill = await startWaybill({ dataDir });
    await client(waybill).request(held);
    await waybill.stop();
    await cp(log, backup, { recursive: true });
    waybill = await startWaybill({ dataDir });
    await client(waybill).request(held);
    await expect.poll(() => waybill.ask(COUNT)).toEqual({ deliveries: { totalCount: 2 } });
    await waybill.stop();

    await rm(log, { recursive: true });
    await cp(backup, log, { recursive: true });
    waybill = await startWaybill({ dataDir });
    expect(waybill.output()).toContain('has seen more than this event log holds');
    await expect.poll(() => waybill.ask(COUNT), { timeout: 10_000 }).toEqual({ deliveries: { totalCount: 1 } });
    await client(waybill).request(held);
    await expect.poll(() => waybill.ask(COUNT)).toEqual({ deliveries: { totalCount: 2 } });
    await waybill.stop();
    await removeDataDir(dataDir);
  });
});
