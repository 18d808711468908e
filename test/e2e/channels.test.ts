import { createECDH, generateKeyPairSync } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startFcmRecorder } from '../support/peers/fcm-recorder.js';
import { unusedPort } from '../support/peers/http-peer.js';
import { startPushService } from '../support/peers/push-service.js';
import { startSftpServer } from '../support/peers/sftp-server.js';
import { startSlackRecorder } from '../support/peers/slack-recorder.js';
import { startSmtpPeer } from '../support/peers/smtp.js';
import { startTwilioRecorder } from '../support/peers/twilio-recorder.js';
import { startWebhookReceiver } from '../support/peers/webhook-receiver.js';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';
import { client, fastRetry, ORGANIZATION } from './journeys.js';

/** One delivery through every type of channel there is, and one that gets through at its fourth. */
let waybill: WaybillProcess;
let peers: Awaited<ReturnType<typeof startPeers>>;
let api: ReturnType<typeof client>;

const google = generateKeyPairSync('rsa', { modulusLength: 2_048 });
const curve = createECDH('prime256v1');
const vapid = {
  subject: 'mailto:waybill@hospital.example',
  publicKey: curve.generateKeys('base64url'),
  privateKey: Buffer.from(curve.getPrivateKey('hex').padStart(64, '0'), 'hex').toString('base64url'),
};
const LOGIN = { username: 'hospital', password: 'a-password' };
const DEVICE = 'ada:APA91bHun4MxP5egoKMwt2KZFBaFUH';
const REPORT = Buffer.from('%PDF-1.4\n% a report\n%%EOF\n');

async function startPeers() {
  const [web, teams, partner, smtp, phone, fcm, browser, slack, sftp] = await Promise.all([
    startWebhookReceiver(),
    startWebhookReceiver({ respond: () => ({ status: 202 }) }),
    startWebhookReceiver(),
    startSmtpPeer(),
    startTwilioRecorder(),
    startFcmRecorder(google.publicKey),
    startPushService(vapid.publicKey),
    startSlackRecorder('xoxb-token'),
    startSftpServer(LOGIN),
  ]);
  return { web, teams, partner, smtp, phone, fcm, browser, slack, sftp };
}

beforeAll(async () => {
  peers = await startPeers();
  waybill = await startWaybill();
  api = client(waybill);
}, 180_000);
afterAll(async () => {
  await waybill?.stop();
  await Promise.all(Object.values(peers ?? {}).map((peer) => peer.close()));
});

/** A destination of each type, in the order of the contract's enum. */
async function everyDestination(): Promise<Record<string, string>> {
  const { web, teams, partner, smtp, phone, fcm, browser, slack, sftp } = peers;
  const account = { service: 'twilio', accountSid: phone.accountSid, authToken: phone.authToken, endpoint: phone.url };
  const numbers = { from: '+15005550006', to: '+14155552671' };
  const app = { projectId: fcm.projectId, clientEmail: 'waybill@hospital.iam.gserviceaccount.com' };
  const privateKey = google.privateKey.export({ type: 'pkcs8', format: 'pem' });
  const from = 'audit@hospital.com';
  const configs = {
    EMAIL: { email: { service: 'smtp', host: smtp.host, port: smtp.port, from, recipients: ['ada@hospital.com'] } },
    SMS: { sms: { ...account, ...numbers } },
    PUSH: {
      push: { service: 'fcm', ...app, privateKey, to: DEVICE, endpoint: fcm.url, tokenEndpoint: `${fcm.url}/token` },
    },
    IN_APP: { inApp: { recipient: 'ada' } },
    WEB_PUSH: { webPush: { vapid, to: browser.subscription } },
    VOICE: { voice: { ...account, ...numbers } },
    SLACK: { slack: { token: 'xoxb-token', channel: 'C0123456789', endpoint: `${slack.origin}/api/` } },
    TEAMS: { teams: { url: teams.url } },
    WEBHOOK: { webhook: { url: web.url } },
    SFTP: { sftp: { host: sftp.host, port: sftp.port, ...LOGIN, hostKeyFingerprint: sftp.fingerprint, path: 'in/' } },
    STORAGE: { storage: { provider: 'local', path: '/reports/' } },
    DOWNLOAD: { download: {} },
    API: { api: { url: partner.url } },
  };
  const made: Record<string, string> = {};
  for (const [type, config] of Object.entries(configs)) made[type] = (await api.destination(type, config)).id;
  return made;
}

it('one delivery goes through every type of channel', { timeout: 120_000 }, async () => {
  const destinations = await everyDestination();
  const { __type: channels } = await waybill.ask<{ __type: { enumValues: { name: string }[] } }>(
    '{ __type(name: "ChannelType") { enumValues { name } } }',
  );
  expect(Object.keys(destinations)).toEqual(channels.enumValues.map(({ name }) => name));

  const attachments = [{ filename: 'report.pdf', contentType: 'application/pdf', base64: REPORT.toString('base64') }];
  const { id } = await api.request({
    to: Object.values(destinations).map((destinationId) => ({ destinationId })),
    content: { subject: 'Report', text: 'The report is ready', attachments },
  });
  const hasEnded = async () => (await api.delivery(id)).completedAt !== null;
  await expect.poll(hasEnded, { timeout: 60_000 }).toBe(true);
  const sent = await api.delivery(id);
  expect(
    Object.fromEntries(sent.legs.map(({ channel, status, failure }) => [channel, failure?.code ?? status])),
  ).toEqual(
    Object.fromEntries(
      Object.keys(destinations).map((channel) => [channel, SAYS_NO_MORE.has(channel) ? 'SENT' : 'DELIVERED']),
    ),
  );

  const { web, teams, partner, smtp, phone, fcm, browser, slack, sftp } = peers;
  const [mail] = smtp.received;
  expect([mail?.mail.subject, mail?.mail.attachments[0]?.content.equals(REPORT)]).toEqual(['Report', true]);
  expect(phone.received.map(({ Body }) => Body)).toEqual(['The report is ready']);
  expect(phone.calls[0]?.Twiml).toContain('The report is ready');
  expect(fcm.received[0]).toMatchObject({ token: DEVICE, notification: { body: 'The report is ready' } });
  expect(browser.messages().join()).toContain('The report is ready');
  expect(JSON.stringify(slack.posted)).toContain('The report is ready');
  expect(teams.received[0]?.raw).toContain('The report is ready');
  expect(web.received[0]?.headers['webhook-id']).toMatch(new RegExp(`^${id}_`));
  expect(partner.received).toHaveLength(1);
  const [[, uploaded] = []] = [...sftp.files].filter(([path]) => path.includes(id));
  expect(uploaded?.bytes.equals(REPORT)).toBe(true);
  const folder = join(waybill.dataDir, 'files', ORGANIZATION, 'reports');
  const [stored] = await readdir(folder);
  expect((await readFile(join(folder, stored ?? ''))).equals(REPORT)).toBe(true);
  const { downloads } = await waybill.ask<{ downloads: { files: { url: string }[] }[] }>(
    `{ downloads(deliveryId: "${id}") { files { url } } }`,
  );
  const file = await fetch(new URL(downloads[0]?.files[0]?.url ?? '', waybill.url));
  expect(Buffer.from(await file.arrayBuffer()).equals(REPORT)).toBe(true);
});

/** For these, that the provider has accepted it is all that is known without a report of its own. */
const SAYS_NO_MORE = new Set(['EMAIL', 'SMS', 'PUSH', 'WEB_PUSH', 'VOICE', 'SLACK', 'TEAMS', 'API']);

it('one that three channels fail is delivered by the fourth, in plan order', { timeout: 60_000 }, async () => {
  const nobody = await unusedPort();
  const retry = { retry: { ...fastRetry, maxAttempts: 1 } };
  const from = 'audit@hospital.com';
  const dead = { service: 'smtp', host: '127.0.0.1', port: nobody, from, recipients: ['ada@hospital.com'] };
  const { id: hook } = await api.destination('WEBHOOK', { webhook: { url: `http://127.0.0.1:${nobody}/` } }, retry);
  const { id: mail } = await api.destination('EMAIL', { email: dead }, retry);
  const { host, port, fingerprint } = peers.sftp;
  const wrong = { host, port, username: 'hospital', password: 'wrong', hostKeyFingerprint: fingerprint, path: 'in/' };
  const { id: sftp } = await api.destination('SFTP', { sftp: wrong }, retry);
  const { id: storage } = await api.destination('STORAGE', { storage: { provider: 'local', path: '/fallback/' } });
  const fallback = [mail, sftp, storage].map((destinationId) => ({ destinationId }));
  const { id } = await api.request({ to: [{ destinationId: hook, fallback }] });
  const { attempts, legs } = await api.until(id, 'DELIVERED', 40_000);
  expect(attempts.map(({ channel, status, error }) => [channel, status, error?.category])).toEqual([
    ['WEBHOOK', 'FAILED', 'NETWORK'],
    ['EMAIL', 'FAILED', 'NETWORK'],
    ['SFTP', 'FAILED', 'AUTHENTICATION'],
    ['STORAGE', 'SUCCEEDED', undefined],
  ]);
  expect(legs).toMatchObject([{ channel: 'STORAGE', status: 'DELIVERED' }]);
});
