import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { client, fastRetry, ORGANIZATION } from '../e2e/journeys.js';
import { type SmtpPeer, startSmtpPeer } from '../support/peers/smtp.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';
import { type TestDatabase, testDatabase } from '../support/postgres.js';
import { removeDataDir, startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * Everything that is personal or secret is planted, goes through successes, failures, callbacks and bad input, and is then
 * looked for in everything the process wrote: its output at the finest level, its answers to strangers, its files, and all of the
 * database, as text, in base64 and in hex.
 */
const tag = randomBytes(4).toString('hex');
const PLANTED = {
  email: `jane.${tag}@patients.example`,
  refused: `gone.${tag}@patients.example`,
  copied: `joe.${tag}@patients.example`,
  name: `Jane Planted-${tag}`,
  subject: `Your biopsy ${tag}`,
  body: `the finding is ${tag} positive`,
  html: `<p>finding ${tag}</p>`,
  data: `P-17-${tag}`,
  attachment: `attached ${tag} words that are long enough to be found wherever they are`,
  query: `token-${tag}-in-the-url`,
  header: `Bearer header-${tag}`,
  password: `smtp-password-${tag}`,
  webhookSecret: `whsec_${randomBytes(24).toString('base64')}`,
  keyName: `Ada Planted-${tag}’s laptop`,
  invalid: `no address ${tag}`,
  echoed: `the receiver says ${tag} of the patient`,
  caller: '198.51.100.77',
  wrongKey: `wbl_wrong_${tag}`,
  callback: `callback.${tag}@patients.example`,
} as const;

let smtp: SmtpPeer;
let receiver: WebhookReceiver;
let database: TestDatabase;
let sql: pg.Pool;
let folder: string;
let dataDir: string;
let waybill: WaybillProcess;
let apiKey: string;
/** What strangers and those who make mistakes were answered. */
const answers: string[] = [];

beforeAll(async () => {
  [smtp, receiver, database, folder, dataDir] = await Promise.all([
    startSmtpPeer({ auth: { user: 'waybill', pass: PLANTED.password } }),
    startWebhookReceiver(),
    testDatabase(),
    mkdtemp(join(tmpdir(), 'waybill-leaks-')),
    mkdtemp(join(tmpdir(), 'waybill-leaks-data-')),
  ]);
  sql = new pg.Pool({ connectionString: database.url });
  const auth = { user: 'waybill', pass: PLANTED.password };
  const email = {
    service: 'smtp',
    host: smtp.host,
    port: smtp.port,
    from: 'lab@clinic.example',
    auth,
    recipients: ['x@y.example'],
  };
  const config = join(folder, 'waybill.yaml');
  await writeFile(
    config,
    JSON.stringify({
      providers: [{ name: 'mail', channel: 'EMAIL', config: { email } }],
      trustedProxies: ['127.0.0.1/32'],
    }),
  );
  const env = { WAYBILL_CONFIG: config, DATABASE_URL: database.url, WAYBILL_LOG_LEVEL: 'trace' };
  waybill = await startWaybill({ dataDir, env, eventStoreDb: false });
}, 300_000);
afterAll(async () => {
  await waybill?.kill();
  await Promise.all([smtp.close(), receiver.close(), sql.end()]);
  await database.close();
  await removeDataDir(dataDir);
  await Promise.all([folder, dataDir].map((path) => rm(path, { recursive: true, force: true })));
});

async function stranger(path: string, init: RequestInit): Promise<void> {
  const response = await fetch(waybill.url + path, init);
  answers.push(JSON.stringify([...response.headers]) + (await response.text()));
}
const post = (body: string, headers: Record<string, string> = {}) =>
  stranger('/graphql', {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', authorization: `Bearer ${waybill.adminKey}`, ...headers },
  });

it('goes through all of it', { timeout: 300_000 }, async () => {
  const api = client(waybill);
  const { createApiKey } = await waybill.ask<{ createApiKey: { secret: string } }>(
    'mutation ($input: ApiKeyInput!) { createApiKey(input: $input) { secret } }',
    { input: { organizationId: ORGANIZATION, name: PLANTED.keyName, roles: ['sender'] } },
  );
  apiKey = createApiKey.secret;
  const content = {
    subject: PLANTED.subject,
    text: PLANTED.body,
    html: PLANTED.html,
    data: { patient: PLANTED.data },
    attachments: [
      { filename: 'a.txt', contentType: 'text/plain', base64: Buffer.from(PLANTED.attachment).toString('base64') },
    ],
  };
  const personalization = { name: PLANTED.name };
  const { attachments: _, ...plain } = content;
  const to = (address: string) => [{ channel: 'EMAIL', address }];

  const sent = await api.request({ to: to(PLANTED.email), content, personalization });
  const both = await api.request({ to: [...to(PLANTED.email), ...to(PLANTED.copied)], content: plain });
  for (const { id } of [sent, both]) await api.until(id, 'SENT', 60_000);
  expect(smtp.received.length).toBeGreaterThanOrEqual(2);

  // Refused, and told so in words that repeat whom.
  smtp.onRecipient = (address) => ({ code: 550, text: `no mailbox ${address} for ${PLANTED.name}` });
  const refused = await api.request({ to: to(PLANTED.refused), content: plain });
  await api.until(refused.id, 'FAILED', 60_000);

  const url = `${receiver.url}?token=${PLANTED.query}`;
  const destination = await api.destination(
    'WEBHOOK',
    {
      webhook: { url, secret: PLANTED.webhookSecret, headers: { authorization: PLANTED.header } },
    },
    { retry: fastRetry },
  );
  const hook = await api.request({ to: [{ destinationId: destination.id }], content: plain });
  const bare = await api.request({ to: [{ channel: 'WEBHOOK', address: url }], content: plain });
  for (const { id } of [hook, bare]) await api.until(id, 'DELIVERED', 60_000);
  expect(JSON.stringify(receiver.received)).toContain(PLANTED.header);
  receiver.respond = () => ({ status: 400, body: `${PLANTED.echoed}: ${PLANTED.body}` });
  const failing = await api.request({ to: [{ destinationId: destination.id }], content: plain });
  await api.until(failing.id, 'FAILED', 60_000);
  await waybill.graphql(`mutation { testDestination(id: "${destination.id}") { ok problems { problem } } }`);

  // Bad input, and what is no GraphQL and no JSON at all.
  await waybill.graphql('mutation ($i: RequestDeliveryInput!) { requestDelivery(input: $i) { replayed } }', {
    i: {
      organizationId: ORGANIZATION,
      to: to(PLANTED.invalid),
      content: {
        text: PLANTED.body,
        attachments: [{ filename: `/${PLANTED.name}`, contentType: 'x', base64: PLANTED.body }],
      },
    },
  });
  await waybill.graphql('mutation ($i: RequestDeliveryInput!) { requestDelivery(input: $i) { replayed } }', {
    i: { organizationId: ORGANIZATION, priority: PLANTED.name, to: PLANTED.email },
  });
  await waybill.graphql(`mutation { requestDelivery(input: { to: "${PLANTED.email}" content: "${PLANTED.body}`);
  await fetch(`${waybill.url}/graphql`, {
    method: 'POST',
    body: `{"query": ${PLANTED.email}`,
    headers: { 'content-type': 'application/json' },
  });
  await fetch(`${waybill.url}/nothing/${PLANTED.query}?email=${PLANTED.email}`);
  await post(JSON.stringify({ query: '{ me { actor } }' }), {
    authorization: `Bearer ${PLANTED.wrongKey}`,
    'x-forwarded-for': PLANTED.caller,
  });
  await post(JSON.stringify({ query: `{ delivery(id: "${sent.id}") { id } }` }), {
    authorization: `Bearer ${apiKey}`,
    'x-forwarded-for': PLANTED.caller,
  });
  await stranger(`/callbacks/sendgrid/mail?to=${PLANTED.callback}`, {
    method: 'POST',
    body: JSON.stringify([{ event: 'bounce', email: PLANTED.callback, reason: PLANTED.echoed }]),
    headers: { 'content-type': 'application/json', 'x-forwarded-for': PLANTED.caller },
  });
  for (const path of ['/health', '/ready', '/metrics']) await stranger(path, {});

  // It can be read by those who may: so it is there, and only not in clear.
  expect((await api.delivery(refused.id)).legs[0]?.failure?.message).toContain('550 no mailbox');
  expect(JSON.stringify((await api.delivery(refused.id)).history)).toContain(PLANTED.refused);
  const seen = `{ apiKeys(organizationId: "${ORGANIZATION}") { name } auditTrail(first: 200) { edges { node { address } } } }`;
  await expect.poll(async () => JSON.stringify(await waybill.ask(seen)), { timeout: 60_000 }).toContain(PLANTED.caller);
  expect(JSON.stringify(await waybill.ask(seen))).toContain(PLANTED.keyName);
  await waybill.ask('mutation { makeAuditCheckpoint { treeSize } }');
});

/** How a value may lie somewhere: as it is, in JSON, in a URL, in hex, and in base64 at any offset. */
function forms(value: string): string[] {
  const bytes = Buffer.from(value);
  const base64 = [0, 1, 2].map((offset) =>
    Buffer.concat([Buffer.alloc(offset), bytes])
      .toString('base64')
      .slice(offset === 0 ? 0 : 4)
      .replace(/.{2}=*$/, ''),
  );
  return [
    ...new Set([
      value,
      JSON.stringify(value).slice(1, -1),
      encodeURIComponent(value),
      bytes.toString('hex'),
      ...base64,
    ]),
  ];
}

function leaksIn(text: string, more: Record<string, string> = {}): string[] {
  return Object.entries({ ...PLANTED, ...more })
    .filter(([, value]) => forms(value).some((form) => text.includes(form)))
    .map(([name]) => name);
}

it('the search finds what is there, however it is written', () => {
  for (const value of Object.values(PLANTED)) {
    const [name] = Object.entries(PLANTED).find(([, other]) => other === value) ?? [];
    const texts = [
      `a ${value} b`,
      JSON.stringify({ value }),
      Buffer.from(`xy${value}z`).toString('base64'),
      Buffer.from(value).toString('hex'),
    ];
    for (const text of texts) expect(leaksIn(text)).toContain(name);
  }
});

describe('nothing of it is', () => {
  const secrets = () => ({ apiKey: apiKey.split('_').at(-1) as string, adminKey: waybill.adminKey });

  it('in what the process printed, at the finest level', () => {
    const output = waybill.output();
    // Nest speaks only when it is asked to.
    expect(output).toContain('"context":"NestFactory"');
    expect(output).toContain('access denied');
    expect(leaksIn(output, secrets())).toEqual([]);
  });

  it('in answers to strangers, or of health, readiness and metrics', () => {
    const { wrongKey: _, ...own } = PLANTED;
    expect(leaksIn(answers.join('\n'), secrets()).filter((name) => name in own || name in secrets())).toEqual([]);
  });

  it('in any table of the database', { timeout: 120_000 }, async () => {
    const { rows: tables } = await sql.query<{ name: string }>(
      `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
       where c.relkind in ('r', 'm') and n.nspname !~ '^(pg_|information_schema)'`,
    );
    expect(tables.length).toBeGreaterThan(15);
    let rows = 0;
    for (const { name } of tables) {
      const { rows: all } = await sql.query<{ row: string }>(`select t::text as row from ${name} t`);
      rows += all.length;
      expect({ table: name, leaks: leaksIn(all.map(({ row }) => row).join('\n'), secrets()) }).toEqual({
        table: name,
        leaks: [],
      });
    }
    expect(rows).toBeGreaterThan(30);
  });

  it('in any file of the data directory, the event log first of all', { timeout: 120_000 }, async () => {
    await waybill.stop();
    const files: string[] = [];
    for (const name of await readdir(dataDir, { recursive: true }))
      if ((await stat(join(dataDir, name))).isFile()) files.push(name);
    expect(files).toContain(join('log', 'data.mdb'));
    for (const name of files) {
      const text = await readFile(join(dataDir, name), 'latin1');
      const found = leaksIn(Buffer.from(text, 'latin1').toString('utf8'), secrets());
      expect({ file: name, leaks: found }).toEqual({ file: name, leaks: [] });
    }
  });
});
