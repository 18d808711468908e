import { createECDH } from 'node:crypto';
import { importJWK, jwtVerify } from 'jose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WebPushAdapter } from '../../../src/channels/adapters/webpush.js';
import type { OutgoingMessage } from '../../../src/channels/channel.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import type { Reaction } from '../../support/peers/http-peer.js';
import { startPushService } from '../../support/peers/push-service.js';
import { type Recorder, startRecorder } from '../../support/peers/recorder.js';
import { Browser } from '../../support/receive-push.js';
import { conforms, LOOPBACK, messageOf, options } from './conformance.js';
import { type Reactions, recording } from './peers.js';

const curve = createECDH('prime256v1');
const publicKey = curve.generateKeys('base64url');
const privateKey = Buffer.from(curve.getPrivateKey('hex').padStart(64, '0'), 'hex').toString('base64url');
const vapid = { subject: 'mailto:waybill@hospital.example', publicKey, privateKey };
const content: Content = { subject: 'Ward 4', text: 'Ada Lovelace' };
const browser = new Browser();
const subscriptionAt = (origin: string) => ({ endpoint: `${origin}/send/c4p4b1l1ty`, keys: browser.keys });

/** Push services explain in words of their own: Mozilla in JSON, Google in text. */
const refuse = (status: number, headers: Record<string, string> = {}): Reaction => ({
  status,
  headers,
  body: `c4p4b1l1ty ${privateKey} Ada Lovelace`,
});
const REACTIONS: Reactions = {
  accepts: undefined,
  unavailable: refuse(503),
  unauthorized: refuse(403),
  limited: refuse(429, { 'retry-after': '11' }),
  silent: 'silence',
  drops: 'drop',
};

/** Takes what the browser can read (RFC 8030, 5). */
const startService = () =>
  startRecorder<string>(({ method, bytes, headers }, accept) => {
    if (method !== 'POST') return { status: 405 };
    if (headers.ttl === undefined || !headers.authorization?.startsWith('vapid t=')) return { status: 400 };
    accept(browser.decrypt(bytes));
    return { status: 201, headers: { location: 'https://push.example.com/m/0:1510%2Fab' } };
  });

conforms({
  name: 'webpush',
  create: (egress) => new WebPushAdapter(egress),
  async start() {
    const service = await startService();
    return recording(service, { vapid, to: subscriptionAt(service.url) }, REACTIONS);
  },
  bad: [
    { change: { vapid: { ...vapid, subject: 'me' } }, path: 'vapid.subject' },
    { change: { vapid: { ...vapid, publicKey: browser.keys.p256dh } }, path: 'vapid.privateKey' },
    { change: { vapid: { ...vapid, privateKey: 'abc' } }, path: 'vapid.privateKey' },
    { change: { to: subscriptionAt('http://10.0.0.1') }, path: 'to.endpoint' },
    {
      change: { to: { ...subscriptionAt('http://127.0.0.1'), keys: { ...browser.keys, auth: 'AAAA' } } },
      path: 'to.keys.auth',
    },
    {
      change: { to: { ...subscriptionAt('http://127.0.0.1'), keys: { ...browser.keys, p256dh: '' } } },
      path: 'to.keys.p256dh',
    },
    { change: { urgency: 'now' }, path: 'urgency' },
    { change: { topic: 'a b' }, path: 'topic' },
    { change: { ttlSeconds: 'long' }, path: 'ttlSeconds' },
  ],
  refusals: [
    { when: '404', behave: (peer) => peer.answer(refuse(404)), category: 'PERMANENT', code: 'SUBSCRIPTION_GONE' },
    { when: '400', behave: (peer) => peer.answer(refuse(400)), category: 'VALIDATION' },
    { when: '401', behave: (peer) => peer.answer(refuse(401)), category: 'AUTHENTICATION' },
    { when: '413', behave: (peer) => peer.answer(refuse(413)), category: 'VALIDATION' },
    {
      when: 'a redirect',
      behave: (peer) => peer.answer(refuse(307, { location: 'http://10.0.0.1' })),
      category: 'PERMANENT',
    },
  ],
  redirect: (port) => ({ to: subscriptionAt(`http://127.0.0.1:${port}`) }),
  addresses: { good: JSON.stringify(subscriptionAt('http://127.0.0.1:9')), bad: 'https://push.example.com/send/1' },
  content,
  confidential: ['c4p4b1l1ty', privateKey, 'Ada Lovelace'],
  retryAfterMs: 11_000,
});

describe('webpush', () => {
  let recorder: Recorder<string>;
  let egress: Egress;
  let adapter: WebPushAdapter;
  beforeEach(async () => {
    egress = new Egress({ allowedNetworks: LOOPBACK });
    adapter = new WebPushAdapter(egress);
    recorder = await startService();
  });
  afterEach(async () => {
    await recorder.close();
    await egress.close();
  });
  const now = new Date('2026-03-04T05:06:07Z');
  const send = (change: JsonObject = {}, message: Content = content, more: Partial<OutgoingMessage> = {}) =>
    adapter.send(messageOf({ vapid, to: subscriptionAt(recorder.url), ...change }, message, more), {
      ...options(),
      now,
    });

  it('is read by the browser that has subscribed, and by nobody else', async () => {
    const outcome = await send({ title: 'Ward {{ward}}' }, { ...content, data: { ward: 5 } });
    expect(outcome).toEqual({ kind: 'accepted', delivered: false, providerMessageId: '0:1510%2Fab' });
    expect(JSON.parse(recorder.received[0] ?? '')).toEqual({
      title: 'Ward 5',
      body: 'Ada Lovelace',
      data: { ward: 5 },
    });
    const [request] = recorder.requests;
    expect(() => new Browser().decrypt(request?.bytes as Buffer)).toThrow();
    expect(request?.raw).not.toContain('Ada Lovelace');
  });

  it('is measured with a browser that reads the example of RFC 8291, 5', () => {
    const reader = new Browser('q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94', 'BTBZMqHH6r4Tts7J_aSIgg');
    const body =
      'DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN';
    expect(reader.decrypt(Buffer.from(body, 'base64url'))).toBe('When I grow up, I want to be a watermelon');
  });

  it('is read by a browser that others have written, until it unsubscribes', async () => {
    const service = await startPushService(publicKey);
    expect(await send({ to: service.subscription })).toMatchObject({ kind: 'accepted' });
    expect(service.messages().map((text) => JSON.parse(text))).toEqual([{ title: 'Ward 4', body: 'Ada Lovelace' }]);
    service.unsubscribe();
    expect(await send({ to: service.subscription })).toMatchObject({ code: 'SUBSCRIPTION_GONE', gone: true });
    await service.close();
  });

  it('says who sends it, to whom, and for a day at most (RFC 8292)', async () => {
    await send();
    const [request] = recorder.requests;
    const [, token = '', key = ''] = /^vapid t=([^,]+), ?k=(.+)$/.exec(request?.headers.authorization ?? '') ?? [];
    expect(key).toBe(publicKey);
    const point = Buffer.from(key, 'base64url');
    const [x, y] = [point.subarray(1, 33), point.subarray(33)].map((half) => half.toString('base64url'));
    const jwk = await importJWK({ kty: 'EC', crv: 'P-256', x: x ?? '', y: y ?? '' }, 'ES256');
    const { payload } = await jwtVerify(token, jwk, { audience: recorder.url, subject: vapid.subject });
    expect((payload.exp ?? 0) - Date.now() / 1_000).toBeLessThanOrEqual(86_400);
  });

  it('says how long it is kept, how urgent it is, and what it replaces', async () => {
    await send({ ttlSeconds: 90, urgency: 'very-low', topic: 'score' });
    await send({}, content, { priority: 'URGENT', expiresAt: '2026-03-04T05:07:07Z' });
    await send({}, content, { priority: 'LOW' });
    const told = recorder.requests.map(({ headers: { ttl, urgency, topic } }) => ({ ttl, urgency, topic }));
    const topic = expect.stringMatching(/^[0-9a-f]{32}$/);
    expect(told).toEqual([
      { ttl: '90', urgency: 'very-low', topic: 'score' },
      { ttl: '60', urgency: 'high', topic },
      { ttl: '2419200', urgency: 'low', topic },
    ]);
    expect(told[1]?.topic).toBe(told[2]?.topic);
    expect(recorder.requests[0]?.headers['content-encoding']).toBe('aes128gcm');
  });

  it('fills the 4,096 bytes that every push service takes, and no more', async () => {
    const room = 3_993 - Buffer.byteLength(JSON.stringify({ body: '' }));
    expect(await send({}, { text: 'x'.repeat(room) })).toMatchObject({ kind: 'accepted' });
    expect(recorder.requests[0]?.bytes).toHaveLength(4_096);
    expect(await send({}, { text: 'x'.repeat(room + 1) })).toMatchObject({ category: 'VALIDATION', code: 'TOO_LARGE' });
    expect(await send({}, {})).toMatchObject({ code: 'EMPTY_BODY' });
    expect(recorder.requests).toHaveLength(1);
  });

  it.each([404, 410])('says that a subscription is gone (%s)', async (status) => {
    recorder.respond = () => refuse(status);
    expect(await send()).toMatchObject({ category: 'PERMANENT', code: 'SUBSCRIPTION_GONE', gone: true });
  });

  it.each([
    ['[]', 'must be a subscription'],
    ['{', 'must be a subscription'],
    ['{}', 'endpoint is required'],
    [JSON.stringify({ ...subscriptionAt('http://169.254.169.254') }), 'endpoint is not a public address'],
    [JSON.stringify({ ...subscriptionAt('http://127.0.0.1'), more: 1 }), 'more is not a known field'],
    [`{${' '.repeat(5_000)}}`, 'at most 4096'],
  ])('refuses %s as an address', (address, problem) => {
    expect(adapter.validateAddress(address)).toContain(problem);
  });

  it('takes a subscription as browsers write it', () => {
    const { endpoint, keys } = subscriptionAt('http://127.0.0.1:9');
    expect(adapter.validateAddress(JSON.stringify({ endpoint, expirationTime: null, keys }))).toBeUndefined();
  });
});
