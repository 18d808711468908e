import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { client, ORGANIZATION } from '../e2e/journeys.js';
import { digestsIn } from '../support/digests.js';
import { type SmtpPeer, startSmtpPeer } from '../support/peers/smtp.js';
import { type TestDatabase, testDatabase } from '../support/postgres.js';
import { removeDataDir, startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * FAULTS.md, "erase a subject during a rebuild, with caches warm; restore an older backup": nothing of the person can be
 * read any more, everybody else's can, rebuilds give the same rows, and neither the older database nor the older log
 * brings the person back.
 */
let smtp: SmtpPeer;
let database: TestDatabase;
let sql: pg.Pool;
let dataDir: string;
let waybill: WaybillProcess | undefined;
let env: Record<string, string>;

beforeAll(async () => {
  [smtp, database, dataDir] = await Promise.all([
    startSmtpPeer(),
    testDatabase(),
    mkdtemp(join(tmpdir(), 'waybill-erasure-')),
  ]);
  sql = new pg.Pool({ connectionString: database.url });
  const config = join(dataDir, 'config.yaml');
  const settings = { service: 'smtp', host: smtp.host, port: smtp.port, from: 'lab@clinic.example' };
  const provider = { name: 'mail', channel: 'EMAIL', config: { email: { ...settings, recipients: ['x@y.example'] } } };
  await writeFile(config, JSON.stringify({ providers: [provider], allowedNetworks: ['127.0.0.0/8'] }));
  env = { WAYBILL_CONFIG: config, DATABASE_URL: database.url };
});
afterAll(async () => {
  await waybill?.kill();
  await smtp.close();
  await sql.end();
  await removeDataDir(dataDir);
  await rm(dataDir, { recursive: true, force: true });
  await database.close();
});

const POLL = { timeout: 30_000, interval: 50 };
const jane = { channel: 'EMAIL', address: 'Jane.Roe@Example.com' };
const joe = { channel: 'EMAIL', address: 'joe@example.com' };
const args = `organizationId: "${ORGANIZATION}", recipient: { channel: EMAIL, address: "jane.roe@example.com" }`;
const ERASE = `mutation { eraseSubject(${args}, reason: "she asked for it") { subject keysDestroyed deliveriesCancelled } }`;
const REPORT = `{ subjectReport(${args}) { subject keys erasedAt legalHold { reason } suppressions { channel reason address listed } deliveries { totalCount edges { node {
  status history { type data } } } } } }`;

interface Report {
  readonly subjectReport: {
    readonly subject: string;
    readonly keys: number;
    readonly erasedAt: string | null;
    readonly legalHold: { reason: string } | null;
    readonly suppressions: { address: string }[];
    readonly deliveries: { totalCount: number; edges: { node: { status: string; history: object[] } }[] };
  };
}

test('a person is forgotten, and stays forgotten', { timeout: 240_000 }, async () => {
  const start = async () => startWaybill({ dataDir, env, eventStoreDb: false });
  waybill = await start();
  let running = waybill;
  let api = client(running);
  const report = async () => (await running.ask<Report>(REPORT)).subjectReport;
  const everything = async () => JSON.stringify([await report(), await running.ask(ALL)]);

  const content = { subject: 'Your biopsy', text: 'Dear Jane' };
  const sent = await api.request({ to: [jane], content });
  await api.until(sent.id, 'SENT', 30_000);
  const waiting = await api.request({ to: [jane], content, approval: { approvers: ['admin'] } });
  const together = await api.request({ to: [joe, jane], content: { text: 'Dear both' } });
  await api.until(together.id, 'SENT', 30_000);
  const joes = await api.request({ to: [joe], content: { text: 'Dear Joe' } });
  await api.until(joes.id, 'SENT', 30_000);

  // What is held about her: her own, and what went to both.
  await expect.poll(async () => (await report()).deliveries.totalCount, POLL).toBe(3);
  expect(await report()).toMatchObject({ keys: 2, erasedAt: null, legalHold: null });
  expect(JSON.stringify(await report())).toContain('Dear Jane');
  const exported = async () => {
    const parameters = new URLSearchParams({ organizationId: ORGANIZATION, subject: (await report()).subject });
    const headers = { authorization: `Bearer ${running.adminKey}` };
    const answer = await fetch(`${running.url}/export/subject-report.jsonl?${parameters}`, { headers });
    return [answer.status, (await answer.text()).trim().split('\n')] as const;
  };
  const [status, lines] = await exported();
  expect([status, lines.length]).toEqual([200, 3]);
  expect(lines.filter((line) => line.includes('Dear Jane') && line.includes('Jane.Roe@Example.com'))).toHaveLength(2);
  const found = `{ deliveries(filter: { organizationId: "${ORGANIZATION}", recipient: { channel: EMAIL, address: "JOE@example.com" } }) { totalCount } }`;
  expect(await running.ask(found)).toEqual({ deliveries: { totalCount: 2 } });
  expect(
    await api.refusal(REPORT.replace('EMAIL', 'WEBHOOK').replace('jane.roe@example.com', 'http://a.example')),
  ).toEqual([{ code: 'BAD_USER_INPUT', paths: ['recipient.channel'] }]);

  await running.ask(`mutation { placeLegalHold(${args}, reason: "case 7") { reason } }`);
  expect(await api.refusal(ERASE)).toEqual([{ code: 'CONFLICT', paths: [] }]);
  expect(await report()).toMatchObject({ keys: 2, legalHold: { reason: 'case 7' } });
  await running.ask(`mutation { releaseLegalHold(${args}, reason: "closed") }`);

  // What an older backup of the database would bring back.
  const { rows: older } = await sql.query('select id, wrapped, key_version from waybill_keys.data_keys');
  const before = await digestsIn({ connectionString: database.url });
  await running.ask('mutation { rebuildProjection(name: "deliveries") { id } }');
  const { eraseSubject } = await running.ask<{ eraseSubject: object }>(ERASE);
  expect(eraseSubject).toMatchObject({ keysDestroyed: 2, deliveriesCancelled: 1 });

  await api.until(waiting.id, 'CANCELLED', 30_000);
  expect(await report()).toMatchObject({ keys: 0, erasedAt: expect.any(String) });
  const forgotten = async () => {
    const text = await everything();
    expect(text).toContain('[erased]');
    for (const gone of ['Dear Jane', 'Roe@', 'roe@', 'biopsy', 'Dear both']) expect(text).not.toContain(gone);
    for (const kept of ['Dear Joe', 'joe@example.com']) expect(text).toContain(kept);
  };
  await forgotten();
  expect((await exported()).join()).not.toMatch(/Jane|Roe@|biopsy|both/);
  expect(await api.refusal(`mutation { retryDelivery(id: "${sent.id}") { id } }`)).toEqual([
    { code: 'CONFLICT', paths: [] },
  ]);
  expect((await running.ask<{ eraseSubject: object }>(ERASE)).eraseSubject).toMatchObject({ keysDestroyed: 0 });
  const states = async () => JSON.stringify(await running.ask('{ projections { rebuild { state } } }'));
  const rebuild = async () => {
    // The one that was under way when she was erased.
    await expect.poll(states, POLL).not.toMatch(/running/);
    for (const name of Object.keys(before)) await running.ask(`mutation { rebuildProjection(name: "${name}") { id } }`);
    await expect.poll(states, POLL).not.toMatch(/running|null/);
  };
  const live = await digestsIn({ connectionString: database.url });
  await rebuild();
  expect(await digestsIn({ connectionString: database.url })).toEqual(live);

  // Neither a restart nor an older database makes her keys good again: the log says that they are gone.
  await running.stop();
  const restore = async () => {
    for (const { id, wrapped, key_version } of older)
      await sql.query(
        'update waybill_keys.data_keys set wrapped = $2, destroyed_at = null, key_version = $3 where id = $1',
        [id, wrapped, key_version],
      );
    await sql.query('update waybill_keys.installation set erasures_position = 0');
  };
  await restore();
  waybill = running = await start();
  api = client(running);
  await forgotten();
  expect((await sql.query('select from waybill_keys.data_keys where wrapped is null')).rowCount).toBe(2);

  // Not even when the log knows nothing of it either: the data directory does.
  await running.stop();
  await restore();
  await sql.query(
    'update waybill_keys.installation set erasures_position = (select max(position) from projection_checkpoints)',
  );
  const { rows } = await sql.query('select id from waybill_keys.data_keys where wrapped is null');
  expect(rows).toEqual([]);
  waybill = running = await start();
  api = client(running);
  await forgotten();

  // She may write to us again: a newcomer, of whom nothing older is known.
  const again = await api.request({ to: [jane], content: { text: 'Hello again' } });
  await api.until(again.id, 'SENT', 30_000);
  expect(await report()).toMatchObject({ keys: 1 });
  expect(await everything()).not.toContain('Dear Jane');

  // She wants no more: that is held about her too, and holds when she is forgotten.
  const entry = `organizationId: "${ORGANIZATION}", channel: EMAIL, address: "Jane.Roe@Example.com"`;
  await running.ask(`mutation { suppressAddress(${entry}, note: "by phone") }`);
  const [held] = (await report()).suppressions;
  expect(held).toEqual({ channel: 'EMAIL', reason: 'MANUAL', address: 'jane.roe@example.com', listed: true });
  const last = (await exported())[1].at(-1) ?? '';
  expect(JSON.parse(last)).toMatchObject({ kind: 'suppression', suppression: held });
  await running.ask(`mutation { placeLegalHold(${args}, reason: "case 8") { reason } }`);
  expect(await api.refusal(ERASE)).toEqual([{ code: 'CONFLICT', paths: [] }]);
  await running.ask(`mutation { releaseLegalHold(${args}, reason: "closed") }`);
  expect((await running.ask<{ eraseSubject: object }>(ERASE)).eraseSubject).toMatchObject({ keysDestroyed: 2 });
  expect((await report()).suppressions).toEqual([{ ...held, address: '[erased]' }]);
  expect((await exported()).join()).not.toMatch(/Jane|Roe@|roe@/);
  const input = { organizationId: ORGANIZATION, to: [jane], content: { text: 'Hello once more' } };
  const request = 'mutation ($input: RequestDeliveryInput!) { requestDelivery(input: $input) { replayed } }';
  expect(await api.refusal(request, { input })).toEqual([{ code: 'BAD_USER_INPUT', paths: ['to.0.address'] }]);
  const now = await digestsIn({ connectionString: database.url });
  await rebuild();
  expect(await digestsIn({ connectionString: database.url })).toEqual(now);
  expect((await report()).suppressions).toEqual([{ ...held, address: '[erased]' }]);
});

const ALL =
  '{ deliveries { edges { node { id status metadata history { type data } legs { failure { message } } } } } }';
