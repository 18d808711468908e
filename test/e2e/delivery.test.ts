import { createPublicKey, verify } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { unusedPort } from '../support/peers/http-peer.js';
import { type SmtpPeer, startSmtpPeer } from '../support/peers/smtp.js';
import { startTwilioRecorder, type TwilioRecorder } from '../support/peers/twilio-recorder.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';
import { client, fastRetry, ORGANIZATION, types } from './journeys.js';

/** Deliveries from the request to the receiver and back into the read model, through the running product. */
let waybill: WaybillProcess;
let receiver: WebhookReceiver;
let smtp: SmtpPeer;
let twilio: TwilioRecorder;
let api: ReturnType<typeof client>;

beforeAll(async () => {
  [waybill, receiver, smtp, twilio] = await Promise.all([
    startWaybill(),
    startWebhookReceiver(),
    startSmtpPeer(),
    startTwilioRecorder(),
  ]);
  api = client(waybill);
});

afterAll(async () => {
  await waybill?.stop();
  await Promise.all([receiver?.close(), smtp?.close(), twilio?.close()]);
});

const toReceiver = (path: string) => ({ channel: 'WEBHOOK', address: `${receiver.url}${path}` });
const at = (path: string) => receiver.received.filter((request) => request.path.endsWith(path));
/** Answers for one path only, so that tests do not disturb each other. */
function answering(path: string, ...statuses: (number | { status: number; headers: Record<string, string> })[]) {
  const before = receiver.respond;
  receiver.respond = (webhook) => {
    if (!webhook.path.endsWith(path)) return before(webhook);
    const next = statuses.length > 1 ? statuses.shift() : statuses[0];
    return typeof next === 'number' ? { status: next } : (next ?? { status: 204 });
  };
}
const email = (more: object = {}) => ({
  email: {
    service: 'smtp',
    host: smtp.host,
    port: smtp.port,
    from: 'audit@hospital.com',
    recipients: ['a@b.example'],
    ...more,
  },
});

describe('a webhook', () => {
  it('is delivered, signed so that the receiver can check it, and its steps are in the history', async () => {
    const destination = await api.destination('WEBHOOK', { webhook: { url: `${receiver.url}/signed` } });
    const requested = await api.request({
      to: [{ destinationId: destination.id }],
      content: { subject: 's', data: { n: 1 } },
    });
    expect(requested).toMatchObject({ status: 'QUEUED', replayed: false });
    const delivered = await api.until(requested.id, 'DELIVERED');
    expect(types(delivered)).toEqual(['DeliveryRequested', 'AttemptSucceeded']);
    expect(delivered.attempts).toMatchObject([{ number: 1, provider: 'webhook', status: 'SUCCEEDED', error: null }]);
    const [request] = at('/signed');
    const verified = new Webhook(destination.signingSecret).verify(
      request?.raw ?? '',
      request?.headers as Record<string, string>,
    );
    expect(verified).toEqual({
      type: 'waybill.delivery',
      timestamp: expect.any(String),
      data: { deliveryId: requested.id, subject: 's', data: { n: 1 } },
    });
    expect(request?.headers['webhook-id']).toBe(`${requested.id}_1`);
  });

  it('is signed with both secrets while a rotation overlaps', async () => {
    const { id, signingSecret: old } = await api.destination('WEBHOOK', {
      webhook: { url: `${receiver.url}/rotated` },
    });
    const { rotateDestinationSecret: rotated } = await waybill.ask<{
      rotateDestinationSecret: { signingSecret: string; config: { webhook: object } };
    }>(`mutation { rotateDestinationSecret(id: "${id}", overlapSeconds: 60) { signingSecret config } }`);
    expect(rotated.signingSecret).not.toBe(old);
    expect(rotated.config.webhook).toMatchObject({ secret: '********', previousSecret: '********' });
    await api.until((await api.request({ to: [{ destinationId: id }] })).id, 'DELIVERED');
    const [request] = at('/rotated');
    for (const secret of [old, rotated.signingSecret])
      expect(() =>
        new Webhook(secret).verify(request?.raw ?? '', request?.headers as Record<string, string>),
      ).not.toThrow();
  });

  it('is signed with an ed25519 key whose public half the destination shows', async () => {
    const webhook = { url: `${receiver.url}/ed25519` };
    const made = await api.destination('WEBHOOK', { webhook });
    const { rotateDestinationSecret: rotated } = await waybill.ask<{
      rotateDestinationSecret: { signingSecret: null; config: { webhook: { publicKey: string } } };
    }>(
      `mutation { rotateDestinationSecret(id: "${made.id}", overlapSeconds: 60, signature: ED25519) { signingSecret config } }`,
    );
    // Nobody else needs the private half.
    expect(rotated.signingSecret).toBeNull();
    expect(rotated.config.webhook).toMatchObject({ signature: 'ed25519', secret: '********' });
    await api.until((await api.request({ to: [{ destinationId: made.id }] })).id, 'DELIVERED');
    const { headers, raw } = at('/ed25519')[0] as ReturnType<typeof at>[number];
    const bytes = Buffer.from(rotated.config.webhook.publicKey.replace('whpk_', ''), 'base64');
    const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), bytes]);
    const signed = Buffer.from(`${headers['webhook-id']}.${headers['webhook-timestamp']}.${raw}`);
    const [own, before] = String(headers['webhook-signature']).split(' ');
    const signature = Buffer.from(String(own).replace('v1a,', ''), 'base64');
    expect(verify(null, signed, createPublicKey({ key: der, format: 'der', type: 'spki' }), signature)).toBe(true);
    expect(before).toMatch(/^v1,/);
    expect(() => new Webhook(String(made.signingSecret)).verify(raw, headers as Record<string, string>)).not.toThrow();
  });

  it('tells a status webhook how others have ended, signed, and nothing of itself', async () => {
    const { createStatusWebhook: news } = await waybill.ask<{
      createStatusWebhook: { id: string; signingSecret: string };
    }>(
      `mutation ($url: String!) { createStatusWebhook(input: { organizationId: "${ORGANIZATION}", url: $url,
        events: [DELIVERED, FAILED] }) { id signingSecret } }`,
      { url: `${receiver.url}/news` },
    );
    // One that always fails holds up nobody.
    await api.destination('WEBHOOK', {
      webhook: { url: `${receiver.url}/deaf`, statusEvents: ['DELIVERED', 'FAILED'] },
    });
    answering('/deaf', ...Array.from({ length: 50 }, () => 503));
    answering('/refusing', 404);
    const good = await api.request({ to: [{ channel: 'WEBHOOK', address: `${receiver.url}/ok` }] });
    const bad = await api.request({ to: [{ channel: 'WEBHOOK', address: `${receiver.url}/refusing` }] });
    await api.until(good.id, 'DELIVERED');
    await api.until(bad.id, 'FAILED');
    interface News {
      readonly type: string;
      readonly data: { readonly data: { readonly delivery: { readonly id: string; readonly status: string } } };
    }
    const about = (id: string) =>
      at('/news')
        .map(
          ({ raw, headers }) => new Webhook(news.signingSecret).verify(raw, headers as Record<string, string>) as News,
        )
        .filter(({ data }) => data.data.delivery.id === id)
        .map(({ type, data }) => [type, data.data.delivery.status]);
    await expect.poll(() => about(good.id), { timeout: 30_000 }).toEqual([['delivery.delivered', 'DELIVERED']]);
    await expect.poll(() => about(bad.id), { timeout: 30_000 }).toEqual([['delivery.failed', 'FAILED']]);
    const carriers = at('/news').map(({ headers }) => String(headers['webhook-id']).split('_')[0]);
    for (const carrier of carriers) expect(about(carrier as string)).toEqual([]);
    const list = `{ statusWebhooks(organizationId: "${ORGANIZATION}") { id } }`;
    const listed = await waybill.ask<{ statusWebhooks: { id: string }[] }>(list);
    expect(listed.statusWebhooks.map(({ id }) => id)).toContain(news.id);
    for (const { id } of listed.statusWebhooks) await waybill.ask(`mutation { deleteStatusWebhook(id: "${id}") }`);
    expect((await waybill.ask<{ statusWebhooks: object[] }>(list)).statusWebhooks).toEqual([]);
    const { id: ordinary } = await api.destination('WEBHOOK', { webhook: { url: `${receiver.url}/plain` } });
    expect(await api.refusal(`mutation { deleteStatusWebhook(id: "${ordinary}") }`)).toMatchObject([
      { code: 'NOT_FOUND' },
    ]);
  }, 90_000);

  it('is retried as its destination says, under the same id, and no sooner than Retry-After', async () => {
    answering('/busy', { status: 503, headers: { 'retry-after': '1' } }, 500, 204);
    const { id } = await api.destination('WEBHOOK', { webhook: { url: `${receiver.url}/busy` } }, { retry: fastRetry });
    const delivered = await api.until((await api.request({ to: [{ destinationId: id }] })).id, 'DELIVERED');
    expect(delivered.attempts.map(({ status, error }) => [status, error?.code])).toEqual([
      ['FAILED', 'HTTP_503'],
      ['FAILED', 'HTTP_500'],
      ['SUCCEEDED', undefined],
    ]);
    const requests = at('/busy');
    expect(new Set(requests.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
    expect((requests[1]?.at.getTime() ?? 0) - (requests[0]?.at.getTime() ?? 0)).toBeGreaterThanOrEqual(990);
  });

  it('that is gone (410) disables its destination, until somebody updates it', async () => {
    answering('/gone', 410);
    const url = `${receiver.url}/gone`;
    const { id } = await api.destination('WEBHOOK', { webhook: { url } });
    const failed = await api.until((await api.request({ to: [{ destinationId: id }] })).id, 'FAILED');
    expect(failed.legs).toMatchObject([{ deadLettered: true, failure: { category: 'PERMANENT', code: 'HTTP_410' } }]);
    const state = async () =>
      (
        await waybill.ask<{ destination: object }>(
          `{ destination(id: "${id}") { enabled disabledReason health { status } } }`,
        )
      ).destination;
    await expect.poll(state).toMatchObject({ enabled: false, health: { status: 'disabled' } });
    const refused = await api.until((await api.request({ to: [{ destinationId: id }] })).id, 'FAILED');
    expect(refused.legs[0]?.failure).toMatchObject({ category: 'CONFIGURATION', code: 'DESTINATION_DISABLED' });
    answering('/gone', 204);
    await waybill.ask(
      'mutation ($id: ID!, $input: DestinationInput!) { updateDestination(id: $id, input: $input) { id } }',
      {
        id,
        input: { label: 'back again', type: 'WEBHOOK', config: { webhook: { url, secret: '********' } } },
      },
    );
    expect(await state()).toMatchObject({ enabled: true, disabledReason: null });
    await api.act('retryDelivery', { id: refused.id });
    await api.until(refused.id, 'DELIVERED');
  });

  it('whose receiver redirects is not followed', async () => {
    answering('/moved', { status: 302, headers: { location: `${receiver.url}/elsewhere` } });
    const failed = await api.until((await api.request({ to: [toReceiver('/moved')] })).id, 'FAILED');
    expect(failed.legs[0]?.failure?.code).toBe('HTTP_302');
    expect(at('/elsewhere')).toEqual([]);
  });
});

describe('a delivery', () => {
  it('falls back in plan order when a route has failed for good, and ends as dead letter when none is left', async () => {
    answering('/refuses', 400);
    const dead = `http://127.0.0.1:${await unusedPort()}/`;
    const quick = { webhook: { url: dead, retryConfig: { maxRetries: 1, initialDelay: 20 } } };
    const { id: unreachable } = await api.destination('WEBHOOK', quick);
    const { id: mail } = await api.destination('EMAIL', email({ subject: 'fallback' }));
    const fell = await api.request({
      to: [{ destinationId: unreachable, fallback: [toReceiver('/refuses'), { destinationId: mail }] }],
    });
    const sent = await api.until(fell.id, 'SENT');
    expect(sent.attempts.map(({ provider, status }) => `${provider} ${status}`)).toEqual([
      'webhook FAILED',
      'webhook FAILED',
      'webhook FAILED',
      'smtp SUCCEEDED',
    ]);
    expect(types(sent).filter((type) => type === 'FallbackChosen')).toHaveLength(2);

    const lost = await api.until((await api.request({ to: [{ destinationId: unreachable }] })).id, 'FAILED');
    expect(lost.legs).toMatchObject([{ deadLettered: true, failure: { category: 'NETWORK', code: 'ECONNREFUSED' } }]);
    const { deliveries } = await waybill.ask<{ deliveries: { edges: { node: { id: string } }[] } }>(
      `{ deliveries(filter: { deadLettered: true, destinationId: "${unreachable}" }) { edges { node { id } } } }`,
    );
    expect(deliveries.edges.map(({ node }) => node.id)).toEqual([lost.id]);
  });

  it('retried by a person goes out under a new id', async () => {
    answering('/repaired', 400);
    const failed = await api.until((await api.request({ to: [toReceiver('/repaired')] })).id, 'FAILED');
    answering('/repaired', 204);
    expect((await api.act('retryDelivery', { id: failed.id })).status).toBe('PROCESSING');
    await api.until(failed.id, 'DELIVERED');
    const ids = at('/repaired').map(({ headers }) => headers['webhook-id']);
    expect(ids).toEqual([`${failed.id}_1`, `${failed.id}_1_r1`]);
  });

  it('waits for its time, and can be cancelled before it', async () => {
    const scheduledAt = new Date(Date.now() + 3_000).toISOString();
    const scheduled = await api.request({ to: [toReceiver('/scheduled')], scheduledAt });
    const later = new Date(Date.now() + 3_600_000).toISOString();
    const cancelled = await api.request({ to: [toReceiver('/cancelled')], scheduledAt: later });
    expect(scheduled).toMatchObject({ status: 'HELD', holds: [{ reason: 'schedule', until: scheduledAt }] });
    expect((await api.act('cancelDelivery', { id: cancelled.id, reason: 'changed my mind' })).status).toBe('CANCELLED');
    await api.until(scheduled.id, 'DELIVERED');
    expect(at('/scheduled')[0]?.at.getTime()).toBeGreaterThanOrEqual(Date.parse(scheduledAt));
    expect(at('/cancelled')).toEqual([]);
    expect(await api.refusal(`mutation { cancelDelivery(id: "${scheduled.id}") { id } }`)).toEqual([
      { code: 'CONFLICT', paths: [] },
    ]);
  });

  it('expires when it was not delivered in time', async () => {
    const dead = `http://127.0.0.1:${await unusedPort()}/`;
    const expiresAt = new Date(Date.now() + 3_000).toISOString();
    const { id } = await api.request({ to: [{ channel: 'WEBHOOK', address: dead }], expiresAt });
    const expired = await api.until(id, 'EXPIRED');
    expect(expired.legs).toMatchObject([{ status: 'EXPIRED' }]);
    expect(types(expired).at(-1)).toBe('DeliveryExpired');
  });

  it('waits for those it depends on, and fails when one of them can no longer be delivered', async () => {
    const first = await api.request({ to: [toReceiver('/first')], approval: { approvers: ['admin'] } });
    const second = await api.request({ to: [toReceiver('/second')], dependsOn: [first.id] });
    expect(second).toMatchObject({
      status: 'HELD',
      holds: [{ reason: 'dependency', detail: { deliveryId: first.id } }],
    });
    await api.act('approveDelivery', { id: first.id });
    await api.until(second.id, 'DELIVERED');
    expect(at('/second')[0]?.at.getTime()).toBeGreaterThanOrEqual(
      at('/first')[0]?.at.getTime() ?? Number.POSITIVE_INFINITY,
    );
    const late = await api.request({ to: [toReceiver('/late')], dependsOn: [first.id] });
    await api.until(late.id, 'DELIVERED');

    const doomed = await api.request({ to: [toReceiver('/doomed')], approval: { approvers: ['admin'] } });
    const dependent = await api.request({ to: [toReceiver('/dependent')], dependsOn: [doomed.id] });
    await api.act('rejectDelivery', { id: doomed.id, reason: 'no' });
    expect((await api.until(dependent.id, 'FAILED')).legs[0]?.failure?.code).toBe('DEPENDENCY_FAILED');
  });

  it('waits for as many named approvers as asked for, and no others count', async () => {
    const approval = { approvers: ['admin', 'dr-house'], minimum: 2 };
    const held = await api.request({ to: [toReceiver('/approved')], approval });
    const once = await api.act('approveDelivery', { id: held.id, comment: 'fine' });
    expect(once.holds).toMatchObject([{ reason: 'approval', detail: { minimum: 2, approvedBy: ['admin'] } }]);
    expect((await api.act('approveDelivery', { id: held.id })).holds).toEqual(once.holds);

    const others = await api.request({ to: [toReceiver('/approved')], approval: { approvers: ['dr-house'] } });
    expect(await api.refusal(`mutation { approveDelivery(id: "${others.id}") { id } }`)).toEqual([
      { code: 'FORBIDDEN', paths: [] },
    ]);

    const rejected = await api.act('rejectDelivery', { id: held.id, reason: 'second thoughts' });
    expect(rejected.status).toBe('REJECTED');
    expect(at('/approved')).toEqual([]);
  });

  it('is rejected when nobody approves in time', async () => {
    const approval = { approvers: ['admin'], timeoutSeconds: 1 };
    const held = await api.request({ to: [toReceiver('/nobody')], approval });
    expect(types(await api.until(held.id, 'REJECTED'))).toEqual(['DeliveryRequested', 'ApprovalTimedOut']);
  });

  it('goes to the default destinations when it names no target', async () => {
    const organizationId = 'defaults-org';
    await waybill.ask('mutation ($input: DestinationInput!) { createDestination(input: $input) { id } }', {
      input: {
        organizationId,
        label: 'd',
        type: 'WEBHOOK',
        isDefault: true,
        config: { webhook: { url: `${receiver.url}/default` } },
      },
    });
    await api.until((await api.request({ organizationId })).id, 'DELIVERED');
    expect(at('/default')).toHaveLength(1);
  });
});

describe('e-mail and SMS', () => {
  it('fills the templates of an e-mail destination, and says why when a variable is missing', async () => {
    const { id } = await api.destination(
      'EMAIL',
      email({
        subject: 'Daily Compliance Report - {{date}}',
        bodyTemplate: 'Total audit events: {{totalEvents}}',
        recipients: ['compliance@hospital.com', 'security@hospital.com'],
      }),
    );
    const sent = await api.until(
      (await api.request({ to: [{ destinationId: id }], content: { data: { totalEvents: 42 } } })).id,
      'SENT',
    );
    expect(types(sent)).toEqual(['DeliveryRequested', 'AttemptStarted', 'AttemptSucceeded']);
    const mail = smtp.received.find(({ to }) => to.includes('security@hospital.com'));
    expect(mail?.mail.subject).toBe(`Daily Compliance Report - ${new Date().toISOString().slice(0, 10)}`);
    expect(mail?.mail.text?.trim()).toBe('Total audit events: 42');
    const failed = await api.until((await api.request({ to: [{ destinationId: id }] })).id, 'FAILED');
    expect(failed.legs[0]?.failure).toMatchObject({ category: 'VALIDATION', code: 'TEMPLATE_ERROR' });
  });

  it('sends an SMS through Twilio', async () => {
    const { id } = await api.destination('SMS', {
      sms: {
        service: 'twilio',
        accountSid: twilio.accountSid,
        authToken: twilio.authToken,
        from: '+15005550006',
        to: '+14155552671',
        endpoint: twilio.url,
      },
    });
    const sent = await api.until((await api.request({ to: [{ destinationId: id }] })).id, 'SENT');
    expect(sent.attempts).toMatchObject([
      { provider: 'twilio', status: 'SUCCEEDED', providerMessageId: expect.stringMatching(/^SM/) },
    ]);
  });
});
