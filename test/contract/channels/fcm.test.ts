import { generateKeyPairSync } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FcmAdapter } from '../../../src/channels/adapters/fcm.js';
import type { OutgoingMessage } from '../../../src/channels/channel.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import { type FcmRecorder, fcmError, startFcmRecorder } from '../../support/peers/fcm-recorder.js';
import type { Reaction } from '../../support/peers/http-peer.js';
import { type Behaviour, conforms, LOOPBACK, messageOf, options } from './conformance.js';

const keys = generateKeyPairSync('rsa', { modulusLength: 2_048 });
const privateKey = keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
const clientEmail = 'waybill@hospital.iam.gserviceaccount.com';
const DEVICE = 'dGVzdC1kZXZpY2U:APA91bHun4MxP5egoKMwt2KZFBaFUH';
const QUOTE = `${DEVICE} ${clientEmail} Ada Lovelace`;
const content: Content = { subject: 'Ward 4', text: 'Ada Lovelace' };

const REACTIONS: Readonly<Record<Behaviour, Reaction | undefined>> = {
  accepts: undefined,
  unavailable: fcmError(503, 'UNAVAILABLE', QUOTE, 'UNAVAILABLE'),
  unauthorized: fcmError(403, 'PERMISSION_DENIED', QUOTE),
  limited: { ...fcmError(429, 'RESOURCE_EXHAUSTED', QUOTE, 'QUOTA_EXCEEDED'), headers: { 'retry-after': '9' } },
  silent: 'silence',
  drops: 'drop',
};

const configOf = (port: number, change: JsonObject = {}): JsonObject => ({
  service: 'fcm',
  projectId: 'hospital-app',
  clientEmail,
  privateKey,
  to: DEVICE,
  endpoint: `http://127.0.0.1:${port}`,
  tokenEndpoint: `http://127.0.0.1:${port}/token`,
  ...change,
});

conforms({
  name: 'fcm',
  create: (egress) => new FcmAdapter(egress),
  async start() {
    const recorder = await startFcmRecorder(keys.publicKey);
    const behave = (reaction: Reaction | undefined) => {
      recorder.respond = ({ path }) => (path === '/token' ? undefined : reaction);
    };
    return {
      config: configOf(recorder.port),
      port: recorder.port,
      answer: behave,
      refuseToken: (reaction: Reaction) => {
        recorder.respond = ({ path }) => (path === '/token' ? reaction : undefined);
      },
      behave: (behaviour: Behaviour) => behave(REACTIONS[behaviour]),
      seen: () => recorder.requests.filter(({ path }) => path !== '/token').length,
      accepted: () => recorder.received.length,
      close: recorder.close,
    };
  },
  bad: [
    { change: { projectId: 'Hospital App' }, path: 'projectId' },
    { change: { clientEmail: 'nobody' }, path: 'clientEmail' },
    { change: { privateKey: 'no key' }, path: 'privateKey' },
    { change: { to: 'short' }, path: 'to' },
    { change: { to: 'a1b2c3d4'.repeat(8) }, path: 'to' },
    { change: { ttlSeconds: 2_419_201 }, path: 'ttlSeconds' },
    { change: { title: '{% if %}' }, path: 'title' },
    { change: { collapseKey: 'a b' }, path: 'collapseKey' },
    { change: { endpoint: 'http://169.254.169.254' }, path: 'endpoint' },
    { change: { tokenEndpoint: 'http://[::1]/' }, path: 'tokenEndpoint' },
  ],
  refusals: [
    {
      when: 'a device without the app',
      behave: (peer) => peer.answer(fcmError(404, 'NOT_FOUND', QUOTE, 'UNREGISTERED')),
      category: 'PERMANENT',
      code: 'FCM_UNREGISTERED',
    },
    {
      when: 'what never was a token',
      change: { to: `${DEVICE}-invalid` },
      category: 'PERMANENT',
      code: 'FCM_INVALID_TOKEN',
    },
    {
      when: 'a token of another project',
      behave: (peer) => peer.answer(fcmError(403, 'PERMISSION_DENIED', QUOTE, 'SENDER_ID_MISMATCH')),
      category: 'CONFIGURATION',
      code: 'FCM_SENDER_ID_MISMATCH',
    },
    {
      when: 'a field it does not take',
      behave: (peer) => peer.answer(fcmError(400, 'INVALID_ARGUMENT', QUOTE, 'INVALID_ARGUMENT')),
      category: 'VALIDATION',
      code: 'FCM_INVALID_ARGUMENT',
    },
    {
      when: "Apple's key missing in the project",
      behave: (peer) => peer.answer(fcmError(401, 'UNAUTHENTICATED', QUOTE, 'THIRD_PARTY_AUTH_ERROR')),
      category: 'CONFIGURATION',
    },
    {
      when: 'no such project',
      change: { projectId: 'another-project' },
      category: 'CONFIGURATION',
      code: 'FCM_NOT_FOUND',
    },
    {
      when: 'a key that Google does not know',
      behave: (peer) => peer.refuseToken({ status: 400, body: { error: 'invalid_grant', error_description: QUOTE } }),
      category: 'AUTHENTICATION',
    },
    {
      when: 'a token endpoint that is down',
      behave: (peer) => peer.refuseToken({ status: 503 }),
      category: 'TEMPORARY',
    },
    { when: 'a token endpoint that hangs up', behave: (peer) => peer.refuseToken('drop'), category: 'NETWORK' },
    { when: 'an answer without a token', behave: (peer) => peer.refuseToken({ body: {} }), category: 'TEMPORARY' },
  ],
  redirect: (port) => ({ endpoint: `http://127.0.0.1:${port}` }),
  addresses: { good: `${DEVICE}_2`, bad: 'not a token' },
  content,
  confidential: [DEVICE, clientEmail, 'Ada Lovelace', privateKey.slice(100, 160)],
  retryAfterMs: 9_000,
});

describe('fcm', () => {
  let recorder: FcmRecorder;
  let egress: Egress;
  let adapter: FcmAdapter;
  beforeEach(async () => {
    egress = new Egress({ allowedNetworks: LOOPBACK });
    adapter = new FcmAdapter(egress);
    recorder = await startFcmRecorder(keys.publicKey);
  });
  afterEach(async () => {
    await recorder.close();
    await egress.close();
  });
  const now = new Date('2026-03-04T05:06:07Z');
  const send = (change: JsonObject = {}, message: Content = content, more: Partial<OutgoingMessage> = {}) =>
    adapter.send(messageOf(configOf(recorder.port, change), message, more), { ...options(), now });

  it('gives title, text and data, the way to each kind of device, and one token for many messages', async () => {
    const message = { ...content, data: { ward: 4, nested: { a: [1] }, word: 'x' } };
    const outcome = await send({ ttlSeconds: 60, androidChannel: 'alarms', analyticsLabel: 'wards' }, message);
    await send({ to: '/topics/news', title: 'Ward {{ward}}!', bodyTemplate: '{{word}}' }, message, { priority: 'LOW' });
    expect(outcome).toEqual({
      kind: 'accepted',
      delivered: false,
      providerMessageId: expect.stringMatching(/^projects\/hospital-app\/messages\//),
    });
    expect(recorder.received).toMatchObject([
      {
        token: DEVICE,
        notification: { title: 'Ward 4', body: 'Ada Lovelace' },
        data: { ward: '4', nested: '{"a":[1]}', word: 'x' },
        android: { priority: 'HIGH', ttl: '60s', notification: { channel_id: 'alarms' } },
        apns: { headers: { 'apns-priority': '10', 'apns-expiration': String(now.getTime() / 1_000 + 60) } },
        webpush: { headers: { TTL: '60', Urgency: 'high' } },
        fcm_options: { analytics_label: 'wards' },
      },
      {
        topic: 'news',
        notification: { title: 'Ward 4!', body: 'x' },
        android: { priority: 'NORMAL' },
        apns: { headers: { 'apns-priority': '5' } },
      },
    ]);
    expect(recorder.received[1]).not.toHaveProperty('token');
    expect(recorder.tokens.given).toBe(1);
  });

  it('shows a repetition in place of the first, and data alone not at all', async () => {
    await send();
    await send();
    await send({}, { data: ['a'] });
    const [first, second, silent] = recorder.received;
    expect(first?.android).toEqual(second?.android);
    expect(first?.android?.notification).toEqual({ tag: expect.stringMatching(/^[0-9a-f]{32}$/) });
    expect(silent).toMatchObject({ data: { data: '["a"]' } });
    expect(silent).not.toHaveProperty('notification');
    expect(silent?.android).not.toHaveProperty('notification');
  });

  it('is kept no longer than the request is good for', async () => {
    await send({ ttlSeconds: 600 }, content, { expiresAt: '2026-03-04T05:07:07.900Z' });
    await send({ ttlSeconds: 600 }, content, { expiresAt: '2026-03-04T05:06:00Z' });
    await send({ ttlSeconds: 600 }, content, { expiresAt: '2026-03-05T05:06:00Z' });
    expect(recorder.received.map(({ android }) => android?.ttl)).toEqual(['60s', '0s', '600s']);
    expect(recorder.received[1]?.apns?.headers['apns-expiration']).toBe('0');
  });

  it('asks for another token after one was refused', async () => {
    await send();
    recorder.respond = ({ path }) => (path === '/token' ? undefined : fcmError(401, 'UNAUTHENTICATED', 'expired'));
    expect(await send()).toMatchObject({ category: 'AUTHENTICATION', code: 'FCM_UNAUTHENTICATED' });
    recorder.respond = () => undefined;
    expect(await send()).toMatchObject({ kind: 'accepted' });
    expect(recorder.tokens.given).toBe(2);
  });

  it('says that a device is gone, so that its destination is disabled and its token suppressed', async () => {
    recorder.gone.add(DEVICE);
    expect(await send()).toMatchObject({ category: 'PERMANENT', code: 'FCM_UNREGISTERED', gone: true });
    expect(await send({ to: `${DEVICE}-invalid` })).toMatchObject({ code: 'FCM_INVALID_TOKEN', gone: true });
  });

  it.each<[string, Content, JsonObject, string]>([
    ['nothing', {}, {}, 'EMPTY_BODY'],
    ['more than 4,096 bytes', { text: 'é'.repeat(2_048) }, {}, 'TOO_LARGE'],
    ['a key that is taken', { data: { 'google.x': 1 } }, {}, 'RESERVED_KEY'],
    ['a variable that is not there', content, { title: '{{nobody}}' }, 'TEMPLATE_ERROR'],
  ])('does not trouble Google with %s', async (_, message, change, code) => {
    expect(await send(change, message)).toMatchObject({ category: 'VALIDATION', code });
    expect(recorder.requests).toHaveLength(0);
  });

  it('tests key, project and device without sending', async () => {
    const test = (change: JsonObject = {}) => adapter.test(configOf(recorder.port, change), options());
    expect(await test()).toMatchObject({ ok: true });
    const other = generateKeyPairSync('rsa', { modulusLength: 2_048 }).privateKey.export({
      type: 'pkcs8',
      format: 'pem',
    });
    expect(await test({ privateKey: other.toString() })).toMatchObject({ problems: [{ path: 'privateKey' }] });
    expect(await test({ projectId: 'another-project' })).toMatchObject({ problems: [{ path: 'projectId' }] });
    recorder.gone.add(DEVICE);
    expect(await test()).toMatchObject({ ok: false, problems: [{ path: 'to' }] });
    expect(recorder.received).toHaveLength(0);
  });
});
