import { generateKeyPairSync } from 'node:crypto';
import { decodeJwt, decodeProtectedHeader } from 'jose';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ApnsAdapter } from '../../../src/channels/adapters/apns.js';
import type { OutgoingMessage, SendOptions } from '../../../src/channels/channel.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import { type ApnsAnswer, type ApnsRecorder, startApnsRecorder } from '../../support/peers/apns-recorder.js';
import { LOCALHOST } from '../../support/peers/certificate.js';
import { conforms, LOOPBACK, messageOf, options } from './conformance.js';
import { type Reactions, recording } from './peers.js';

const ec = () => generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
const keys = ec();
const pem = (key: ReturnType<typeof ec>['privateKey']) => key.export({ type: 'pkcs8', format: 'pem' }).toString();
const privateKey = pem(keys.privateKey);
const APP = { teamId: 'TEAM012345', keyId: 'KEY0123456', topic: 'org.hospital.app' };
const DEVICE = 'a1b2c3d4'.repeat(8);
const content: Content = { subject: 'Ward 4', text: 'Ada Lovelace' };

const REACTIONS: Reactions<ApnsAnswer | 'drop' | 'silence'> = {
  accepts: undefined,
  unavailable: { status: 503, reason: 'ServiceUnavailable' },
  unauthorized: { status: 403, reason: 'InvalidProviderToken' },
  limited: { status: 429, reason: 'TooManyRequests', headers: { 'retry-after': '8' } },
  silent: 'silence',
  drops: 'drop',
};

const configOf = (endpoint: string, change: JsonObject = {}): JsonObject => ({
  service: 'apns',
  ...APP,
  privateKey,
  to: DEVICE,
  endpoint,
  ...change,
});

const refusal = (status: number, reason: string, category: string) => ({
  when: `${status} ${reason}`,
  behave: (peer: { answer(answer: ApnsAnswer): void }) => peer.answer({ status, reason }),
  category: category as never,
  code: `APNS_${reason.replace(/([a-z])([A-Z])/g, '$1_$2').toUpperCase()}`,
});

conforms({
  name: 'apns',
  create: (egress) => new ApnsAdapter(egress),
  async start() {
    const recorder = await startApnsRecorder(keys.publicKey, APP);
    return recording(recorder, configOf(recorder.url), REACTIONS);
  },
  bad: [
    { change: { teamId: 'team' }, path: 'teamId' },
    { change: { keyId: 'key' }, path: 'keyId' },
    { change: { privateKey: 'no key' }, path: 'privateKey' },
    {
      change: { privateKey: pem(generateKeyPairSync('ec', { namedCurve: 'secp384r1' }).privateKey) },
      path: 'privateKey',
    },
    { change: { topic: 'not a bundle' }, path: 'topic' },
    { change: { environment: 'test' }, path: 'environment' },
    { change: { to: 'abc' }, path: 'to' },
    { change: { to: `${DEVICE}0` }, path: 'to' },
    { change: { interruptionLevel: 'loud' }, path: 'interruptionLevel' },
    { change: { collapseId: 'x'.repeat(65) }, path: 'collapseId' },
    { change: { ttlSeconds: -1 }, path: 'ttlSeconds' },
    { change: { endpoint: 'https://10.0.0.1' }, path: 'endpoint' },
  ],
  refusals: [
    refusal(410, 'Unregistered', 'PERMANENT'),
    refusal(410, 'ExpiredToken', 'PERMANENT'),
    refusal(400, 'BadDeviceToken', 'PERMANENT'),
    refusal(400, 'DeviceTokenNotForTopic', 'CONFIGURATION'),
    refusal(400, 'BadCollapseId', 'VALIDATION'),
    refusal(403, 'ExpiredProviderToken', 'AUTHENTICATION'),
    refusal(413, 'PayloadTooLarge', 'VALIDATION'),
    refusal(429, 'TooManyProviderTokenUpdates', 'RATE_LIMIT'),
    refusal(500, 'InternalServerError', 'TEMPORARY'),
    refusal(503, 'Shutdown', 'TEMPORARY'),
  ],
  redirect: (port) => ({ endpoint: `http://127.0.0.1:${port}` }),
  addresses: { good: 'B'.repeat(64), bad: 'https://example.com' },
  content,
  confidential: [DEVICE, 'Ada Lovelace', privateKey.slice(60, 120)],
  retryAfterMs: 8_000,
});

describe('apns', () => {
  let recorder: ApnsRecorder;
  let egress: Egress;
  let adapter: ApnsAdapter;
  const start = async (tls?: typeof LOCALHOST, trustedCertificates: string[] = []) => {
    egress = new Egress({ allowedNetworks: LOOPBACK, trustedCertificates });
    adapter = new ApnsAdapter(egress);
    recorder = await startApnsRecorder(keys.publicKey, APP, tls);
  };
  beforeEach(() => start());
  afterEach(async () => {
    await recorder.close();
    await adapter.close();
    await egress.close();
  });
  const now = new Date('2026-03-04T05:06:07Z');
  const send = (
    change: JsonObject = {},
    message: Content = content,
    more: Partial<OutgoingMessage> = {},
    how: Partial<SendOptions> = {},
  ) => adapter.send(messageOf(configOf(recorder.url, change), message, more), { ...options(), now, ...how });

  it('gives Apple what is shown, what is not, and how', async () => {
    const outcome = await send(
      { sound: 'default', category: 'ALARM', threadId: 'ward-4', interruptionLevel: 'time-sensitive', ttlSeconds: 60 },
      { ...content, data: { bed: 2, aps: { badge: 3 } } },
    );
    const [alert] = recorder.received;
    expect(alert).toMatchObject({
      device: DEVICE,
      headers: {
        'apns-topic': APP.topic,
        'apns-push-type': 'alert',
        'apns-priority': '10',
        'apns-expiration': String(now.getTime() / 1_000 + 60),
        'apns-id': expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
      },
      payload: {
        bed: 2,
        aps: {
          alert: { title: 'Ward 4', body: 'Ada Lovelace' },
          sound: 'default',
          category: 'ALARM',
          'thread-id': 'ward-4',
          'interruption-level': 'time-sensitive',
          badge: 3,
        },
      },
    });
    expect(outcome).toEqual({ kind: 'accepted', delivered: false, providerMessageId: alert?.headers['apns-id'] });
  });

  it('wakes the app for data alone, as power allows', async () => {
    await send({}, { data: { sync: true } }, { expiresAt: '2026-03-04T05:06:00Z' });
    await send({}, content, { priority: 'LOW' });
    expect(recorder.received).toMatchObject([
      {
        headers: { 'apns-push-type': 'background', 'apns-priority': '5', 'apns-expiration': '0' },
        payload: { sync: true, aps: { 'content-available': 1 } },
      },
      { headers: { 'apns-push-type': 'alert', 'apns-priority': '5' } },
    ]);
  });

  it('has the same id and takes the same place when an attempt is repeated, and others when it is not', async () => {
    await send();
    await send();
    await send({}, content, {}, { attemptKey: 'attempt-0002' });
    await send({ collapseId: 'score' });
    const named = recorder.received.map(({ headers }) => [headers['apns-id'], headers['apns-collapse-id']]);
    expect(named[0]).toEqual(named[1]);
    expect(named[2]?.[0]).not.toBe(named[0]?.[0]);
    expect(named[2]?.[1]).not.toBe(named[0]?.[1]);
    expect(named[3]?.[1]).toBe('score');
  });

  it('uses one connection and one token for many', async () => {
    await Promise.all(
      Array.from({ length: 50 }, (_, number) => send({}, content, {}, { attemptKey: `attempt-${number}` })),
    );
    expect(recorder.received).toHaveLength(50);
    expect(recorder.connections()).toBe(1);
    const tokens = new Set(recorder.received.map(({ headers }) => headers.authorization?.slice('bearer '.length)));
    expect(tokens.size).toBe(1);
    const [token] = tokens;
    expect(decodeProtectedHeader(token as string)).toEqual({ alg: 'ES256', kid: APP.keyId });
    expect(decodeJwt(token as string)).toEqual({ iss: APP.teamId, iat: expect.any(Number) });
  });

  it('makes a new token for a refused one, and one after 49 minutes', async () => {
    const token = () => recorder.requests.at(-1)?.headers.authorization;
    await send();
    const first = token();
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 48 * 60_000 });
    await send();
    expect(token()).toBe(first);
    vi.setSystemTime(Date.now() + 2 * 60_000);
    await send();
    const second = token();
    expect(second).not.toBe(first);
    recorder.respond = () => ({ status: 403, reason: 'ExpiredProviderToken' });
    await send();
    recorder.respond = () => undefined;
    vi.setSystemTime(Date.now() + 1_000);
    await send();
    expect(token()).not.toBe(second);
    vi.useRealTimers();
  });

  it('takes another connection when Apple wants this one to be used no more', async () => {
    await send();
    recorder.goAway();
    await vi.waitFor(async () => {
      expect(await send()).toMatchObject({ kind: 'accepted' });
      expect(recorder.connections()).toBe(2);
    }, 20_000);
  });

  it('takes another connection after one that did not answer', async () => {
    // On a connection that is there: what is given up before there is one is in no doubt.
    await send();
    recorder.respond = () => 'silence';
    expect(await send({ timeout: 200 })).toMatchObject({ code: 'TIMEOUT', inDoubt: true });
    recorder.respond = () => undefined;
    expect(await send()).toMatchObject({ kind: 'accepted' });
    expect(recorder.connections()).toBe(2);
  });

  it('knows that a refused stream was not looked at', async () => {
    recorder.respond = () => 'refuse';
    const outcome = await send();
    expect(outcome).toMatchObject({ category: 'NETWORK' });
    expect(outcome).not.toHaveProperty('inDoubt');
  });

  it.each(['Unregistered', 'ExpiredToken', 'BadDeviceToken'])('says that a device is gone (%s)', async (reason) => {
    recorder.respond = () => ({ status: reason === 'BadDeviceToken' ? 400 : 410, reason });
    expect(await send()).toMatchObject({ category: 'PERMANENT', gone: true });
  });

  it('counts bytes before it sends them', async () => {
    const room = 4_096 - Buffer.byteLength(JSON.stringify({ aps: { alert: { body: '' } } }));
    expect(await send({}, { text: 'é'.repeat(Math.ceil((room + 1) / 2)) })).toMatchObject({ code: 'TOO_LARGE' });
    expect(recorder.requests).toHaveLength(0);
    expect(await send({}, { text: 'x'.repeat(room) })).toMatchObject({ kind: 'accepted' });
  });

  it('tests key, team and topic by a device that nobody has', async () => {
    const test = (change: JsonObject = {}) => adapter.test(configOf(recorder.url, change), options());
    expect(await test()).toMatchObject({ ok: true });
    expect(await test({ privateKey: pem(ec().privateKey) })).toMatchObject({ problems: [{ path: 'privateKey' }] });
    expect(await test({ topic: 'org.hospital.other' })).toMatchObject({ problems: [{ path: 'topic' }] });
    expect(recorder.received).toHaveLength(0);
  });

  describe('over TLS', () => {
    const restart = async (trusted: string[]) => {
      await recorder.close();
      await adapter.close();
      await egress.close();
      await start(LOCALHOST, trusted);
    };

    it('speaks HTTP/2 with whom it trusts', async () => {
      await restart([LOCALHOST.cert]);
      expect(await send()).toMatchObject({ kind: 'accepted' });
    });

    it('and with nobody else', async () => {
      await restart([]);
      expect(await send()).toMatchObject({ category: 'NETWORK', code: 'DEPTH_ZERO_SELF_SIGNED_CERT' });
      expect(recorder.requests).toHaveLength(0);
    });
  });
});
