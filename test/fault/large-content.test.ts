import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { client } from '../e2e/journeys.js';
import { type SmtpPeer, startSmtpPeer } from '../support/peers/smtp.js';
import { removeDataDir, startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * Large contents, which lie outside the log: what was accepted arrives whole, also after kill -9 while others were being
 * stored; what cannot be stored is refused; what is lost is said; and with a person go the files.
 */
let smtp: SmtpPeer;
let dataDir: string;
let env: Record<string, string>;
let waybill: WaybillProcess | undefined;

beforeAll(async () => {
  [smtp, dataDir] = await Promise.all([startSmtpPeer(), mkdtemp(join(tmpdir(), 'waybill-large-'))]);
  const config = join(dataDir, 'config.yaml');
  const settings = { service: 'smtp', host: smtp.host, port: smtp.port, from: 'lab@clinic.example' };
  const provider = { name: 'mail', channel: 'EMAIL', config: { email: { ...settings, recipients: ['x@y.example'] } } };
  await writeFile(config, JSON.stringify({ providers: [provider], allowedNetworks: ['127.0.0.0/8'] }));
  env = { WAYBILL_CONFIG: config };
});
afterAll(async () => {
  await waybill?.kill();
  await smtp.close();
  await removeDataDir(dataDir);
  await rm(dataDir, { recursive: true, force: true });
});

const POLL = { timeout: 90_000, interval: 100 };
const jane = { channel: 'EMAIL', address: 'jane.roe@example.com' };
const joe = { channel: 'EMAIL', address: 'joe@example.com' };
const folder = () => join(dataDir, 'content');

function letter(subject: string, bytes = 300_000) {
  const attachment = randomBytes(bytes);
  const file = { filename: 'scan.pdf', contentType: 'application/pdf', base64: attachment.toString('base64') };
  return {
    attachment,
    content: { subject, text: 'Dear Jane', html: `<p>${subject} `.repeat(5_000), attachments: [file] },
  };
}

/** The attachments that came with a subject. */
const received = (subject: string): Buffer[] =>
  smtp.received
    .filter(({ mail }) => mail.subject === subject)
    .flatMap(({ mail }) => mail.attachments.map(({ content }) => content));

async function files(): Promise<string[]> {
  const all = await readdir(folder(), { recursive: true });
  return all.filter((name) => /[0-9a-f]{64}$/.test(name)).map((name) => join(folder(), name));
}

test('large contents are kept outside the log, and as safely', { timeout: 400_000 }, async () => {
  const start = () => startWaybill({ dataDir, env, eventStoreDb: false });
  waybill = await start();
  let api = client(waybill);

  // Whole at the receiver, and in the history; a small event in the log.
  const first = letter('the first');
  const sent = await api.request({ to: [jane], content: first.content });
  await api.until(sent.id, 'SENT', 60_000);
  expect(received('the first')).toEqual([first.attachment]);
  const { history } = await api.delivery(sent.id);
  expect(history[0]?.data.content).toEqual(first.content);
  expect(await files()).toHaveLength(2);
  for (const file of await files()) expect((await stat(file)).mode & 0o777).toBe(0o600);

  // One that is lost is said, and goes on when it is back.
  const second = letter('the second');
  const before = new Set(await files());
  const waiting = await api.request({ to: [jane], content: second.content, approval: { approvers: ['admin'] } });
  const lost = (await files()).filter((file) => !before.has(file));
  expect(lost).toHaveLength(2);
  for (const file of lost) await rename(file, `${file}.away`);
  await api.act('approveDelivery', { id: waiting.id });
  const failure = async () => (await api.delivery(waiting.id)).legs[0]?.failure;
  await expect.poll(failure, POLL).toMatchObject({ category: 'SYSTEM', code: 'CONTENT_LOST' });
  expect((await failure())?.message).toContain(`is not in ${folder()}`);
  expect((await api.delivery(waiting.id)).history[0]?.data).toHaveProperty('stored');
  await api.until(waiting.id, 'FAILED', 90_000);
  for (const file of lost) await rename(`${file}.away`, file);
  await api.act('retryDelivery', { id: waiting.id });
  await api.until(waiting.id, 'SENT', 90_000);
  expect(received('the second')).toEqual([second.attachment]);

  // Where it cannot be stored nothing is accepted, and what is small is.
  await rename(folder(), `${folder()}.away`);
  await writeFile(folder(), 'no folder');
  const refused = `mutation ($input: RequestDeliveryInput!) { requestDelivery(input: $input) { delivery { id } } }`;
  const input = { organizationId: 'hospital-001', to: [joe], content: letter('refused').content };
  const { errors } = await waybill.graphql(refused, { input });
  expect(errors.map(({ extensions }) => extensions?.code)).toEqual(['UNAVAILABLE']);
  await api.until((await api.request({ to: [joe], content: { subject: 'small', text: 'hello' } })).id, 'SENT', 60_000);
  await rm(folder());
  await rename(`${folder()}.away`, folder());

  // kill -9 while contents are stored and events appended.
  const accepted = new Map<string, Buffer>();
  const letters = Array.from({ length: 12 }, (_, n) => letter(`number ${n}`, 150_000));
  const asked = Promise.allSettled(
    letters.map(async ({ attachment, content }) => {
      await api.request({ to: [joe], content });
      accepted.set(content.subject, attachment);
    }),
  );
  await expect.poll(() => accepted.size, { timeout: 60_000, interval: 1 }).toBeGreaterThanOrEqual(4);
  await waybill.kill();
  await asked;
  waybill = await start();
  api = client(waybill);
  for (const [subject, attachment] of accepted) {
    await expect.poll(() => received(subject).length, POLL).toBeGreaterThanOrEqual(1);
    for (const each of received(subject)) expect(each.equals(attachment)).toBe(true);
  }

  // With a person go her files, and nobody else's.
  const keyOf = (file: string) => file.split('/').at(-1)?.split('.')[0];
  const hers = new Set(lost.map(keyOf));
  expect(hers.size).toBe(1);
  const others = (await files()).filter((file) => !hers.has(keyOf(file)));
  const args = `organizationId: "hospital-001", recipient: { channel: EMAIL, address: "jane.roe@example.com" }`;
  await waybill.ask(`mutation { eraseSubject(${args}, reason: "she asked for it") { keysDestroyed } }`);
  expect((await files()).sort()).toEqual(others.sort());
  expect((await api.delivery(sent.id)).history[0]?.data).toMatchObject({ content: { text: '[erased]' } });
  await waybill.stop();

  // Another folder is not taken for theirs.
  await rename(folder(), `${folder()}.away`);
  await mkdir(folder());
  await expect(start()).rejects.toThrow('are not those in');
  waybill = undefined;
});
