import { generateKeyPairSync } from 'node:crypto';
import twilio from 'twilio';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type FcmRecorder, startFcmRecorder } from '../support/peers/fcm-recorder.js';
import { startTwilioRecorder, type TwilioRecorder } from '../support/peers/twilio-recorder.js';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';
import { client, types } from './journeys.js';

/** Calls and push messages, from the request to the provider and back, through the running product. */
const PUBLIC = 'https://waybill.example.com';
let waybill: WaybillProcess;
let phone: TwilioRecorder;
let fcm: FcmRecorder;
const google = generateKeyPairSync('rsa', { modulusLength: 2_048 });
let api: ReturnType<typeof client>;

beforeAll(async () => {
  [phone, fcm] = await Promise.all([startTwilioRecorder(), startFcmRecorder(google.publicKey)]);
  waybill = await startWaybill({ env: { WAYBILL_PUBLIC_URL: PUBLIC } });
  api = client(waybill);
}, 180_000);
afterAll(async () => {
  await waybill?.stop();
  await Promise.all([phone?.close(), fcm?.close()]);
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
  const device = (name: string) => `${name}:APA91bHun4MxP5egoKMwt2KZFBaFUH`;
  const toDevice = (to: string) =>
    api.destination('PUSH', {
      push: {
        service: 'fcm',
        projectId: fcm.projectId,
        clientEmail: 'waybill@hospital.iam.gserviceaccount.com',
        privateKey: google.privateKey.export({ type: 'pkcs8', format: 'pem' }),
        to,
        endpoint: fcm.url,
        tokenEndpoint: `${fcm.url}/token`,
      },
    });

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
});
