import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';

// Starts programs, which a busy machine makes slow.
vi.setConfig({ testTimeout: 120_000 });

/** Lists as files: who gets them, what is in them, and that each is recorded. And the lists as they were. */
const WAYBILL = fileURLToPath(new URL('../../bin/waybill.mjs', import.meta.url));
const PATIENCE = { timeout: 60_000, interval: 200 };
const MORE_THAN_A_PAGE = 230;

let waybill: WaybillProcess;
let receiver: WebhookReceiver;
let folder: string;
const keys: Record<string, string> = {};

beforeAll(async () => {
  [waybill, receiver, folder] = await Promise.all([
    startWaybill(),
    startWebhookReceiver(),
    mkdtemp(join(tmpdir(), 'waybill-exports-')),
  ]);
  for (const [name, organizationId, role] of [
    ['auditor', 'org-a', 'auditor'],
    ['sender', 'org-a', 'sender'],
    ['stranger', 'org-b', 'admin'],
  ] as const) {
    const { createApiKey } = await waybill.ask<{ createApiKey: { secret: string } }>(
      `mutation { createApiKey(input: { organizationId: "${organizationId}", name: "${name}", roles: ["${role}"] }) { secret } }`,
    );
    keys[name] = createApiKey.secret;
  }
  const inputs = Array.from({ length: MORE_THAN_A_PAGE }, (_, index) => requestFor(`bulk ${index}`));
  await send([...inputs, requestFor('=cmd|"x"', { tags: ['=1+1', 'b'], metadata: { note: 'two,\nlines' } })]);
}, 180_000);
afterAll(async () => {
  await waybill?.stop();
  await receiver?.close();
  await rm(folder, { recursive: true });
});

const requestFor = (correlationId: string, more: object = {}) => ({
  ...{ organizationId: 'org-a', correlationId, content: { text: 'secret' }, ...more },
  to: [{ channel: 'WEBHOOK', address: receiver.url }],
});
async function send(inputs: object[]): Promise<string[]> {
  const { requestDeliveries } = await waybill.ask<{ requestDeliveries: { delivery: { id: string } }[] }>(
    'mutation ($inputs: [RequestDeliveryInput!]!) { requestDeliveries(inputs: $inputs) { delivery { id } } }',
    { inputs },
  );
  return requestDeliveries.map(({ delivery }) => delivery.id);
}
const get = (path: string, key: string | undefined = keys.auditor, headers: Record<string, string> = {}) =>
  request(`${waybill.url}/export/${path}`, { headers: { authorization: `Bearer ${key}`, ...headers } });
const textOf = async (path: string, key?: string) => (await get(path, key)).body.text();
const linesOf = async (path: string, key?: string): Promise<Record<string, unknown>[]> =>
  (await textOf(path, key))
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line));

const cli = (...args: string[]): Promise<{ code: number; out: string; error: string }> =>
  new Promise((resolve) => {
    const env = { ...process.env, WAYBILL_DATA: folder, WAYBILL_KEY: keys.auditor, WAYBILL_URL: waybill.url };
    execFile(process.execPath, [WAYBILL, 'deliveries', ...args], { env }, (failure, out, error) =>
      resolve({ code: failure ? Number(failure.code) : 0, out, error }),
    );
  });

describe('a list as a file', () => {
  it('has every row once, as JSON Lines and as CSV', async () => {
    await expect
      .poll(async () => (await linesOf('deliveries.jsonl?status=DELIVERED')).length, PATIENCE)
      .toBe(MORE_THAN_A_PAGE + 1);
    const rows = await linesOf('deliveries.jsonl');
    expect(new Set(rows.map(({ id }) => id)).size).toBe(MORE_THAN_A_PAGE + 1);
    expect(rows[0]).toMatchObject({ organizationId: 'org-a', status: 'DELIVERED', channels: ['WEBHOOK'], attempts: 1 });
    const csv = await textOf('deliveries.csv');
    expect(csv.split('\r\n')).toHaveLength(MORE_THAN_A_PAGE + 3);
    expect(csv).toMatch(/^id,organizationId,status,/);
    expect(csv).toContain(`,'=1+1;b,"'=cmd|""x""",,"{""note"":""two,\\nlines""}",`);
    expect(csv).not.toContain('secret');
  });

  it('takes the filters of the query', async () => {
    expect((await linesOf('deliveries.jsonl?tag=b')).map(({ correlationId }) => correlationId)).toEqual(['=cmd|"x"']);
    expect(await linesOf('deliveries.jsonl?status=FAILED,BOUNCED')).toEqual([]);
    expect(await linesOf('attempts.jsonl?status=SUCCEEDED')).toHaveLength(MORE_THAN_A_PAGE + 1);
    expect(await linesOf('legs.jsonl?channel=WEBHOOK')).toHaveLength(MORE_THAN_A_PAGE + 1);
    expect(await linesOf('dead-letters.jsonl')).toEqual([]);
    const [report] = await linesOf('compliance.jsonl?tag=b');
    expect(report).toMatchObject({ riskScore: 10, encryptionUsed: ['in the log: AES-256-GCM'], status: 'DELIVERED' });
    expect(await linesOf(`engagement.jsonl?from=2099-01-01T00:00:00Z&to=2099-02-01T00:00:00Z`)).toEqual([]);
    const [row, ...others] = await linesOf(
      'dashboard.jsonl?from=2020-01-01T00:00:00Z&to=2099-01-01T00:00:00Z&bucket=month',
    );
    expect([row?.total, row?.delivered, others]).toEqual([MORE_THAN_A_PAGE + 1, MORE_THAN_A_PAGE + 1, []]);
  });

  it('begins with the newest or with the oldest', async () => {
    const sorted = async (path: string, order: string) =>
      (await linesOf(`${path}${path.includes('?') ? '&' : '?'}order=${order}`)).map((row) => [
        ...[row.id ?? row.index ?? row.deliveryId, row.leg],
      ]);
    const sent = async () => (await linesOf('attempts.jsonl?status=SUCCEEDED')).length;
    await expect.poll(sent, PATIENCE).toBe(MORE_THAN_A_PAGE + 1);
    for (const path of ['deliveries.jsonl', 'attempts.jsonl', 'legs.jsonl', 'compliance.jsonl']) {
      const newest = await sorted(path, 'NEWEST_FIRST');
      expect([path, newest.length]).toEqual([path, MORE_THAN_A_PAGE + 1]);
      expect([path, await sorted(path, 'OLDEST_FIRST')]).toEqual([path, newest.toReversed()]);
    }
    // Each export is an entry of the audit trail itself.
    const indexes = (await sorted('audit.jsonl', 'OLDEST_FIRST')).map(([index]) => Number(index));
    expect(indexes.length).toBeGreaterThan(MORE_THAN_A_PAGE);
    expect(indexes).toEqual(indexes.toSorted((one, other) => one - other));
    const then = new Date().toISOString();
    const past = await sorted(`deliveries.jsonl?at=${then}`, 'NEWEST_FIRST');
    expect(await sorted(`deliveries.jsonl?at=${then}`, 'OLDEST_FIRST')).toEqual(past.toReversed());
    const ids = async (...args: string[]) => JSON.parse((await cli('list', '--json', ...args)).out).deliveries;
    expect((await ids('--first', '3', '--oldest-first')).map(({ id }: { id: string }) => [id, undefined])).toEqual(
      past.toReversed().slice(0, 3),
    );
  });

  it('is packed for those who take it so', async () => {
    const packed = await get('deliveries.csv', keys.auditor, { 'accept-encoding': 'br, gzip;q=0.5' });
    expect(packed.headers).toMatchObject({
      'content-encoding': 'gzip',
      'content-type': expect.stringContaining('text/csv'),
    });
    expect(packed.headers['content-disposition']).toMatch(/^attachment; filename="deliveries-\d{4}-\d\d-\d\d\.csv"$/);
    expect([...new Uint8Array(await packed.body.arrayBuffer())].slice(0, 2)).toEqual([0x1f, 0x8b]);
    const plain = await get('deliveries.csv', keys.auditor, { 'accept-encoding': 'gzip;q=0' });
    expect(plain.headers['content-encoding']).toBeUndefined();
    await plain.body.dump();
  });

  it.each<[string, string | undefined, number, string, string?]>([
    ['deliveries.csv', 'nobody', 401, 'UNAUTHENTICATED'],
    ['audit.csv', 'sender', 403, 'FORBIDDEN'],
    ['secrets.csv', 'auditor', 404, 'NOT_FOUND'],
    ['deliveries.xls', 'auditor', 404, 'NOT_FOUND'],
    ['deliveries.csv?colour=red', 'auditor', 400, 'BAD_USER_INPUT', 'colour'],
    ['deliveries.csv?status=BROKEN', 'auditor', 400, 'BAD_USER_INPUT', 'status'],
    ['deliveries.csv?tag=a&tag=b', 'auditor', 400, 'BAD_USER_INPUT', 'tag'],
    ['deliveries.csv?requestedAfter=yesterday', 'auditor', 400, 'BAD_USER_INPUT', 'requestedAfter'],
    ['deliveries.csv?order=RANDOM', 'auditor', 400, 'BAD_USER_INPUT', 'order'],
    [
      'dashboard.csv?from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z&order=OLDEST_FIRST',
      ...(['auditor', 400, 'BAD_USER_INPUT', 'order'] as const),
    ],
    ['deliveries.csv?at=2099-01-01T00:00:00Z', 'auditor', 400, 'BAD_USER_INPUT', 'asOf.at'],
    ['dashboard.csv?from=2026-01-01T00:00:00Z', 'auditor', 400, 'BAD_USER_INPUT', 'to'],
  ])('%s is refused to %s', async (path, who = '', status, code, field) => {
    const answer = await get(path, keys[who] ?? 'wrong');
    expect(answer.statusCode).toBe(status);
    const fields = field === undefined ? {} : { fields: [{ path: field, problem: expect.any(String) }] };
    expect(await answer.body.json()).toMatchObject({ errors: [{ extensions: { code, ...fields } }] });
  });

  it('has nothing of another organization', async () => {
    for (const file of ['deliveries', 'attempts', 'legs', 'dead-letters', 'compliance', 'audit'])
      for (const whose of ['', '?organizationId=org-a'])
        for (const row of await linesOf(`${file}.jsonl${whose}`, keys.stranger))
          expect(row.organizationId).toBe('org-b');
    expect(await linesOf('deliveries.jsonl?organizationId=org-a', keys.stranger)).toEqual([]);
    const span = 'from=2020-01-01T00:00:00Z&to=2099-01-01T00:00:00Z';
    expect(await linesOf(`dashboard.jsonl?${span}&organizationId=org-a`, keys.stranger)).toEqual([]);
  });

  it('is an entry of the audit trail, and so is a refusal', async () => {
    await textOf('legs.csv?channel=SMS');
    await textOf('audit.csv', keys.sender);
    const recorded = async () =>
      (await linesOf('audit.jsonl'))
        .filter(({ action }) => String(action).startsWith('Export.'))
        .map(({ action, subject, outcome, organizationId }) => [action, subject, outcome, organizationId]);
    await expect.poll(recorded, PATIENCE).toEqual(
      expect.arrayContaining([
        ['Export.legs', 'legs.csv?channel=SMS', 'granted', 'org-a'],
        ['Export.audit', 'audit.csv', 'denied', 'org-a'],
      ]),
    );
  });
});

describe('waybill deliveries export', () => {
  it('writes a new file that only its owner reads, or prints', async () => {
    const file = join(folder, 'all.csv');
    expect(await cli('export', '--output', file)).toMatchObject({ code: 0, out: '' });
    expect((await readFile(file, 'utf8')).split('\r\n')).toHaveLength(MORE_THAN_A_PAGE + 3);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await cli('export', '--output', file)).toMatchObject({
      code: 1,
      error: expect.stringContaining('is there already'),
    });
    expect((await cli('export', '--format', 'jsonl', '--tag', 'b')).out.trim().split('\n')).toHaveLength(1);
    const [header, first] = (await cli('export', '--oldest-first')).out.split('\r\n');
    expect([header?.startsWith('id,'), first]).toEqual([true, (await cli('export')).out.split('\r\n').at(-2)]);
    expect(await cli('export', '--from', 'now')).toMatchObject({
      code: 1,
      error: expect.stringContaining('requestedAfter'),
    });
  });
});

describe('lists as they were', () => {
  const AS_OF = `query ($asOf: AsOf, $from: DateTime!, $to: DateTime!) {
    deliveries(filter: { correlationId: "then", organizationId: "org-c" }, asOf: $asOf) {
      totalCount edges { node { id status attempts { status } history { type } } } }
    dashboard(organizationId: "org-c", from: $from, to: $to, bucket: "month", asOf: $asOf) { total delivered pending } }`;
  const asOf = async (moment: object | null) => {
    const [from, to] = ['2020-01-01T00:00:00Z', '2099-01-01T00:00:00Z'];
    const { data, errors } = await waybill.graphql<{
      deliveries: {
        totalCount: number | null;
        edges: { node: { status: string; attempts: object[]; history: { type: string }[] } }[];
      };
      dashboard: object[];
    }>(AS_OF, { asOf: moment, from, to });
    return { data, codes: errors.map(({ extensions }) => [extensions?.code, extensions?.fields?.[0]?.path]) };
  };

  it('are the same for ever, whatever has happened since', async () => {
    const [id = ''] = await send([requestFor('then', { organizationId: 'org-c', approval: { approvers: ['admin'] } })]);
    const { delivery } = await waybill.ask<{ delivery: { history: { position: string }[] } }>(
      `{ delivery(id: "${id}") { history { position } } }`,
    );
    const position = delivery.history.at(-1)?.position as string;
    const held = {
      edges: [{ node: { status: 'HELD', attempts: [], history: [{ type: 'DeliveryRequested' }] } }],
      totalCount: null,
    };
    expect((await asOf({ position })).data?.deliveries).toMatchObject(held);
    await waybill.ask(`mutation { approveDelivery(id: "${id}") { status } }`);
    const now = async () => (await asOf(null)).data?.deliveries.edges[0]?.node.status;
    await expect.poll(now, PATIENCE).toBe('DELIVERED');
    const then = await asOf({ position });
    expect(then.data?.deliveries).toMatchObject(held);
    expect(then.data?.dashboard).toEqual([{ total: 1, delivered: 0, pending: 1 }]);
    expect((await asOf(null)).data?.dashboard).toEqual([{ total: 1, delivered: 1, pending: 0 }]);
    expect((await asOf({ position: '1' })).data).toMatchObject({ deliveries: { edges: [] }, dashboard: [] });
    const lines = await linesOf(
      `deliveries.jsonl?correlationId=then&organizationId=org-c&position=${position}`,
      waybill.adminKey,
    );
    expect(lines.map(({ status }) => status)).toEqual(['HELD']);
  });

  it('are refused for what is yet to come, and for two moments at once', async () => {
    expect((await asOf({ at: '2099-01-01T00:00:00Z' })).codes).toContainEqual(['BAD_USER_INPUT', 'asOf.at']);
    expect((await asOf({ position: '99999999999' })).codes).toContainEqual(['BAD_USER_INPUT', 'asOf.position']);
    expect((await asOf({ at: '2020-01-01T00:00:00Z', position: '1' })).codes).toContainEqual([
      'BAD_USER_INPUT',
      'asOf',
    ]);
  });
});
