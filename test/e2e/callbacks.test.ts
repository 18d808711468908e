import { createSign, generateKeyPairSync, randomUUID } from 'node:crypto';
import twilio from 'twilio';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type SendGridRecorder, startSendGridRecorder } from '../support/peers/sendgrid-recorder.js';
import { startTwilioRecorder, type TwilioRecorder } from '../support/peers/twilio-recorder.js';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';
import { client, ORGANIZATION, types } from './journeys.js';

/** What providers report comes in over HTTP, and the delivery, what depends on it and the suppression list follow. */
const PUBLIC = 'https://waybill.example.com';
const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });

let waybill: WaybillProcess;
let sendgrid: SendGridRecorder;
let twilioPeer: TwilioRecorder;
let api: ReturnType<typeof client>;

beforeAll(async () => {
  [waybill, sendgrid, twilioPeer] = await Promise.all([
    startWaybill({ env: { WAYBILL_PUBLIC_URL: PUBLIC } }),
    startSendGridRecorder(),
    startTwilioRecorder(),
  ]);
  api = client(waybill);
}, 180_000);
afterAll(async () => {
  await waybill?.stop();
  await Promise.all([sendgrid?.close(), twilioPeer?.close()]);
});

const byMail = (...recipients: string[]) =>
  api.destination('EMAIL', {
    email: {
      service: 'sendgrid',
      apiKey: sendgrid.apiKey,
      endpoint: sendgrid.url,
      from: 'reports@sender.example',
      webhookPublicKey: publicKey.export({ format: 'der', type: 'spki' }).toString('base64'),
      recipients,
    },
  });
/** What the provider was told of the message comes back with its events. */
const eventOf = (delivery: string, event: string, email: string, more: object = {}) => ({
  event,
  email,
  timestamp: Math.floor(Date.now() / 1_000),
  sg_event_id: randomUUID(),
  ...sendgrid.received.find((mail) => mail.custom_args?.deliveryId === delivery)?.custom_args,
  ...more,
});
const post = (path: string, body: string, headers: Record<string, string>) =>
  fetch(`${waybill.url}${path}`, { method: 'POST', body, headers });
const tell = async (destination: string, ...events: object[]) => {
  const body = JSON.stringify(events);
  const timestamp = String(Math.floor(Date.now() / 1_000));
  const signature = createSign('sha256')
    .update(timestamp + body)
    .sign(privateKey, 'base64');
  const { status } = await post(`/callbacks/sendgrid/${destination}`, body, {
    'content-type': 'application/json',
    'x-twilio-email-event-webhook-timestamp': timestamp,
    'x-twilio-email-event-webhook-signature': signature,
  });
  return status;
};
const suppressions = async () => {
  const { suppressions: list } = await waybill.ask<{ suppressions: { edges: { node: Record<string, string> }[] } }>(
    `{ suppressions(organizationId: "${ORGANIZATION}") { edges { node { channel address reason deliveryId by } } } }`,
  );
  return list.edges.map(({ node }) => node);
};

describe('an e-mail that was accepted', () => {
  it('is delivered when the provider says so, and what depends on it goes out', async () => {
    const destination = await byMail('ada@example.com');
    const first = await api.request({ to: [{ destinationId: destination.id }] });
    await api.until(first.id, 'SENT');
    const second = await api.request({ to: [{ destinationId: destination.id }], dependsOn: [first.id] });
    expect(second.status).toBe('HELD');
    const delivered = eventOf(first.id, 'delivered', 'ada@example.com');
    const opened = eventOf(first.id, 'open', 'ada@example.com');
    // Out of order, and twice.
    expect(await tell(destination.id, opened)).toBe(204);
    expect(await tell(destination.id, delivered, opened, delivered)).toBe(204);
    const done = await api.until(first.id, 'DELIVERED');
    expect(types(done)).toEqual(['DeliveryRequested', 'AttemptStarted', 'AttemptSucceeded', 'Opened', 'Delivered']);
    await api.until(second.id, 'SENT');
    const { delivery } = await waybill.ask<{ delivery: { legs: { engagement: object }[] } }>(
      `{ delivery(id: "${first.id}") { legs { engagement { opens clicks firstOpenedAt } } } }`,
    );
    expect(delivery.legs).toEqual([{ engagement: { opens: 1, clicks: 0, firstOpenedAt: expect.any(String) } }]);
  });

  it('has bounced when the provider says so; its address gets nothing any more until somebody releases it', async () => {
    const destination = await byMail('Gone@example.com');
    const sent = await api.request({ to: [{ destinationId: destination.id }] });
    await api.until(sent.id, 'SENT');
    const bounce = eventOf(sent.id, 'bounce', 'gone@example.com', { type: 'bounce', reason: '550 no such mailbox' });
    expect(await tell(destination.id, bounce)).toBe(204);
    const bounced = await api.until(sent.id, 'BOUNCED');
    expect(bounced.legs[0]?.failure).toEqual({
      category: 'PERMANENT',
      code: 'SENDGRID_BOUNCE',
      message: '550 no such mailbox',
    });
    await expect.poll(suppressions, { timeout: 15_000 }).toContainEqual({
      channel: 'EMAIL',
      address: 'gone@example.com',
      reason: 'BOUNCE',
      deliveryId: sent.id,
      by: 'provider:sendgrid',
    });
    const before = sendgrid.received.length;
    const again = await api.request({ to: [{ destinationId: destination.id }] });
    const failed = await api.until(again.id, 'FAILED');
    expect(failed.legs[0]?.failure).toMatchObject({ category: 'PERMANENT', code: 'SUPPRESSED' });
    expect(sendgrid.received).toHaveLength(before);

    await waybill.ask(
      `mutation { releaseAddress(organizationId: "${ORGANIZATION}", channel: EMAIL, address: "gone@example.com", note: "is back") }`,
    );
    // The provider repeats its old report: it is older than the release.
    expect(await tell(destination.id, { ...bounce, timestamp: bounce.timestamp - 60 })).toBe(204);
    expect((await suppressions()).map(({ address }) => address)).not.toContain('gone@example.com');
    const free = await api.request({ to: [{ destinationId: destination.id }] });
    await api.until(free.id, 'SENT');
  });

  it('goes to those who are not on the list', async () => {
    await waybill.ask(
      `mutation { suppressAddress(organizationId: "${ORGANIZATION}", channel: EMAIL, address: "eve@example.com") }`,
    );
    const destination = await byMail('eve@example.com', 'grace@example.com');
    const sent = await api.request({ to: [{ destinationId: destination.id }] });
    await api.until(sent.id, 'SENT');
    expect(sendgrid.received.at(-1)?.personalizations[0]?.to).toEqual([{ email: 'grace@example.com' }]);
  });
});

describe('a callback', () => {
  it('that is forged is refused, recorded, and changes nothing', async () => {
    const destination = await byMail('linus@example.com');
    const sent = await api.request({ to: [{ destinationId: destination.id }] });
    await api.until(sent.id, 'SENT');
    const body = JSON.stringify([eventOf(sent.id, 'delivered', 'linus@example.com')]);
    const headers = {
      'content-type': 'application/json',
      'x-twilio-email-event-webhook-timestamp': String(Math.floor(Date.now() / 1_000)),
      'x-twilio-email-event-webhook-signature': Buffer.from('forged').toString('base64'),
    };
    expect((await post(`/callbacks/sendgrid/${destination.id}`, body, headers)).status).toBe(403);
    expect((await post(`/callbacks/twilio/${destination.id}`, body, headers)).status).toBe(404);
    expect((await post(`/callbacks/sendgrid/${randomUUID()}`, body, headers)).status).toBe(404);
    expect((await api.delivery(sent.id)).status).toBe('SENT');
    await expect.poll(() => waybill.output()).toContain('callback.sendgrid');
  });

  it('about a message that is not known yet is to be sent again', async () => {
    const destination = await byMail('donald@example.com');
    const event = { event: 'delivered', email: 'x@example.com', sg_event_id: 'e', sg_message_id: 'unknown.1' };
    expect(await tell(destination.id, { ...event, timestamp: Math.floor(Date.now() / 1_000) })).toBe(503);
    expect(await tell(destination.id, { ...event, timestamp: Math.floor(Date.now() / 1_000) - 3_600 })).toBe(204);
  });
});

describe('a text message', () => {
  it('is confirmed at the address that Twilio was given, and STOP ends it', async () => {
    const { accountSid, authToken } = twilioPeer;
    const to = '+14155552671';
    const destination = await api.destination('SMS', {
      sms: { service: 'twilio', accountSid, authToken, endpoint: twilioPeer.url, from: '+14155552672', to },
    });
    const sent = await api.request({ to: [{ destinationId: destination.id }] });
    await api.until(sent.id, 'SENT');
    const created = twilioPeer.requests.findLast(({ method }) => method === 'POST');
    const url = new URLSearchParams(created?.raw).get('StatusCallback') ?? '';
    expect(url).toContain(`${PUBLIC}/callbacks/twilio/${destination.id}?delivery=${sent.id}`);
    const call = (at: string, fields: Record<string, string>) =>
      post(at.slice(PUBLIC.length), new URLSearchParams(fields).toString(), {
        'content-type': 'application/x-www-form-urlencoded',
        'x-twilio-signature': twilio.getExpectedTwilioSignature(authToken, at, fields),
      });
    expect((await call(url, { MessageSid: 'SM1', MessageStatus: 'delivered', To: to })).status).toBe(204);
    await api.until(sent.id, 'DELIVERED');

    const incoming = `${PUBLIC}/callbacks/twilio/${destination.id}`;
    const stop = await call(incoming, { MessageSid: 'SM2', From: to, Body: 'Stop' });
    expect(await stop.text()).toBe('<Response/>');
    const refused = await api.request({ to: [{ destinationId: destination.id }] });
    expect((await api.until(refused.id, 'FAILED')).legs[0]?.failure?.code).toBe('SUPPRESSED');
    await call(incoming, { MessageSid: 'SM3', From: to, Body: 'START' });
    const welcome = await api.request({ to: [{ destinationId: destination.id }] });
    await api.until(welcome.id, 'SENT');
  });
});
