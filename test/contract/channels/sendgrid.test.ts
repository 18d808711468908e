import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SendGridAdapter } from '../../../src/channels/adapters/sendgrid.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import { type SendGridRecorder, sendGridError, startSendGridRecorder } from '../../support/peers/sendgrid-recorder.js';
import { conforms, LOOPBACK, messageOf, options } from './conformance.js';
import { type Reactions, recording, refusing } from './peers.js';

const API_KEY = 'SG.k3y-of-the-account';
const content: Content = { subject: 'For Ada Lovelace', text: 'Dear Ada Lovelace' };
const QUOTE = `${API_KEY} ada@example.com Ada Lovelace`;

/** SendGrid says when the next window begins, in seconds since 1970. */
const REACTIONS = (): Reactions => ({
  ...refusing((status) => sendGridError(status, QUOTE), 0),
  limited: {
    ...sendGridError(429, `too many requests ${QUOTE}`),
    headers: { 'x-ratelimit-reset': String(Math.round(Date.now() / 1_000) + 30) },
  },
});

conforms({
  name: 'sendgrid',
  create: (egress) => new SendGridAdapter(egress, 'Waybill/test'),
  async start() {
    const recorder = await startSendGridRecorder({ apiKey: API_KEY });
    const config = {
      service: 'sendgrid',
      apiKey: API_KEY,
      endpoint: recorder.url,
      from: 'Reports <reports@sender.example>',
      recipients: ['ada@example.com'],
    };
    return recording(recorder, config, REACTIONS());
  },
  bad: [
    { change: { service: 'smtp' }, path: 'service' },
    { change: { apiKey: 'with\nbreak' }, path: 'apiKey' },
    { change: { endpoint: 'http://192.168.0.1' }, path: 'endpoint' },
    { change: { from: 'Reports' }, path: 'from' },
    { change: { recipients: ['ada'] }, path: 'recipients.0' },
    { change: { host: 'mail.example.com' }, path: 'host' },
  ],
  refusals: [
    { when: '400', behave: (peer) => peer.answer(sendGridError(400, QUOTE, 'subject')), category: 'VALIDATION' },
    { when: '404', behave: (peer) => peer.answer(sendGridError(404, QUOTE)), category: 'PERMANENT' },
    { when: '413', behave: (peer) => peer.answer(sendGridError(413, QUOTE)), category: 'VALIDATION' },
  ],
  redirect: (port) => ({ endpoint: `http://127.0.0.1:${port}` }),
  addresses: { good: 'grace@example.com', bad: 'grace example.com' },
  content,
  confidential: [API_KEY, 'ada@example.com', 'Ada Lovelace'],
  retryAfterMs: 30_000,
});

describe('sendgrid', () => {
  let recorder: SendGridRecorder;
  let egress: Egress;
  let adapter: SendGridAdapter;

  beforeEach(async () => {
    recorder = await startSendGridRecorder();
    egress = new Egress({ allowedNetworks: LOOPBACK });
    adapter = new SendGridAdapter(egress, 'Waybill/test');
  });
  afterEach(async () => {
    await recorder.close();
    await egress.destroy();
  });
  const configOf = (change: JsonObject = {}) => ({
    service: 'sendgrid',
    apiKey: recorder.apiKey,
    endpoint: recorder.url,
    from: 'Reports <reports@sender.example>',
    recipients: ['ada@example.com', 'grace@example.com', 'ada@example.com'],
    ...change,
  });
  const send = (change: JsonObject = {}, message: Content = content) =>
    adapter.send(messageOf(configOf(change), message), options());

  it('sends the message with what ties later events to it', async () => {
    const attachment = { filename: 'a.csv', contentType: 'text/csv', base64: 'YTtiCg==' };
    const outcome = await send(
      { subject: 'Report {{date}}' },
      { text: 'plain', html: '<b>rich</b>', attachments: [attachment] },
    );
    expect(outcome).toMatchObject({
      kind: 'accepted',
      delivered: false,
      providerMessageId: expect.stringMatching(/./),
    });
    expect(recorder.received[0]).toMatchObject({
      from: { email: 'reports@sender.example', name: 'Reports' },
      personalizations: [{ to: [{ email: 'ada@example.com' }, { email: 'grace@example.com' }] }],
      subject: 'Report 2026-03-04',
      content: [
        { type: 'text/plain', value: 'plain' },
        { type: 'text/html', value: '<b>rich</b>' },
      ],
      attachments: [{ filename: 'a.csv', type: 'text/csv', content: 'YTtiCg==' }],
      custom_args: { deliveryId: 'delivery-1', attemptKey: 'attempt-0001' },
    });
  });

  it('keeps line breaks out of the subject', async () => {
    await send({ subject: '{{title}}' }, { text: 'x', data: { title: 'Hi\r\nBcc: eve@example.com' } });
    expect(recorder.received[0]?.subject).toBe('Hi Bcc: eve@example.com');
  });

  it('leaves {{…}} in the content of a request alone', async () => {
    await send({}, { text: 'Dear {{name}}' });
    expect(recorder.received[0]?.content).toEqual([{ type: 'text/plain', value: 'Dear {{name}}' }]);
  });

  it.each([
    { attachments: [{ filename: 'a', contentType: 'text/plain', base64: 'YQ==' }] },
    { html: '<p>only</p>' },
    {},
  ])('finds a body that SendGrid takes for %j', async (message) => {
    expect(await send({}, message)).toMatchObject({ kind: 'accepted' });
  });

  it.each([
    [400, 'VALIDATION'],
    [403, 'AUTHENTICATION'],
    [413, 'VALIDATION'],
    [500, 'TEMPORARY'],
  ])('takes %i for %s, with the field SendGrid names', async (status, category) => {
    recorder.respond = () => sendGridError(status, 'Does not contain a valid address.', 'from.email');
    expect(await send()).toMatchObject({
      category,
      code: `HTTP_${status}`,
      detail: `SendGrid answered ${status}: from.email: Does not contain a valid address.`,
    });
  });

  it('does not follow a redirect with the key', async () => {
    recorder.respond = () => ({ status: 302, headers: { location: `${recorder.url}/elsewhere` } });
    expect(await send()).toMatchObject({ category: 'PERMANENT', code: 'HTTP_302' });
    expect(recorder.requests).toHaveLength(1);
  });

  it('finds a key that may not send', async () => {
    recorder.respond = () => ({ body: { scopes: ['stats.read'] } });
    const { ok, problems } = await adapter.test(configOf(), options());
    expect(ok).toBe(false);
    expect(problems).toEqual([{ path: 'apiKey', problem: 'the key lacks the permission mail.send' }]);
  });
});
