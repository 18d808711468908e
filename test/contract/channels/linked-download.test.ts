import { generateKeyPairSync, verify } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AzureAdapter } from '../../../src/channels/adapters/azure.js';
import { GcsAdapter } from '../../../src/channels/adapters/gcs.js';
import { LinkedDownloadAdapter } from '../../../src/channels/adapters/linked-download.js';
import { S3Adapter } from '../../../src/channels/adapters/s3.js';
import type { ChannelAdapter } from '../../../src/channels/channel.js';
import { Egress } from '../../../src/channels/net/egress.js';
import { signedUrl } from '../../../src/channels/vendors/google-signed-url.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import { Offers } from '../../support/offers.js';
import { AZURITE_ACCOUNT, type Azurite, startAzurite } from '../../support/peers/azurite.js';
import { type GcsRecorder, startGcsRecorder } from '../../support/peers/gcs-recorder.js';
import type { Answer, Reaction } from '../../support/peers/http-peer.js';
import { type S3Peer, startS3 } from '../../support/peers/s3.js';
import { expectedSignature } from '../../support/peers/s3-signature.js';
import { type Behaviour, conforms, LOOPBACK, messageOf, options } from './conformance.js';

/** Links of the providers themselves, fetched as recipients fetch them: with nothing but the link. */
const keys = generateKeyPairSync('rsa', { modulusLength: 2_048 });
const privateKey = keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
const S3_KEYS = { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' };
const NAME = "Grüße & 'Kuchen' (1).txt";
const content: Content = {
  attachments: [{ filename: NAME, contentType: 'text/plain', base64: Buffer.from('Ada Lovelace').toString('base64') }],
};

const TEXT: Content = { text: 'Ada Lovelace' };

const s3Config = (origin: string, own: JsonObject = {}): JsonObject => ({
  ...{ provider: 's3', path: '/for/{deliveryId}/{filename}' },
  config: { region: 'us-east-1', bucket: 'hospital-archive', ...S3_KEYS, endpoint: origin, ...own },
});
const azureConfig = (origin: string, own: JsonObject = {}): JsonObject => ({
  ...{ provider: 'azure', path: '/for/{deliveryId}/{filename}' },
  config: { ...AZURITE_ACCOUNT, container: 'archive', endpoint: `${origin}/${AZURITE_ACCOUNT.accountName}`, ...own },
});
const gcsConfig = (origin: string, own: JsonObject = {}): JsonObject => ({
  ...{ provider: 'gcs', path: '/for/{deliveryId}/{filename}' },
  config: {
    ...{ bucket: 'archive', clientEmail: 'waybill@hospital.iam.gserviceaccount.com', privateKey },
    ...{ endpoint: origin, tokenEndpoint: `${origin}/token`, ...own },
  },
});

let offers = new Offers();
const refusal = (status: number, code: string, headers: Record<string, string> = {}): Answer => ({
  status,
  headers: { 'content-type': 'application/xml', ...headers },
  body: `<Error><Code>${code}</Code><Message>${S3_KEYS.secretAccessKey} Ada Lovelace</Message></Error>`,
});
const REACTIONS: Readonly<Record<Behaviour, Reaction | undefined>> = {
  ...{ accepts: undefined, silent: 'silence', drops: 'drop' },
  unavailable: refusal(503, 'ServiceUnavailable'),
  unauthorized: refusal(403, 'SignatureDoesNotMatch'),
  limited: refusal(503, 'SlowDown', { 'retry-after': '5' }),
};

conforms({
  name: 'links of s3',
  create: (egress) => {
    offers = new Offers();
    return new LinkedDownloadAdapter(new S3Adapter(egress), offers);
  },
  async start() {
    const peer = await startS3();
    return {
      config: s3Config(peer.front.origin),
      port: peer.front.port,
      behave: (behaviour: Behaviour) => {
        peer.front.respond = () => REACTIONS[behaviour];
      },
      seen: () => peer.front.received.length,
      accepted: () => offers.linked.size,
      close: peer.close,
    };
  },
  bad: [
    { change: { expiresInSeconds: 59 }, path: 'expiresInSeconds' },
    { change: { expiresInSeconds: 604_801 }, path: 'expiresInSeconds' },
    { change: { password: 'correct horse' }, path: 'password' },
    { change: { maxUses: 3 }, path: 'maxUses' },
    { change: { viewOnly: true }, path: 'viewOnly' },
    { change: s3Config('http://169.254.169.254'), path: 'config.endpoint' },
    { change: s3Config('http://127.0.0.1', { storageClass: 'DEEP_ARCHIVE' }), path: 'config.storageClass' },
    { change: { path: '/a/../b/' }, path: 'path' },
  ],
  refusals: [],
  redirect: (port) => s3Config(`http://127.0.0.1:${port}`),
  addresses: { good: '3600', bad: '604801' },
  content: TEXT,
  oversized: { content: TEXT, change: { maxBytes: 10 } },
  confidential: [S3_KEYS.secretAccessKey, 'Ada Lovelace'],
  retryAfterMs: 5_000,
});

describe('a link of the provider', () => {
  let s3: S3Peer;
  let azurite: Azurite;
  let gcs: GcsRecorder;
  let egress: Egress;
  beforeAll(async () => {
    [s3, azurite, gcs] = await Promise.all([startS3(), startAzurite(), startGcsRecorder(keys.publicKey)]);
  }, 120_000);
  afterAll(() => Promise.all([s3?.close(), azurite?.close(), gcs?.close()]));
  beforeEach(() => {
    egress = new Egress({ allowedNetworks: LOOPBACK });
  });
  afterEach(() => egress.destroy());

  const cases = {
    s3: () => [new S3Adapter(egress), s3Config(s3.origin)] as const,
    azure: () => [new AzureAdapter(egress), azureConfig(`http://127.0.0.1:${azurite.port}`)] as const,
    gcs: () => [new GcsAdapter(egress), gcsConfig(gcs.origin)] as const,
  };
  const made = (provider: keyof typeof cases): { adapter: ChannelAdapter; config: JsonObject; port: Offers } => {
    const [storage, config] = cases[provider]();
    const port = new Offers();
    return { adapter: new LinkedDownloadAdapter<never>(storage as never, port), config, port };
  };
  const providers = Object.keys(cases) as (keyof typeof cases)[];

  /** @param agoMs when the link was made, before now */
  async function linkOf(provider: keyof typeof cases, change: JsonObject = {}, agoMs = 0): Promise<string> {
    const { adapter, config, port } = made(provider);
    expect(adapter.validate({ ...config, ...change })).toEqual([]);
    const now = new Date(Date.now() - agoMs);
    const outcome = await adapter.send(messageOf({ ...config, ...change }, content), { ...options(), now });
    expect(outcome).toEqual({ kind: 'accepted', delivered: true, providerMessageId: 'attempt-0001' });
    const offered = port.linked.get('attempt-0001');
    const seconds = Number(change.expiresInSeconds ?? 604_800);
    expect(offered).toMatchObject({
      ...{ organizationId: 'organization-1', deliveryId: 'delivery-1', provider },
      expiresAt: new Date(now.getTime() + seconds * 1_000).toISOString(),
      files: [{ name: NAME, contentType: 'text/plain', bytes: 12 }],
    });
    return offered?.files[0]?.url ?? '';
  }

  it.each(providers)('of %s gives the file, to be saved under its name', async (provider) => {
    const response = await fetch(await linkOf(provider));
    expect([response.status, await response.text()]).toEqual([200, 'Ada Lovelace']);
    const disposition = response.headers.get('content-disposition');
    expect(disposition).toBe(`attachment; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%26%20%27Kuchen%27%20%281%29.txt`);
  });

  it.each(providers)('of %s ends when it is to, and not before', async (provider) => {
    expect((await fetch(await linkOf(provider, { expiresInSeconds: 3_600 }, 3_000_000))).status).toBe(200);
    const ended = await fetch(await linkOf(provider, { expiresInSeconds: 60 }, 61_000));
    expect(ended.status).toBeGreaterThanOrEqual(400);
    expect(await ended.text()).not.toContain('Ada Lovelace');
  });

  it.each(['azure', 'gcs'] as const)('of %s is for this file alone, and cannot be made to last', async (provider) => {
    const link = await linkOf(provider, { expiresInSeconds: 60 }, 61_000);
    for (const forged of [
      link.replace(/(se=|X-Goog-Date=)2\d\d\d/, '$12999'),
      link.replace('/delivery-1/', '/delivery-2/'),
    ]) {
      expect(forged).not.toBe(link);
      expect((await fetch(forged)).status).toBe(403);
    }
    const write = await fetch(await linkOf(provider), {
      method: 'PUT',
      body: 'x',
      headers: { 'x-ms-blob-type': 'BlockBlob' },
    });
    expect(write.status).toBeGreaterThanOrEqual(400);
  });

  it('of s3 has the signature that the published steps give, also with temporary credentials', async () => {
    const link = await linkOf('s3');
    expect(new URL(link).searchParams.get('X-Amz-Signature')).toBe(expectedSignature(link, S3_KEYS.secretAccessKey));
    const temporary = await linkOf('s3', s3Config(s3.origin, { sessionToken: 'of+temporary/credentials==' }));
    const { searchParams } = new URL(temporary);
    expect(searchParams.get('X-Amz-Signature')).toBe(expectedSignature(temporary, S3_KEYS.secretAccessKey));
    expect(searchParams.get('X-Amz-Security-Token')).toBe('of+temporary/credentials==');
    expect(searchParams.get('X-Amz-Expires')).toBe('604800');
  });

  it('of gcs signs the canonical request that Google documents', () => {
    const account = { clientEmail: 'example@example-project.iam.gserviceaccount.com', privateKey };
    const wish = { from: new Date('2026-10-26T21:19:42.500Z'), seconds: 3_600, disposition: 'attachment' };
    const link = new URL(signedUrl(account, 'https://storage.googleapis.com/example-bucket', 'cats/ä b!.jpeg', wish));
    const query =
      'X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=example%40example-project.iam.gserviceaccount.com%2F20261026%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-Date=20261026T211942Z&X-Goog-Expires=3600&X-Goog-SignedHeaders=host&response-content-disposition=attachment';
    const path = '/example-bucket/cats/%C3%A4%20b%21.jpeg';
    expect(link.href).toContain(`https://storage.googleapis.com${path}?${query}&X-Goog-Signature=`);
    // SHA-256 of GET, path, query, `host:storage.googleapis.com`, an empty line, `host`, UNSIGNED-PAYLOAD, by sha256sum.
    const text = `GOOG4-RSA-SHA256\n20261026T211942Z\n20261026/auto/storage/goog4_request\na7d5be1dca80b0a4f5c82ef31c0cec9f1ca65f9b505d2f953137d38e7253c58e`;
    const signature = Buffer.from(link.searchParams.get('X-Goog-Signature') ?? '', 'hex');
    expect(verify('sha256', Buffer.from(text), keys.publicKey, signature)).toBe(true);
  });

  it('is not made of what cannot be signed or fetched', () => {
    const paths = (provider: keyof typeof cases, config: JsonObject) =>
      made(provider)
        .adapter.validate(config)
        .map(({ path }) => path);
    const { accountKey: _, ...keyless } = azureConfig('http://127.0.0.1').config as JsonObject;
    const shared = { ...azureConfig('http://127.0.0.1'), config: { ...keyless, sasToken: 'sv=2024-01-01&sig=x' } };
    expect(paths('azure', shared)).toEqual(['config.accountKey']);
    expect(paths('azure', azureConfig('http://127.0.0.1', { accessTier: 'Archive' }))).toEqual(['config.accessTier']);
    expect(paths('s3', s3Config('http://127.0.0.1', { storageClass: 'GLACIER' }))).toEqual(['config.storageClass']);
    expect(paths('s3', s3Config('http://127.0.0.1', { storageClass: 'GLACIER_IR' }))).toEqual([]);
    expect(paths('gcs', { ...gcsConfig('http://127.0.0.1'), expiresInSeconds: 604_801 })).toEqual(['expiresInSeconds']);
    const long = { ...azureConfig('http://127.0.0.1'), expiresInSeconds: 366 * 86_400 };
    expect(paths('azure', long)).toEqual([]);
  });

  it('is not offered when it cannot be recorded: the upload is made again', async () => {
    const { adapter, config, port } = made('s3');
    port.isAway = true;
    const outcome = await adapter.send(messageOf(config, content), options());
    expect(outcome).toMatchObject({ kind: 'rejected', category: 'TEMPORARY', code: 'DOWNLOADS_UNAVAILABLE' });
    expect(JSON.stringify(outcome)).not.toContain('X-Amz');
  });

  it('leads nowhere when the files were kept for long enough', async () => {
    const { adapter, config } = made('s3');
    const kept = { ...config, retention: { days: 1, autoCleanup: true } };
    const deliveryId = crypto.randomUUID();
    await adapter.send(messageOf(kept, content, { deliveryId }), options());
    const clean = { organizationId: 'organization-1', now: new Date(Date.now() + 2 * 86_400_000) };
    expect(await adapter.cleanUp?.(kept, { ...clean, signal: new AbortController().signal })).toEqual({ removed: 1 });
  });
});
