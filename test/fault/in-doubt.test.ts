import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { client, types } from '../e2e/journeys.js';
import { startSmtpPeer } from '../support/peers/smtp.js';
import { startTwilioRecorder } from '../support/peers/twilio-recorder.js';
import { startWebhookReceiver } from '../support/peers/webhook-receiver.js';
import { removeDataDir, startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * FAULTS.md, row 2: the process dies after the provider has had the call and before the outcome is recorded. What
 * protects the receiver is the channel's own idempotency; where it has none, the attempt is in doubt, and shown so.
 */
const dataDir = await mkdtemp(join(tmpdir(), 'waybill-in-doubt-'));
let waybill: WaybillProcess | undefined;

afterAll(async () => {
  await waybill?.stop();
  await removeDataDir(dataDir);
});

test('kill -9 between the call and its outcome', { timeout: 90_000 }, async () => {
  const [receiver, smtp, twilio] = await Promise.all([startWebhookReceiver(), startSmtpPeer(), startTwilioRecorder()]);
  let mails = 0;
  smtp.onMessage = () => {
    mails++;
    return 'silence';
  };
  receiver.respond = () => 'silence';
  twilio.respond = () => 'silence';

  waybill = await startWaybill({ dataDir });
  let api = client(waybill);
  const from = 'audit@hospital.com';
  const email = await api.destination('EMAIL', {
    email: { service: 'smtp', host: smtp.host, port: smtp.port, from, recipients: ['a@b.example'] },
  });
  const { accountSid, authToken, url: endpoint } = twilio;
  const sms = await api.destination('SMS', {
    sms: { service: 'twilio', accountSid, authToken, from: '+15005550006', to: '+14155552671', endpoint },
  });
  const to = [{ destinationId: email.id }];
  const mailed = await api.request({ to });
  const texted = await api.request({ to: [{ destinationId: sms.id }] });
  const posted = await api.request({ to: [{ channel: 'WEBHOOK', address: receiver.url }] });
  await expect
    .poll(() => [mails, twilio.requests.length, receiver.received.length], { timeout: 10_000, interval: 10 })
    .toEqual([1, 1, 1]);
  await waybill.kill();

  smtp.onMessage = () => undefined;
  receiver.respond = () => ({ status: 204 });
  twilio.respond = () => undefined;
  waybill = await startWaybill({ dataDir });
  api = client(waybill);

  // The receiver of a webhook knows it by its id: sent again, seen as one.
  const delivered = await api.until(posted.id, 'DELIVERED');
  expect(receiver.received.map(({ headers }) => headers['webhook-id'])).toEqual([`${posted.id}_1`, `${posted.id}_1`]);
  expect(delivered.attempts).toMatchObject([{ number: 1, status: 'SUCCEEDED' }]);

  // An e-mail that comes twice is better than one that does not come: sent again, and the doubt is on record.
  const sent = await api.until(mailed.id, 'SENT');
  expect(sent.attempts.map(({ status }) => status)).toEqual(['IN_DOUBT', 'SUCCEEDED']);
  expect(types(sent)).toEqual([
    'DeliveryRequested',
    'AttemptStarted',
    'AttemptInDoubt',
    'AttemptStarted',
    'AttemptSucceeded',
  ]);

  // A text message costs money and sleep: a person decides.
  const held = await api.until(texted.id, 'HELD');
  expect(held.holds).toMatchObject([{ reason: 'doubt' }]);
  expect(held.attempts.map(({ status }) => status)).toEqual(['IN_DOUBT']);
  expect(twilio.requests).toHaveLength(1);
  await api.act('retryDelivery', { id: texted.id });
  expect((await api.until(texted.id, 'SENT')).attempts.map(({ status }) => status)).toEqual(['IN_DOUBT', 'SUCCEEDED']);

  await Promise.all([receiver.close(), smtp.close(), twilio.close()]);
});
