import { randomUUID } from 'node:crypto';
import { GetObjectCommand, HeadObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { S3Adapter } from '../../../src/channels/adapters/s3.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import type { Answer, Reaction } from '../../support/peers/http-peer.js';
import { type S3Peer, startS3 } from '../../support/peers/s3.js';
import { type Behaviour, conforms, LOOPBACK, messageOf, options } from './conformance.js';

/** s3rver knows these and no others. */
const KEYS = { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' };
const QUOTE = `${KEYS.secretAccessKey} Ada Lovelace`;
const content: Content = { text: 'Ada Lovelace' };

const refusal = (status: number, code: string, headers: Record<string, string> = {}): Answer => ({
  status,
  headers: { 'content-type': 'application/xml', ...headers },
  body: `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>${QUOTE}</Message><RequestId>1</RequestId></Error>`,
});

const REACTIONS: Readonly<Record<Behaviour, Reaction | undefined>> = {
  accepts: undefined,
  unavailable: refusal(503, 'ServiceUnavailable'),
  unauthorized: refusal(403, 'SignatureDoesNotMatch'),
  limited: refusal(503, 'SlowDown', { 'retry-after': '5' }),
  silent: 'silence',
  drops: 'drop',
};

const configOf = ({ front, bucket }: S3Peer, own: JsonObject = {}, change: JsonObject = {}): JsonObject => ({
  provider: 's3',
  config: { region: 'us-east-1', bucket, ...KEYS, endpoint: front.origin, ...own },
  path: '/audit-logs/{organizationId}/{year}/{month}/{day}/',
  ...change,
});
const own = (change: JsonObject) => ({
  config: { region: 'us-east-1', bucket: 'hospital-archive', ...KEYS, ...change },
});

conforms({
  name: 's3',
  create: (egress) => new S3Adapter(egress),
  async start() {
    const peer = await startS3();
    return {
      config: configOf(peer),
      port: peer.front.port,
      answer: (reaction: Reaction | undefined) => {
        peer.front.respond = () => reaction;
      },
      behave: (behaviour: Behaviour) => {
        peer.front.respond = () => REACTIONS[behaviour];
      },
      seen: () => peer.front.received.length,
      accepted: () =>
        peer.front.respond({} as never) ? 0 : peer.front.received.filter(({ method }) => method === 'PUT').length,
      close: peer.close,
    };
  },
  bad: [
    { change: { provider: 'floppy' }, path: 'provider' },
    { change: own({ bucket: 'Not A Bucket' }), path: 'config.bucket' },
    { change: own({ region: '' }), path: 'config.region' },
    { change: own({ secretAccessKey: 'two words' }), path: 'config.secretAccessKey' },
    { change: own({ endpoint: 'http://169.254.169.254' }), path: 'config.endpoint' },
    { change: own({ serverSideEncryption: 'rot13' }), path: 'config.serverSideEncryption' },
    { change: own({ kmsKeyId: 'key' }), path: 'config.kmsKeyId' },
    { change: own({ storageClass: 'ATTIC' }), path: 'config.storageClass' },
    { change: own({ objectLock: { mode: 'GOVERNANCE', days: 0 } }), path: 'config.objectLock.days' },
    { change: { path: '/a/../b/' }, path: 'path' },
    { change: { retention: { days: 0 } }, path: 'retention.days' },
    {
      change: { path: '/latest/{filename}', retention: { days: 1, autoCleanup: true } },
      path: 'retention.autoCleanup',
    },
  ],
  refusals: [
    { when: 'AccessDenied', behave: (peer) => peer.answer(refusal(403, 'AccessDenied')), category: 'AUTHENTICATION' },
    { when: 'ExpiredToken', behave: (peer) => peer.answer(refusal(400, 'ExpiredToken')), category: 'AUTHENTICATION' },
    { when: 'NoSuchBucket', behave: (peer) => peer.answer(refusal(404, 'NoSuchBucket')), category: 'CONFIGURATION' },
    {
      when: 'another region',
      behave: (peer) => peer.answer(refusal(301, 'PermanentRedirect')),
      category: 'CONFIGURATION',
    },
    { when: 'EntityTooLarge', behave: (peer) => peer.answer(refusal(400, 'EntityTooLarge')), category: 'VALIDATION' },
    { when: 'InternalError', behave: (peer) => peer.answer(refusal(500, 'InternalError')), category: 'TEMPORARY' },
    { when: 'an error without words', behave: (peer) => peer.answer({ status: 500 }), category: 'TEMPORARY' },
  ],
  redirect: (port) => own({ endpoint: `http://127.0.0.1:${port}` }),
  addresses: { good: 'reports/{deliveryId}.pdf', bad: '../other' },
  content,
  oversized: { content, change: { maxBytes: 10 } },
  confidential: [KEYS.secretAccessKey, 'Ada Lovelace'],
  retryAfterMs: 5_000,
});

describe('s3', () => {
  let peer: S3Peer;
  let egress: Egress;
  let adapter: S3Adapter;
  let client: S3Client;

  beforeEach(async () => {
    egress = new Egress({ allowedNetworks: LOOPBACK });
    adapter = new S3Adapter(egress);
    peer = await startS3();
    client = new S3Client({
      region: 'us-east-1',
      endpoint: peer.front.origin,
      forcePathStyle: true,
      credentials: { ...KEYS },
    });
  });
  afterEach(async () => {
    client.destroy();
    await peer.close();
    await egress.close();
  });
  const send = (config: JsonObject, more: Content = content, deliveryId = 'delivery-1') =>
    adapter.send(messageOf(config, more, { deliveryId }), options());
  const read = async (Key: string) => {
    const { Body, ContentType, Metadata } = await client.send(new GetObjectCommand({ Bucket: peer.bucket, Key }));
    return { text: await Body?.transformToString(), ContentType, Metadata };
  };

  it('stores the file at the path the template says, with its type and whose it is', async () => {
    const key = 'audit-logs/organization-1/2026/03/04/delivery-1-content.txt';
    expect(await send(configOf(peer))).toEqual({ kind: 'accepted', delivered: true, providerMessageId: key });
    expect(await read(key)).toEqual({
      text: 'Ada Lovelace',
      ContentType: 'text/plain; charset=utf-8',
      Metadata: { 'waybill-delivery': 'delivery-1' },
    });
  });

  it('asks for encryption, storage class and object lock as S3 documents them', async () => {
    const kmsKeyId = 'arn:aws:kms:us-east-1:111122223333:key/1234abcd';
    const wishes = { serverSideEncryption: 'aws:kms', kmsKeyId, storageClass: 'STANDARD_IA' };
    const config = configOf(peer, { ...wishes, objectLock: { mode: 'COMPLIANCE', days: 7 } });
    expect(adapter.validate(config)).toEqual([]);
    await send(config);
    const sent = peer.front.received.find(({ method }) => method === 'PUT');
    expect(sent?.headers).toMatchObject({
      'x-amz-server-side-encryption': 'aws:kms',
      'x-amz-server-side-encryption-aws-kms-key-id': kmsKeyId,
      'x-amz-storage-class': 'STANDARD_IA',
      'x-amz-object-lock-mode': 'COMPLIANCE',
      'x-amz-object-lock-retain-until-date': '2026-03-11T05:06:07Z',
      authorization: expect.stringMatching(/^AWS4-HMAC-SHA256 Credential=S3RVER\/\d{8}\/us-east-1\/s3\//),
    });
  });

  it('sends a large file in parts', async () => {
    const bytes = Buffer.alloc(11 * 1_024 * 1_024, 'waybill');
    const file = { filename: 'large.bin', contentType: 'application/octet-stream', base64: bytes.toString('base64') };
    expect(await send(configOf(peer, {}, { path: 'big/{filename}' }), { attachments: [file] })).toMatchObject({
      kind: 'accepted',
    });
    expect(peer.front.received.filter(({ path }) => path.includes('partNumber=')).length).toBe(3);
    const { ContentLength } = await client.send(new HeadObjectCommand({ Bucket: peer.bucket, Key: 'big/large.bin' }));
    expect(ContentLength).toBe(bytes.length);
  }, 180_000);

  it('removes files that were kept for long enough, and no others', async () => {
    const config = configOf(peer, {}, { retention: { days: 30, autoCleanup: true } });
    await send(config, content, randomUUID());
    await send(configOf(peer, {}, { path: 'audit-logs/organization-1/mine.txt' }));
    const cleanUp = (now: Date) =>
      adapter.cleanUp(config, { organizationId: 'organization-1', now, signal: new AbortController().signal });
    expect(await cleanUp(new Date())).toEqual({ removed: 0 });
    expect(await cleanUp(new Date(Date.now() + 31 * 86_400_000))).toEqual({ removed: 1 });
    expect(await read('audit-logs/organization-1/mine.txt')).toMatchObject({ text: 'Ada Lovelace' });
  });
});
