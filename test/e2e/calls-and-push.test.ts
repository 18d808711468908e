import { createECDH, generateKeyPairSync } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import twilio from 'twilio';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../support/logs.js';
import { type ApnsRecorder, startApnsRecorder } from '../support/peers/apns-recorder.js';
import { type FcmRecorder, startFcmRecorder } from '../support/peers/fcm-recorder.js';
import { type PushService, startPushService } from '../support/peers/push-service.js';
import { startTwilioRecorder, type TwilioRecorder } from '../support/peers/twilio-recorder.js';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';
import { client, ORGANIZATION, types } from './journeys.js';

/** Calls and push messages, from the request to the provider and back, through the running product. */
const PUBLIC = 'https://waybill.example.com';
let waybill: WaybillProcess;
let phone: TwilioRecorder;
let fcm: FcmRecorder;
let apple: ApnsRecorder;
let service: PushService;
let folder: Awaited<ReturnType<typeof temporaryFolder>>;
const google = generateKeyPairSync('rsa', { modulusLength: 2_048 });
const p256 = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
const APP = { teamId: 'TEAM012345', keyId: 'KEY0123456', topic: 'org.hospital.app' };
const curve = createECDH('prime256v1');
const vapid = {
  subject: 'mailto:waybill@hospital.example',
  publicKey: curve.generateKeys('base64url'),
  privateKey: Buffer.from(curve.getPrivateKey('hex').padStart(64, '0'), 'hex').toString('base64url'),
};
const device = (name: string) => `${name}:APA91bHun4MxP5egoKMwt2KZFBaFUH`;
const pem = (key: typeof google.privateKey) => key.export({ type: 'pkcs8', format: 'pem' });
const fcmAccount = (to: string) => ({
  service: 'fcm',
  projectId: fcm.projectId,
  clientEmail: 'waybill@hospital.iam.gserviceaccount.com',
  privateKey: pem(google.privateKey),
  to,
  endpoint: fcm.url,
  tokenEndpoint: `${fcm.url}/token`,
});
const apnsAccount = (to: string) => ({
  service: 'apns',
  ...APP,
  privateKey: pem(p256.privateKey),
  to,
  endpoint: apple.url,
});
let api: ReturnType<typeof client>;

beforeAll(async () => {
  [phone, fcm, apple, service] = await Promise.all([
    startTwilioRecorder(),
    startFcmRecorder(google.publicKey),
    startApnsRecorder(p256.publicKey, APP),
    startPushService(vapid.publicKey),
  ]);
  folder = await temporaryFolder();
  const config = join(folder.path, 'waybill.yaml');
  const providers = [
    { name: 'android', channel: 'PUSH', config: { push: fcmAccount(device('nobody')) } },
    { name: 'ios', channel: 'PUSH', priority: 2, config: { push: apnsAccount('00'.repeat(32)) } },
    { name: 'browsers', channel: 'WEB_PUSH', config: { webPush: { vapid, to: service.subscription } } },
  ];
  await writeFile(config, JSON.stringify({ providers }));
  waybill = await startWaybill({ env: { WAYBILL_PUBLIC_URL: PUBLIC, WAYBILL_CONFIG: config } });
  api = client(waybill);
}, 180_000);
afterAll(async () => {
  await waybill?.stop();
  await Promise.all([phone?.close(), fcm?.close(), apple?.close(), service?.close()]);
  await folder?.remove();
});

describe('a call', () => {
  it('is made, and the delivery is DELIVERED when the key is pressed', async () => {
    const { id } = await api.destination('VOICE', {
      voice: {
        service: 'twilio',
        accountSid: phone.accountSid,
        authToken: phone.authToken,
        endpoint: phone.url,
        from: '+14155552672',
        to: '+14155552671',
        confirm: { prompt: 'Press 1 to confirm.', thanks: 'Thank you.' },
      },
    });
    const sent = await api.until((await api.request({ to: [{ destinationId: id }] })).id, 'SENT');
    expect(sent.attempts).toMatchObject([{ channel: 'VOICE', provider: 'twilio', status: 'SUCCEEDED' }]);
    const [call] = phone.calls;
    const url = /<Redirect>([^<]+)</.exec(call?.Twiml ?? '')?.[1]?.replaceAll('&#38;', '&') ?? '';
    expect(url.startsWith(`${PUBLIC}/callbacks/twilio/${id}?`)).toBe(true);
    const fields = { CallSid: call?.sid ?? '', CallStatus: 'in-progress', Digits: '1', To: '+14155552671' };
    const answer = await fetch(url.replace(PUBLIC, waybill.url), {
      method: 'POST',
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        'x-twilio-signature': twilio.getExpectedTwilioSignature(phone.authToken, url, fields),
      },
      body: new URLSearchParams(fields).toString(),
    });
    expect(answer.status).toBe(200);
    expect(await answer.text()).toContain('Thank you.');
    const done = await api.until(sent.id, 'DELIVERED');
    expect(types(done)).toEqual(['DeliveryRequested', 'AttemptStarted', 'AttemptSucceeded', 'Delivered']);
  });
});

describe('a push message', () => {
  const toDevice = (to: string) => api.destination('PUSH', { push: fcmAccount(to) });

  it('goes to a device, no longer than it is good for', async () => {
    const { id } = await toDevice(device('ada'));
    const expiresAt = new Date(Date.now() + 3_600_000).toISOString();
    const content = { subject: 'Ward 4', text: 'Bed 2', data: { bed: 2 } };
    const requested = await api.request({ to: [{ destinationId: id }], content, expiresAt });
    const sent = await api.until(requested.id, 'SENT');
    const [message] = fcm.received;
    expect(message).toMatchObject({
      token: device('ada'),
      notification: { title: 'Ward 4', body: 'Bed 2' },
      data: { bed: '2' },
    });
    const seconds = Number.parseInt(String(message?.android?.ttl), 10);
    expect(seconds).toBeLessThanOrEqual(3_600);
    expect(seconds).toBeGreaterThan(3_000);
    expect(sent.attempts[0]?.providerMessageId).toMatch(/^projects\//);
  });

  it('to a device without the app fails for good, and its destination is disabled', async () => {
    const { id } = await toDevice(device('eve'));
    fcm.gone.add(device('eve'));
    const failed = await api.until((await api.request({ to: [{ destinationId: id }] })).id, 'FAILED');
    expect(failed.legs[0]?.failure).toMatchObject({ category: 'PERMANENT', code: 'FCM_UNREGISTERED' });
    const state = async () =>
      (await waybill.ask<{ destination: object }>(`{ destination(id: "${id}") { enabled } }`)).destination;
    await expect.poll(state, { timeout: 20_000 }).toEqual({ enabled: false });
  });

  it('goes to the provider that a bare token is of, and its token gets nothing any more when the device is gone', async () => {
    const token = 'a1b2c3d4'.repeat(8);
    const to = [{ channel: 'PUSH', address: token }];
    const content = { subject: 'Ward 4' };
    const sent = await api.until((await api.request({ to, content })).id, 'SENT');
    expect(sent.attempts.at(-1)).toMatchObject({ provider: 'ios', status: 'SUCCEEDED' });
    expect(apple.received).toMatchObject([{ device: token, payload: { aps: { alert: { title: 'Ward 4' } } } }]);

    apple.respond = () => ({ status: 410, reason: 'Unregistered' });
    const failed = await api.until((await api.request({ to, content })).id, 'FAILED');
    expect(failed.legs[0]?.failure).toMatchObject({ category: 'PERMANENT', code: 'APNS_UNREGISTERED' });
    await expect.poll(suppressions, { timeout: 20_000 }).toContainEqual({
      channel: 'PUSH',
      address: token,
      reason: 'BOUNCE',
      deliveryId: failed.id,
    });
    const asked = apple.requests.length;
    await expect(api.request({ to, content })).rejects.toThrow(/suppression list/);
    expect(apple.requests).toHaveLength(asked);
  });
});

const suppressions = async () => {
  const { suppressions: list } = await waybill.ask<{ suppressions: { edges: { node: Record<string, string> }[] } }>(
    `{ suppressions(organizationId: "${ORGANIZATION}") { edges { node { channel address reason deliveryId } } } }`,
  );
  return list.edges.map(({ node }) => node);
};

describe('a message to a browser', () => {
  it('is read there, and a subscription that is gone disables its destination', async () => {
    const { id } = await api.destination('WEB_PUSH', { webPush: { vapid, to: service.subscription } });
    const content = { subject: 'Ward 4', text: 'Bed 2', data: { bed: 2 } };
    const shown = await waybill.ask<{ destination: object }>(`{ destination(id: "${id}") { config } }`);
    expect(JSON.stringify(shown)).not.toContain(service.subscription.keys.auth);
    await api.until((await api.request({ to: [{ destinationId: id }], content })).id, 'SENT');
    expect(service.messages().map((text) => JSON.parse(text))).toEqual([
      { title: 'Ward 4', body: 'Bed 2', data: { bed: 2 } },
    ]);
    const address = JSON.stringify(service.subscription);
    await api.until((await api.request({ to: [{ channel: 'WEB_PUSH', address }], content })).id, 'SENT');
    expect(service.messages()).toHaveLength(2);

    service.unsubscribe();
    const failed = await api.until((await api.request({ to: [{ destinationId: id }], content })).id, 'FAILED');
    expect(failed.legs[0]?.failure).toMatchObject({ category: 'PERMANENT', code: 'SUBSCRIPTION_GONE' });
    const enabled = async () =>
      (await waybill.ask<{ destination: object }>(`{ destination(id: "${id}") { enabled } }`)).destination;
    await expect.poll(enabled, { timeout: 20_000 }).toEqual({ enabled: false });

    const { id: gone } = await api.request({ to: [{ channel: 'WEB_PUSH', address }], content });
    await api.until(gone, 'FAILED');
    await expect.poll(suppressions).toContainEqual(expect.objectContaining({ channel: 'WEB_PUSH', deliveryId: gone }));
    // However the browser writes it, it is the same subscription.
    const respelled = JSON.stringify({ keys: service.subscription.keys, endpoint: service.subscription.endpoint });
    const again = api.request({ to: [{ channel: 'WEB_PUSH', address: respelled }], content });
    await expect(again).rejects.toThrow(/suppression list/);
  });
});
