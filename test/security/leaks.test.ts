import { execFile } from 'node:child_process';
import { createSign, generateKeyPairSync, randomBytes, randomInt, randomUUID } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import twilio from 'twilio';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { client, fastRetry, ORGANIZATION } from '../e2e/journeys.js';
import { eventStoreOf, isEventStoreDbWanted } from '../support/event-store-of.js';
import { type SendGridRecorder, sendGridError, startSendGridRecorder } from '../support/peers/sendgrid-recorder.js';
import { type SmtpPeer, startSmtpPeer } from '../support/peers/smtp.js';
import { startTwilioRecorder, type TwilioRecorder } from '../support/peers/twilio-recorder.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';
import { type TestDatabase, testDatabase } from '../support/postgres.js';
import { REPOSITORY, removeDataDir, startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * Everything that is personal or secret is planted, goes through successes, failures, verified callbacks, exports and bad
 * input, and is then looked for in everything the process wrote: its output at the finest level, its answers to strangers, its
 * files, the event log wherever that is, and all of the database, as text, in base64 and in hex; and in what the command line and
 * starts that fail print.
 */
// Letters only: digits may look like a telephone number, which is hidden in what providers say.
const tag = Array.from(randomBytes(8), (byte) => 'abcdefghijklmnop'[byte % 16]).join('');
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
  bounced: `bounced.${tag}@patients.example`,
  bounceReason: `550 mailbox of Bert Planted-${tag} is full`,
  echoedAddress: `echo.${tag}@patients.example`,
  sendGridKey: `SG.planted-${tag}.${randomBytes(24).toString('base64url')}`,
  phone: `+1415555${randomInt(3_000, 9_999)}`,
  city: `Plantedville-${tag}`,
  inbox: `user-of-${tag}`,
  inboxText: `in the app ${tag} only`,
  exported: `exported.${tag}@patients.example`,
  asId: `id.${tag}@patients.example`,
  databasePassword: `database-password-${tag}`,
} as const;

/** Planted where nothing of ours keeps them: they are Twilio's, whose test server has but one account. */
let twilioPeer: TwilioRecorder;
let sendGrid: SendGridRecorder;
const signing = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
const PUBLIC = 'https://waybill.example.com';
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
  [sendGrid, twilioPeer, smtp, receiver, database, folder, dataDir] = await Promise.all([
    startSendGridRecorder({ apiKey: PLANTED.sendGridKey }),
    startTwilioRecorder(),
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
  waybill = await startWaybill({ dataDir, env: { ...env, WAYBILL_PUBLIC_URL: PUBLIC } });
}, 300_000);
afterAll(async () => {
  await waybill?.kill();
  await Promise.all([sendGrid.close(), twilioPeer.close(), smtp.close(), receiver.close(), sql.end()]);
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

  await reportedByProviders(api, plain);
  const told = await api.request({
    to: [{ channel: 'IN_APP', address: PLANTED.inbox }],
    content: { text: PLANTED.inboxText },
  });
  await api.until(told.id, 'DELIVERED', 60_000);
  await exports(sent.id);

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
  // What callers take for ids is recorded with the access.
  await waybill.graphql(`{ delivery(id: "${PLANTED.asId}") { id } destination(id: "${PLANTED.asId}") { id } }`);
  await waybill.graphql(`{ deliveries(filter: { organizationId: "${PLANTED.asId}" }) { totalCount } }`);
  await waybill.graphql(`{ suppressions(organizationId: "${PLANTED.asId}") { totalCount } }`);
  await stranger(`/downloads/${PLANTED.asId}/0?signature=x`, { headers: { 'x-forwarded-for': PLANTED.caller } });
  for (const path of ['/health', '/ready', '/metrics']) await stranger(path, {});

  // It can be read by those who may: so it is there, and only not in clear.
  expect((await api.delivery(refused.id)).legs[0]?.failure?.message).toContain('550 no mailbox');
  expect(JSON.stringify((await api.delivery(refused.id)).history)).toContain(PLANTED.refused);
  const seen = `{ apiKeys(organizationId: "${ORGANIZATION}") { name } auditTrail(first: 200) { edges { node { address } } } }`;
  await expect.poll(async () => JSON.stringify(await waybill.ask(seen)), { timeout: 60_000 }).toContain(PLANTED.caller);
  expect(JSON.stringify(await waybill.ask(seen))).toContain(PLANTED.keyName);
  await waybill.ask('mutation { makeAuditCheckpoint { treeSize } }');
});

/** Providers take messages, refuse them in words that repeat address and key, and report what became of them. */
async function reportedByProviders(api: ReturnType<typeof client>, content: object): Promise<void> {
  const webhookPublicKey = signing.publicKey.export({ format: 'der', type: 'spki' }).toString('base64');
  const from = 'reports@sender.example';
  const account = { service: 'sendgrid', apiKey: PLANTED.sendGridKey, endpoint: sendGrid.url, from, webhookPublicKey };
  const byMail = async (address: string) => {
    const email = { ...account, recipients: [address] };
    const { id } = await api.destination('EMAIL', { email }, { retry: fastRetry });
    return [id, await api.request({ to: [{ destinationId: id }], content })] as const;
  };
  const [mail, bounced] = await byMail(PLANTED.bounced);
  await api.until(bounced.id, 'SENT', 60_000);
  const timestamp = Math.floor(Date.now() / 1_000);
  const known = sendGrid.received.find(({ custom_args }) => custom_args?.deliveryId === bounced.id)?.custom_args;
  const event = { event: 'bounce', type: 'bounce', email: PLANTED.bounced, reason: PLANTED.bounceReason };
  const body = JSON.stringify([{ ...event, timestamp, sg_event_id: randomUUID(), useragent: PLANTED.name, ...known }]);
  const signature = createSign('sha256')
    .update(timestamp + body)
    .sign(signing.privateKey, 'base64');
  const reported = await fetch(`${waybill.url}/callbacks/sendgrid/${mail}`, {
    method: 'POST',
    body,
    headers: {
      'content-type': 'application/json',
      'x-twilio-email-event-webhook-timestamp': String(timestamp),
      'x-twilio-email-event-webhook-signature': signature,
    },
  });
  expect(reported.status).toBe(204);
  expect((await api.until(bounced.id, 'BOUNCED', 60_000)).legs[0]?.failure?.message).toContain(PLANTED.bounceReason);

  sendGrid.respond = ({ headers }) =>
    sendGridError(400, `${headers.authorization} may not write to ${PLANTED.echoedAddress}: ${PLANTED.body}`);
  const [, echoed] = await byMail(PLANTED.echoedAddress);
  await api.until(echoed.id, 'FAILED', 60_000);

  const { accountSid, authToken, url } = twilioPeer;
  const sms = { service: 'twilio', accountSid, authToken, endpoint: url, from: '+14155552672', to: PLANTED.phone };
  const texting = await api.destination('SMS', { sms });
  const text = await api.request({ to: [{ destinationId: texting.id }], content: { text: PLANTED.body } });
  await api.until(text.id, 'SENT', 60_000);
  const call = async (at: string, fields: Record<string, string>) => {
    const response = await fetch(waybill.url + at.slice(PUBLIC.length), {
      method: 'POST',
      body: new URLSearchParams(fields).toString(),
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        'x-twilio-signature': twilio.getExpectedTwilioSignature(authToken, at, fields),
      },
    });
    expect(response.ok).toBe(true);
  };
  const created = new URLSearchParams(twilioPeer.requests.findLast(({ method }) => method === 'POST')?.raw);
  const undelivered = { MessageSid: 'SM1', MessageStatus: 'undelivered', ErrorCode: '30003', To: PLANTED.phone };
  await call(created.get('StatusCallback') ?? '', {
    ...undelivered,
    ErrorMessage: `${PLANTED.phone} in ${PLANTED.city}`,
  });
  await api.until(text.id, 'BOUNCED', 60_000);
  const stop = { MessageSid: 'SM2', From: PLANTED.phone, Body: 'STOP', FromCity: PLANTED.city };
  await call(`${PUBLIC}/callbacks/twilio/${texting.id}`, stop);
  const listed = async () => JSON.stringify(await waybill.ask('{ suppressions { edges { node { address } } } }'));
  await expect.poll(listed, { timeout: 60_000 }).toContain(PLANTED.phone);
  expect(await listed()).toContain(PLANTED.bounced);
}

/** Lists as files, complete, refused and with parameters that are not theirs. */
async function exports(delivery: string): Promise<void> {
  const get = async (path: string) => {
    const response = await fetch(`${waybill.url}/export/${path}`, {
      headers: { authorization: `Bearer ${waybill.adminKey}`, 'x-forwarded-for': PLANTED.caller },
    });
    return [response.status, await response.text()] as const;
  };
  const report = `{ subjectReport(organizationId: "${ORGANIZATION}", recipient: { channel: EMAIL, address: "${PLANTED.email}" }) { subject } }`;
  const { subject } = (await waybill.ask<{ subjectReport: { subject: string } }>(report)).subjectReport;
  const [, held] = await get(
    `subject-report.jsonl?organizationId=${ORGANIZATION}&subject=${encodeURIComponent(subject)}`,
  );
  expect(held).toContain(delivery);
  expect(held).toContain(PLANTED.email);
  for (const file of ['deliveries', 'attempts', 'compliance', 'audit'])
    expect((await get(`${file}.csv?organizationId=${ORGANIZATION}`))[0]).toBe(200);
  expect((await get(`deliveries.csv?recipient=${PLANTED.exported}`))[0]).toBe(400);
  expect((await get(`deliveries.csv?status=${PLANTED.exported}`))[0]).toBe(400);
  await stranger(`/export/deliveries.csv?recipient=${PLANTED.exported}`, {});
  const trail = '{ auditTrail(first: 200) { edges { node { action } } } }';
  await expect
    .poll(async () => JSON.stringify(await waybill.ask(trail)), { timeout: 60_000 })
    .toContain('Export.audit');
}

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

  it('in what the command line prints of the installation', { timeout: 300_000 }, async () => {
    const shared = { WAYBILL_URL: waybill.url, WAYBILL_KEY: waybill.adminKey, WAYBILL_DATA: dataDir };
    const env = { ...process.env, ...shared, DATABASE_URL: database.url, WAYBILL_CONFIG: join(folder, 'waybill.yaml') };
    const store = isEventStoreDbWanted ? { EVENTSTORE_URL: (await eventStoreOf(dataDir)).url } : {};
    const run = async (...args: string[]) => {
      const all = [join(REPOSITORY, 'bin/waybill.mjs'), ...args];
      // What a command says of a problem counts as much.
      const said = await promisify(execFile)(process.execPath, all, { env: { ...env, ...store } }).catch(
        (error) => error,
      );
      return `${said.stdout}${said.stderr}`;
    };
    const operating: string[] = [];
    for (const command of ['doctor', 'projections', 'keys list', 'audit verify', 'retention show --organization x'])
      operating.push(await run(...command.split(' '), '--json'));
    if (!isEventStoreDbWanted)
      operating.push(await run('log', 'stats', '--json'), await run('log', 'verify', '--json'));
    for (const text of operating) expect(text).toMatch(/^\s*[[{]/);
    expect(leaksIn(operating.join('\n'), secrets())).toEqual([]);
    // Whoever may see data sees it; what is secret nobody does.
    const { sendGridKey, password, webhookSecret, header, databasePassword } = PLANTED;
    const hidden = { sendGridKey, password, webhookSecret, header, databasePassword, ...secrets() };
    const shown = [await run('destinations', 'list', '--json'), await run('deliveries', 'list', '--json')].join('\n');
    expect(shown).toContain(ORGANIZATION);
    expect(leaksIn(shown, secrets()).filter((name) => name in hidden)).toEqual([]);
  });

  it.each([
    ['its database', { DATABASE_URL: `postgresql://waybill:${PLANTED.databasePassword}@127.0.0.1:1/waybill` }],
    [
      'its event store',
      { EVENTSTORE_URL: `esdb://admin:${PLANTED.databasePassword}@127.0.0.1:1?tls=false&maxDiscoverAttempts=1` },
    ],
    ['a setting', { WAYBILL_CONFIG: 'broken.yaml' }],
  ])('in what a start says that fails for %s', { timeout: 300_000 }, async (_, more) => {
    const auth = { user: 'waybill', pass: PLANTED.password };
    const broken = { providers: [{ name: 'mail', channel: 'EMAIL', config: { email: { service: 'smtp', auth } } }] };
    await writeFile(join(folder, 'broken.yaml'), JSON.stringify(broken));
    const own = { WAYBILL_DATA: join(folder, `crash-${randomUUID()}`), PORT: '0', WAYBILL_LOG_LEVEL: 'trace' };
    const options = { cwd: folder, env: { ...process.env, DATABASE_URL: database.url, ...own, ...more } };
    const started = promisify(execFile)(process.execPath, [join(REPOSITORY, 'bin/waybill.mjs'), 'start'], options);
    const { code, stdout, stderr } = await started.catch((error) => error);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/DATABASE_URL|EVENTSTORE_URL|providers/)]);
    expect(leaksIn(stdout + stderr)).toEqual([]);
  });

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
    const store = isEventStoreDbWanted ? (await eventStoreOf(dataDir)).path : join(dataDir, 'log');
    await waybill.stop();
    const files: string[] = [];
    for (const place of new Set([dataDir, store]))
      for (const name of await readdir(place, { recursive: true }))
        if ((await stat(join(place, name))).isFile()) files.push(join(place, name));
    expect(files).toContain(join(store, 'data.mdb'));
    for (const file of new Set(files)) {
      const text = await readFile(file, 'latin1');
      const found = leaksIn(Buffer.from(text, 'latin1').toString('utf8'), secrets());
      expect({ file, leaks: found }).toEqual({ file, leaks: [] });
    }
  });
});
