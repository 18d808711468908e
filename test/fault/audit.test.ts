import { execFile } from 'node:child_process';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, expect, test } from 'vitest';
import { databaseOf } from '../support/digests.js';
import { startWebhookReceiver } from '../support/peers/webhook-receiver.js';
import { Recording } from '../support/read-models-asked.js';
import { REPOSITORY, removeDataDir, startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * FAULTS.md, "audit rows deleted, inserted, reordered, changed by one bit, tail cut": in the database of a Waybill that
 * runs, and is killed while it builds the trail. `waybill audit verify` ends with 1 and names the first bad entry.
 */
const isLong = process.env.FAULT_LONG === '1';
const KILLS = isLong ? 20 : 2;
const ENTRIES = 600;
const POLL = { timeout: 60_000, interval: 50 };
const TABLES = ['audit_trees', 'audit_entries', 'audit_nodes', 'audit_checkpoints'];

const dataDir = await mkdtemp(join(tmpdir(), 'waybill-audit-fault-'));
let waybill: WaybillProcess;
let sql: pg.Pool | undefined;

afterAll(async () => {
  await sql?.end();
  await waybill?.kill();
  await removeDataDir(dataDir);
});

interface Verdict {
  readonly ok: boolean;
  readonly entries: number;
  readonly firstBadIndex: number | null;
  readonly problem: string | null;
}

function verify(): Promise<{ code: number; verdict: Verdict }> {
  return new Promise((resolve, reject) => {
    const command = [join(REPOSITORY, 'bin/waybill.mjs'), 'audit', 'verify', '--json', '--url', waybill.url];
    const env = { ...process.env, WAYBILL_DATA: dataDir, WAYBILL_KEY: waybill.adminKey };
    execFile(process.execPath, command, { env }, (error, stdout, stderr) => {
      const [line] = stdout.split('\n');
      if (!line) return reject(new Error(stderr));
      resolve({ code: error ? Number(error.code) : 0, verdict: JSON.parse(line) as Verdict });
    });
  });
}

test('what somebody does to the trail in the database is found', { timeout: 300_000 }, async () => {
  const receiver = await startWebhookReceiver({ record: false });
  const start = async () => {
    waybill = await startWaybill({ dataDir });
  };
  await start();
  const database = new pg.Pool({ ...(await databaseOf({ dataDir })), max: 1 });
  sql = database;
  database.on('error', () => undefined);
  const size = async () => Number((await database.query('select size from audit_trees')).rows[0]?.size ?? 0);

  // Killed at random moments while entries are added, most of them between two commits of the trail.
  const recording = new Recording(() => waybill, receiver.url);
  for (let kills = 0; kills < KILLS; kills++) {
    const before = await size();
    await expect.poll(size, POLL).toBeGreaterThan(before);
    // Not a wait for anything: the kill is to come at any moment.
    await delay(Math.random() * 600);
    await waybill.kill();
    await start();
  }
  await expect.poll(size, POLL).toBeGreaterThan(ENTRIES);
  await recording.stop();
  await recording.untilDelivered();
  await waybill.ask('mutation { makeAuditCheckpoint { treeSize } }');
  expect(await verify()).toMatchObject({ code: 0, verdict: { ok: true, firstBadIndex: null } });

  await waybill.stop();
  await start();
  await waybill.ask('mutation { makeAuditCheckpoint { treeSize } }');
  for (const table of TABLES) await database.query(`create table kept_${table} as table ${table}`);
  const restore = async () => {
    for (const table of TABLES) await database.query(`truncate ${table}; insert into ${table} table kept_${table}`);
  };
  const faults: [what: string, statement: string, index: number][] = [
    ['a row is deleted', 'delete from audit_entries where row_number = 1', 256],
    [
      'rows have changed places',
      `update audit_entries set row_number = row_number + 100 where row_number < 2;
       update audit_entries set row_number = 101 - row_number where row_number >= 100`,
      0,
    ],
    [
      'a row is inserted',
      `insert into audit_entries select log, 90, positions, hashes, chain, keys, first_at, last_at
       from audit_entries where row_number = 0`,
      Number.NaN,
    ],
    [
      'one bit has changed',
      'update audit_entries set hashes = set_bit(hashes, 8 * 32 * 77, 1 - get_bit(hashes, 8 * 32 * 77)) where row_number = 1',
      333,
    ],
    ['the tail is cut', 'update audit_trees set size = 512; delete from audit_entries where row_number > 1', 512],
  ];
  for (const [what, statement, index] of faults) {
    await database.query(statement);
    const { code, verdict } = await verify();
    expect({ what, code, ok: verdict.ok }).toEqual({ what, code: 1, ok: false });
    expect(verdict.firstBadIndex, what).toEqual(Number.isNaN(index) ? expect.any(Number) : index);
    expect(verdict.problem, what).toEqual(expect.any(String));
    await restore();
  }
  await receiver.close();
});
