import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GcsAdapter } from '../../../src/channels/adapters/gcs.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import { type GcsRecorder, gcsError, startGcsRecorder } from '../../support/peers/gcs-recorder.js';
import { conforms, LOOPBACK, messageOf, options } from './conformance.js';
import { answering, type Reactions } from './peers.js';

const keys = generateKeyPairSync('rsa', { modulusLength: 2_048 });
const privateKey = keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
const clientEmail = 'waybill@hospital.iam.gserviceaccount.com';
const QUOTE = `${clientEmail} Ada Lovelace`;
const content: Content = { text: 'Ada Lovelace' };

const REACTIONS: Reactions = {
  accepts: undefined,
  unavailable: gcsError(503, 'backendError', QUOTE),
  unauthorized: gcsError(403, 'forbidden', QUOTE),
  limited: { ...gcsError(429, 'rateLimitExceeded', QUOTE), headers: { 'retry-after': '6' } },
  silent: 'silence',
  drops: 'drop',
};

const ownOf = (port: number, change: JsonObject = {}): JsonObject => ({
  ...{ bucket: 'archive', clientEmail, privateKey },
  endpoint: `http://127.0.0.1:${port}`,
  tokenEndpoint: `http://127.0.0.1:${port}/token`,
  ...change,
});
const configOf = (port: number, change: JsonObject = {}): JsonObject => ({
  provider: 'gcs',
  config: ownOf(port),
  path: '/audit/{organizationId}/{year}/',
  ...change,
});

conforms({
  name: 'gcs',
  create: (egress) => new GcsAdapter(egress),
  async start() {
    const recorder = await startGcsRecorder(keys.publicKey);
    return answering(recorder, configOf(recorder.port), REACTIONS, {
      seen: () => recorder.received.filter(({ path }) => path !== '/token').length,
      accepted: () => recorder.objects.size,
    });
  },
  bad: [
    { change: { config: ownOf(1, { bucket: 'Not One' }) }, path: 'config.bucket' },
    { change: { config: ownOf(1, { clientEmail: 'nobody' }) }, path: 'config.clientEmail' },
    { change: { config: ownOf(1, { privateKey: 'no key' }) }, path: 'config.privateKey' },
    { change: { config: ownOf(1, { endpoint: 'http://169.254.169.254' }) }, path: 'config.endpoint' },
    { change: { config: ownOf(1, { tokenEndpoint: 'http://[::1]/' }) }, path: 'config.tokenEndpoint' },
    { change: { config: ownOf(1, { storageClass: 'ATTIC' }) }, path: 'config.storageClass' },
  ],
  refusals: [
    {
      when: 'a bucket that is not there',
      behave: (peer) => peer.answer(gcsError(404, 'notFound', QUOTE)),
      category: 'CONFIGURATION',
    },
    {
      when: 'a token that was revoked',
      behave: (peer) => peer.answer(gcsError(401, 'authError', QUOTE)),
      category: 'AUTHENTICATION',
    },
    {
      when: 'an object under retention',
      behave: (peer) => peer.answer(gcsError(403, 'retentionPolicyNotMet', QUOTE)),
      category: 'PERMANENT',
    },
    {
      when: 'an upload too large',
      behave: (peer) => peer.answer(gcsError(413, 'uploadTooLarge', QUOTE)),
      category: 'VALIDATION',
    },
  ],
  redirect: (port) => ({ config: ownOf(port) }),
  addresses: { good: 'reports/{deliveryId}.pdf', bad: '/a/../b' },
  content,
  oversized: { content, change: { maxBytes: 10 } },
  confidential: [clientEmail, 'Ada Lovelace', privateKey.slice(100, 160)],
  retryAfterMs: 6_000,
});

describe('gcs', () => {
  let recorder: GcsRecorder;
  let egress: Egress;
  let adapter: GcsAdapter;
  beforeEach(async () => {
    egress = new Egress({ allowedNetworks: LOOPBACK });
    adapter = new GcsAdapter(egress);
    recorder = await startGcsRecorder(keys.publicKey);
  });
  afterEach(async () => {
    await recorder.close();
    await egress.close();
  });
  const send = (change: JsonObject = {}, own: JsonObject = {}, deliveryId = 'delivery-1') =>
    adapter.send(
      messageOf(configOf(recorder.port, { config: ownOf(recorder.port, own), ...change }), content, { deliveryId }),
      options(),
    );

  it('stores bytes and metadata in one request, and asks once for a token', async () => {
    const kmsKeyName = 'projects/p/locations/eu/keyRings/r/cryptoKeys/k';
    await send({}, { storageClass: 'COLDLINE', kmsKeyName });
    await send({ path: 'other' });
    const stored = recorder.objects.get('audit/organization-1/2026/delivery-1-content.txt');
    expect(stored?.bytes.toString()).toBe('Ada Lovelace');
    expect(stored?.metadata).toMatchObject({
      contentType: 'text/plain; charset=utf-8',
      storageClass: 'COLDLINE',
      metadata: { waybillDelivery: 'delivery-1' },
    });
    expect(recorder.received.some(({ path }) => path.includes(`kmsKeyName=${encodeURIComponent(kmsKeyName)}`))).toBe(
      true,
    );
    expect(recorder.tokens()).toBe(1);
  });

  it('asks for another token after one was refused', async () => {
    await send();
    recorder.respond = () => gcsError(401, 'authError', 'Invalid Credentials');
    expect(await send()).toMatchObject({ category: 'AUTHENTICATION' });
    recorder.respond = () => undefined;
    expect(await send()).toMatchObject({ kind: 'accepted' });
    expect(recorder.tokens()).toBe(2);
  });

  it('tells a key that Google does not know apart', async () => {
    const other = generateKeyPairSync('rsa', { modulusLength: 2_048 }).privateKey.export({
      type: 'pkcs8',
      format: 'pem',
    });
    expect(await send({}, { privateKey: other.toString() })).toMatchObject({ category: 'AUTHENTICATION' });
  });

  it('removes objects that were kept for long enough, and no others', async () => {
    const retention = { days: 30, autoCleanup: true };
    await send({ path: '/kept/', retention }, {}, randomUUID());
    await send({ path: 'kept/mine.txt' });
    const config = configOf(recorder.port, { path: '/kept/', retention });
    const cleanUp = (now: Date) =>
      adapter.cleanUp(config, { organizationId: 'organization-1', now, signal: new AbortController().signal });
    expect(await cleanUp(new Date())).toEqual({ removed: 0 });
    expect(await cleanUp(new Date(Date.now() + 31 * 86_400_000))).toEqual({ removed: 1 });
    expect([...recorder.objects.keys()]).toEqual(['kept/mine.txt']);
  });
});
