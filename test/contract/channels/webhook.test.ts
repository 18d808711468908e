import { Webhook } from 'standardwebhooks';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WebhookAdapter } from '../../../src/channels/adapters/webhook.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { JsonObject } from '../../../src/domain/vocabulary.js';
import type { Reaction } from '../../support/peers/http-peer.js';
import { startWebhookReceiver, type WebhookReceiver } from '../../support/peers/webhook-receiver.js';
import { type Behaviour, conforms, LOOPBACK, messageOf, options } from './conformance.js';
import { receiving } from './peers.js';

const SECRET = `whsec_${Buffer.alloc(32, 'a').toString('base64')}`;
const OLD_SECRET = `whsec_${Buffer.alloc(24, 'b').toString('base64')}`;
const TOKEN = 'Bearer t0ken-of-the-receiver';
const content = { subject: 'Quarterly figures', data: { patient: 'Ada Lovelace', type: 'report.ready' } };
const QUOTE = { error: `${TOKEN} ${SECRET} Ada Lovelace ada@example.com Quarterly figures` };

const REACTIONS: Readonly<Record<Behaviour, Reaction>> = {
  accepts: { status: 204 },
  unavailable: { status: 503, body: QUOTE },
  unauthorized: { status: 401, body: QUOTE },
  limited: { status: 429, headers: { 'retry-after': '7' }, body: QUOTE },
  silent: 'silence',
  drops: 'drop',
};

conforms({
  name: 'webhook',
  create: (egress) => new WebhookAdapter(egress, 'Waybill/test'),
  start: () => receiving(({ url }) => ({ url, secret: SECRET, headers: { Authorization: TOKEN } }), REACTIONS),
  bad: [
    { change: { url: 'ftp://example.com/' }, path: 'url' },
    { change: { url: 'https://user:pass@example.com/' }, path: 'url' },
    { change: { url: 'http://169.254.169.254/latest/meta-data' }, path: 'url' },
    { change: { url: 'nonsense' }, path: 'url' },
    { change: { method: 'DELETE' }, path: 'method' },
    { change: { timeout: 0 }, path: 'timeout' },
    { change: { timeout: 120_001 }, path: 'timeout' },
    { change: { secret: 'a plain pass phrase' }, path: 'secret' },
    { change: { secret: `whsec_${Buffer.alloc(8).toString('base64')}` }, path: 'secret' },
    { change: { previousSecretUntil: 'tomorrow' }, path: 'previousSecretUntil' },
    { change: { headers: { 'Webhook-Id': 'mine' } }, path: 'headers.Webhook-Id' },
    { change: { headers: { Host: 'elsewhere' } }, path: 'headers.Host' },
    { change: { headers: { 'X-Injected': 'a\r\nB: c' } }, path: 'headers.X-Injected' },
    { change: { headers: { 'bad name': 'x' } }, path: 'headers.bad name' },
    { change: { retryConfig: { maxRetries: -1 } }, path: 'retryConfig.maxRetries' },
    { change: { retryConfig: { retries: 1 } }, path: 'retryConfig.retries' },
  ],
  refusals: [
    { when: '400', behave: (peer) => peer.answer({ status: 400, body: QUOTE }), category: 'VALIDATION' },
    { when: '404', behave: (peer) => peer.answer({ status: 404, body: QUOTE }), category: 'PERMANENT' },
    { when: '410', behave: (peer) => peer.answer({ status: 410, body: QUOTE }), category: 'PERMANENT' },
    { when: '302', behave: (peer) => peer.answer({ status: 302, body: QUOTE }), category: 'PERMANENT' },
  ],
  redirect: (port) => ({ url: `http://127.0.0.1:${port}/` }),
  addresses: { good: 'https://hooks.example.com/in', bad: 'http://[::1]/in' },
  content,
  confidential: [TOKEN, SECRET, 'Ada Lovelace', 'ada@example.com', 'Quarterly figures'],
  retryAfterMs: 7_000,
});

describe('webhook', () => {
  let receiver: WebhookReceiver;
  let egress: Egress;
  let adapter: WebhookAdapter;

  beforeEach(async () => {
    receiver = await startWebhookReceiver();
    egress = new Egress({ allowedNetworks: LOOPBACK });
    adapter = new WebhookAdapter(egress, 'Waybill/test');
  });
  afterEach(async () => {
    await receiver.close();
    await egress.destroy();
  });
  const send = (change: JsonObject = {}, more = {}) =>
    adapter.send(messageOf({ url: receiver.url, ...change }, { ...content, ...more }), options());

  it('is signed so that the standardwebhooks package verifies it', async () => {
    await send({ secret: SECRET });
    const [webhook] = receiver.received;
    const verified = new Webhook(SECRET).verify(webhook?.raw ?? '', webhook?.headers as Record<string, string>);
    expect(verified).toMatchObject({ type: 'report.ready', data: { deliveryId: 'delivery-1', ...content } });
    expect(webhook?.headers['webhook-id']).toBe('attempt-0001');
    expect(() => new Webhook(OLD_SECRET).verify(webhook?.raw ?? '', webhook?.headers as never)).toThrow();
  });

  it('is signed with both secrets while one replaces the other, and with the new one alone afterwards', async () => {
    const verifies = (secret: string, index: number) => {
      const { raw, headers } = receiver.received[index] as WebhookReceiver['received'][number];
      return () => new Webhook(secret).verify(raw, headers as Record<string, string>);
    };
    const rotating = { secret: SECRET, previousSecret: OLD_SECRET };
    await send({ ...rotating, previousSecretUntil: new Date(Date.now() + 60_000).toISOString() });
    await send({ ...rotating, previousSecretUntil: new Date(Date.now() - 1).toISOString() });
    expect(verifies(SECRET, 0)).not.toThrow();
    expect(verifies(OLD_SECRET, 0)).not.toThrow();
    expect(verifies(SECRET, 1)).not.toThrow();
    expect(verifies(OLD_SECRET, 1)).toThrow();
  });

  it('goes unsigned without a secret, but with id and time', async () => {
    await send();
    const headers = receiver.received[0]?.headers;
    expect(headers).not.toHaveProperty('webhook-signature');
    expect(headers).toMatchObject({
      'webhook-id': 'attempt-0001',
      'webhook-timestamp': expect.stringMatching(/^\d{10}$/),
    });
    expect(headers).toMatchObject({ 'content-type': 'application/json', 'user-agent': 'Waybill/test' });
  });

  it('carries headers and method of the configuration, which may name another content type', async () => {
    await send({ method: 'PUT', headers: { 'X-Source': 'audit', 'Content-Type': 'application/vnd.siem+json' } });
    const [webhook] = receiver.received;
    expect(webhook?.method).toBe('PUT');
    expect(webhook?.headers).toMatchObject({ 'x-source': 'audit', 'content-type': 'application/vnd.siem+json' });
  });

  it('leaves out what the content does not have, and calls a type it cannot use waybill.delivery', async () => {
    await send({}, { data: { type: 'Not A Type' } });
    const body = receiver.received[0]?.body as { type: string; timestamp: string; data: object };
    expect(body.type).toBe('waybill.delivery');
    expect(body.timestamp).toBe(new Date(body.timestamp).toISOString());
    expect(Object.keys(body.data)).toEqual(['deliveryId', 'subject', 'data']);
  });

  it.each([
    [301, 'PERMANENT'],
    [400, 'VALIDATION'],
    [403, 'AUTHENTICATION'],
    [404, 'PERMANENT'],
    [408, 'TEMPORARY'],
    [413, 'VALIDATION'],
    [422, 'VALIDATION'],
    [425, 'TEMPORARY'],
    [500, 'TEMPORARY'],
  ])('takes %i for %s and follows no redirect', async (status, category) => {
    receiver.respond = () => ({ status, headers: { location: receiver.url } });
    expect(await send()).toMatchObject({ kind: 'rejected', category, code: `HTTP_${status}` });
    expect(receiver.received).toHaveLength(1);
  });

  it('says when the receiver is gone for good', async () => {
    receiver.respond = () => ({ status: 410 });
    expect(await send()).toMatchObject({ kind: 'rejected', category: 'PERMANENT', gone: true });
  });

  it.each([
    ['120', 120_000],
    ['999999999', 24 * 3_600_000],
    ['-5', undefined],
    ['soon', undefined],
  ])('reads Retry-After %s', async (value, expected) => {
    receiver.respond = () => ({ status: 503, headers: { 'retry-after': value } });
    expect(await send()).toHaveProperty('kind', 'rejected');
    expect(await send().then((outcome) => 'retryAfterMs' in outcome && outcome.retryAfterMs)).toBe(expected ?? false);
  });

  it('reads Retry-After as an HTTP date', async () => {
    const now = new Date();
    const inAMinute = new Date(now.getTime() + 60_000).toUTCString(); // in whole seconds
    receiver.respond = () => ({ status: 503, headers: { 'retry-after': inAMinute } });
    const outcome = await adapter.send(messageOf({ url: receiver.url }, content), { ...options(), now });
    const wait = outcome.kind === 'rejected' ? outcome.retryAfterMs : undefined;
    expect(wait).toBeGreaterThan(59_000);
    expect(wait).toBeLessThanOrEqual(60_000);
  });

  it('repeats the reason a receiver gives in JSON, and nothing of any other body', async () => {
    receiver.respond = () => ({ status: 400, body: { title: 'Bad', detail: 'the field amount is missing' } });
    expect(await send()).toMatchObject({ detail: expect.stringContaining('the field amount is missing') });
    receiver.respond = () => ({ status: 400, body: '<h1>amount</h1>' });
    expect(await send()).toMatchObject({ detail: expect.not.stringContaining('amount') });
  });

  it('uses a connection again, also after an answer with a body nobody reads', async () => {
    receiver.respond = () => ({ status: 200, body: 'x'.repeat(60_000) });
    for (let sent = 0; sent < 5; sent += 1) expect(await send()).toMatchObject({ kind: 'accepted' });
    // One, or two: undici learns that a connection is free a moment after we learn of the answer.
    expect(receiver.connections()).toBeLessThanOrEqual(2);
  });

  it('does not wait for the end of an endless answer', async () => {
    receiver.respond = () => ({ status: 200, body: 'x'.repeat(5_000_000) });
    expect(await send()).toMatchObject({ kind: 'accepted' });
  });

  it('refuses a body larger than a receiver has to take', async () => {
    expect(await send({}, { text: 'ä'.repeat(6_000_000) })).toMatchObject({
      category: 'VALIDATION',
      code: 'TOO_LARGE',
    });
    expect(receiver.received).toHaveLength(0);
  });

  it('does not send what was given up before there was a connection', async () => {
    const lookups: (() => void)[] = [];
    let isSlow = true;
    const resolver = ((_: string, __: object, done: (error: null, found: object[]) => void) => {
      const answer = () => done(null, [{ address: '127.0.0.1', family: 4 }]);
      if (isSlow) lookups.push(answer);
      else answer();
    }) as never;
    const slow = new Egress({ allowedNetworks: LOOPBACK, resolver });
    const config = { url: `http://slow.test:${receiver.port}/` };
    const sendSlowly = (signal: AbortSignal, name: string) =>
      new WebhookAdapter(slow, 'Waybill/test').send(messageOf(config, { subject: name }), options(signal));
    const controller = new AbortController();
    const givenUp = sendSlowly(controller.signal, 'given up');
    await expect.poll(() => lookups).toHaveLength(1);
    controller.abort();
    expect(await givenUp).toMatchObject({ category: 'NETWORK', code: 'ABORTED' });
    expect(await givenUp).not.toHaveProperty('inDoubt');
    lookups[0]?.();
    await expect.poll(() => receiver.connections()).toBe(1);
    isSlow = false;
    expect(await sendSlowly(new AbortController().signal, 'wanted')).toMatchObject({ kind: 'accepted' });
    expect(receiver.received.map(({ body }) => (body as { data: object }).data)).toMatchObject([{ subject: 'wanted' }]);
    await slow.close();
  });

  it('is in doubt when the connection breaks after the request, not before', async () => {
    receiver.respond = () => 'drop';
    expect(await send()).toMatchObject({ category: 'NETWORK', inDoubt: true });
  });

  it('tells a certificate nobody vouches for apart', async () => {
    const { createServer } = await import('node:https');
    const { LOCALHOST } = await import('../../support/peers/certificate.js');
    const server = createServer(LOCALHOST, (_, response) => response.writeHead(204).end());
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const url = `https://127.0.0.1:${port}/`;
    expect(await send({ url })).toMatchObject({ category: 'NETWORK', code: 'DEPTH_ZERO_SELF_SIGNED_CERT' });
    const trusting = new Egress({ allowedNetworks: LOOPBACK, trustedCertificates: [LOCALHOST.cert] });
    const outcome = await new WebhookAdapter(trusting, 'Waybill/test').send(messageOf({ url }, content), options());
    await trusting.close();
    server.close();
    expect(outcome).toEqual({ kind: 'accepted', delivered: true });
  });
});
