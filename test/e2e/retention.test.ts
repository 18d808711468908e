import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { rootFromInclusion } from '../../src/audit/merkle.js';
import { type TestDatabase, testDatabase } from '../support/postgres.js';
import { REPOSITORY, startWaybill, type WaybillProcess } from '../support/waybill-process.js';
import { client, ORGANIZATION } from './journeys.js';

/** What is too old is disposed of, with a certificate; the audit trail is whole after that and after an erasure. */
let database: TestDatabase;
let sql: pg.Pool;
let waybill: WaybillProcess;

beforeAll(async () => {
  database = await testDatabase();
  sql = new pg.Pool({ connectionString: database.url });
  waybill = await startWaybill({ env: { DATABASE_URL: database.url }, eventStoreDb: false });
}, 240_000);
afterAll(async () => {
  await waybill?.stop();
  await sql.end();
  await database.close();
});

const organizationId = ORGANIZATION;
const DISPOSE = `mutation ($dryRun: Boolean) { disposeExpired(organizationId: "${organizationId}", dryRun: $dryRun) {
  retention keep keysDestroyed keysOnHold keysInUse } }`;

/** `waybill retention …`, as an operator runs it. */
async function cli(...args: string[]): Promise<string> {
  const env = { ...process.env, WAYBILL_URL: waybill.url, WAYBILL_KEY: waybill.adminKey };
  const all = [join(REPOSITORY, 'bin/waybill.mjs'), 'retention', ...args, '--organization', organizationId];
  return (await promisify(execFile)(process.execPath, all, { env })).stdout;
}

test('content is disposed of when its time is over, and that can be proved', { timeout: 240_000 }, async () => {
  const api = client(waybill);
  expect(await cli('set', 'standard', 'P90D', '--reason', 'the law')).toContain('P90D');
  expect(await cli('set', 'phi', 'P6Y', '--reason', 'the law', '--tags', 'lab')).toMatch(/phi +P6Y +lab/);
  const held = (text: string, more = {}) =>
    api.request({
      to: [{ channel: 'WEBHOOK', address: 'http://127.0.0.1:9/' }],
      content: { text },
      approval: { approvers: ['admin'] },
      ...more,
    });
  const old = await held('old news');
  const lab = await held('biopsy', { tags: ['lab'] });
  await held('waits', { retention: 'phi' });
  const unknown = `mutation { requestDelivery(input: { organizationId: "${organizationId}", retention: "nonsense" }) { replayed } }`;
  expect(await api.refusal(unknown)).toMatchObject([
    { code: 'BAD_USER_INPUT', paths: expect.arrayContaining(['retention']) },
  ]);
  const cancel = async ({ id }: { id: string }) => {
    await api.act('cancelDelivery', { id });
    await api.until(id, 'CANCELLED', 60_000);
  };
  await cancel(old);
  await cancel(lab);
  // A hundred days go by.
  const day = new Date(Date.now() - 100 * 86_400_000);
  const ended = new Date(day.getTime() + ((7 - day.getUTCDay()) % 7) * 86_400_000).toISOString().slice(0, 10);
  await sql.query("update waybill_keys.data_keys set subject = regexp_replace(subject, '^kept:[-0-9]+', $1)", [
    `kept:${ended}`,
  ]);
  await sql.query('update deliveries set requested_at = $1', [day]);
  const content = async ({ id }: { id: string }) =>
    ((await api.delivery(id)).history[0]?.data.content as { text: string } | undefined)?.text;

  const phi = { retention: 'phi', keep: 'P6Y', keysDestroyed: 0, keysOnHold: 0, keysInUse: 0 };
  const answer = (counts: object) => ({
    disposeExpired: [{ retention: 'standard', keep: 'P90D', keysOnHold: 0, ...counts }, phi],
  });
  expect(await waybill.ask(DISPOSE, { dryRun: true })).toEqual(answer({ keysDestroyed: 1, keysInUse: 0 }));
  expect(await content(old)).toBe('old news');
  expect(await waybill.ask(DISPOSE)).toEqual(answer({ keysDestroyed: 1, keysInUse: 0 }));
  expect(await Promise.all([old, lab].map(content))).toEqual(['[erased]', 'biopsy']);
  expect(JSON.parse(await cli('dispose', '--dry-run', '--json'))).toMatchObject([{ keysDestroyed: 0 }, {}]);

  await waybill.ask('mutation { makeAuditCheckpoint { treeSize } }');
  const { disposals, auditCheckpoint } = await waybill.ask<Certificates>(`{ auditCheckpoint { treeSize rootHash }
    disposals(organizationId: "${organizationId}") { cursor certificates {
      retention keep firstWeek lastWeek keysDestroyed disposedBy leafHash proof { treeSize rootHash index hashes } } } }`);
  const [certificate] = disposals.certificates;
  expect(certificate).toMatchObject({
    retention: 'standard',
    keep: 'P90D',
    firstWeek: ended,
    lastWeek: ended,
    keysDestroyed: 1,
    disposedBy: 'admin',
  });
  const { proof, leafHash } = certificate as Certificate;
  expect(proof).toMatchObject(auditCheckpoint);
  const [leaf, root, ...hashes] = [leafHash, proof.rootHash, ...proof.hashes].map((text) =>
    Buffer.from(text, 'base64'),
  );
  expect(rootFromInclusion(proof.index, proof.treeSize, leaf as Buffer, hashes)).toEqual(root);
  expect(await cli('certificates')).toContain(`entry ${proof.index} of ${proof.treeSize}, leaf ${leafHash}`);

  const recipient = '{ channel: EMAIL, address: "jane@example.com" }';
  await waybill.ask(
    `mutation { eraseSubject(organizationId: "${organizationId}", recipient: ${recipient}, reason: "asked") { subject } }`,
  );
  expect(await waybill.ask('{ verifyAudit { ok problem } }')).toEqual({ verifyAudit: { ok: true, problem: null } });
});

interface Certificate {
  readonly leafHash: string;
  readonly proof: {
    readonly treeSize: number;
    readonly rootHash: string;
    readonly index: number;
    readonly hashes: string[];
  };
}
interface Certificates {
  readonly disposals: { readonly certificates: readonly Certificate[] };
  readonly auditCheckpoint: object;
}
