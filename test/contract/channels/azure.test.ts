import { randomUUID } from 'node:crypto';
import {
  ContainerSASPermissions,
  generateBlobSASQueryParameters,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AzureAdapter } from '../../../src/channels/adapters/azure.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import { AZURITE_ACCOUNT, type Azurite, startAzurite } from '../../support/peers/azurite.js';
import { startHttpFront } from '../../support/peers/http-front.js';
import type { Answer } from '../../support/peers/http-peer.js';
import { conforms, LOOPBACK, messageOf, options } from './conformance.js';
import { answering, type Reactions } from './peers.js';

const QUOTE = `${AZURITE_ACCOUNT.accountKey} Ada Lovelace`;
const content: Content = { text: 'Ada Lovelace' };
let azurite: Azurite;
beforeAll(async () => {
  azurite = await startAzurite();
}, 120_000);
afterAll(() => azurite.close());

const refusal = (status: number, code: string, headers: Record<string, string> = {}): Answer => ({
  status,
  headers: { 'content-type': 'application/xml', 'x-ms-error-code': code, ...headers },
  body: `<?xml version="1.0" encoding="utf-8"?><Error><Code>${code}</Code><Message>${QUOTE}\nRequestId:1</Message></Error>`,
});

const REACTIONS: Reactions = {
  accepts: undefined,
  unavailable: refusal(500, 'InternalError'),
  unauthorized: refusal(403, 'AuthenticationFailed'),
  limited: refusal(503, 'ServerBusy', { 'retry-after': '4' }),
  silent: 'silence',
  drops: 'drop',
};

const ownOf = (port: number, change: JsonObject = {}): JsonObject => ({
  ...AZURITE_ACCOUNT,
  container: 'archive',
  endpoint: `http://127.0.0.1:${port}/${AZURITE_ACCOUNT.accountName}`,
  ...change,
});
const configOf = (port: number, change: JsonObject = {}): JsonObject => ({
  provider: 'azure',
  config: ownOf(port),
  path: '/audit/{organizationId}/{year}/',
  ...change,
});

conforms({
  name: 'azure',
  create: (egress) => new AzureAdapter(egress),
  async start() {
    const front = await startHttpFront(azurite.port);
    return answering(front, configOf(front.port), REACTIONS, {
      seen: () => front.received.length,
      accepted: () => (front.respond({} as never) ? 0 : front.received.filter(({ method }) => method === 'PUT').length),
    });
  },
  bad: [
    { change: { config: ownOf(1, { container: 'Not One' }) }, path: 'config.container' },
    { change: { config: ownOf(1, { accountName: 'x' }) }, path: 'config.accountName' },
    { change: { config: ownOf(1, { accountKey: '%' }) }, path: 'config.accountKey' },
    { change: { config: ownOf(1, { sasToken: 'sv=2024&sig=x' }) }, path: 'config.accountKey' },
    { change: { config: ownOf(1, { endpoint: 'http://10.0.0.1' }) }, path: 'config.endpoint' },
    { change: { config: ownOf(1, { accessTier: 'Frozen' }) }, path: 'config.accessTier' },
    { change: { path: '..' }, path: 'path' },
  ],
  refusals: [
    {
      when: 'ContainerNotFound',
      behave: (peer) => peer.answer(refusal(404, 'ContainerNotFound')),
      category: 'CONFIGURATION',
    },
    {
      when: 'RequestBodyTooLarge',
      behave: (peer) => peer.answer(refusal(413, 'RequestBodyTooLarge')),
      category: 'VALIDATION',
    },
    {
      when: 'BlobImmutableDueToPolicy',
      behave: (peer) => peer.answer(refusal(409, 'BlobImmutableDueToPolicy')),
      category: 'PERMANENT',
    },
    {
      when: 'OperationTimedOut',
      behave: (peer) => peer.answer(refusal(500, 'OperationTimedOut')),
      category: 'TEMPORARY',
    },
  ],
  redirect: (port) => ({ config: ownOf(port) }),
  addresses: { good: 'reports/{deliveryId}.pdf', bad: '/a/../b' },
  content,
  oversized: { content, change: { maxBytes: 10 } },
  confidential: [AZURITE_ACCOUNT.accountKey, 'Ada Lovelace'],
  retryAfterMs: 4_000,
});

describe('azure', () => {
  let egress: Egress;
  let adapter: AzureAdapter;
  beforeEach(() => {
    egress = new Egress({ allowedNetworks: LOOPBACK });
    adapter = new AzureAdapter(egress);
    return () => egress.close();
  });
  const blob = (path: string) => azurite.service.getContainerClient('archive').getBlockBlobClient(path);

  it('stores a blob with its type, its tier and whose it is', async () => {
    const config = configOf(azurite.port, { config: ownOf(azurite.port, { accessTier: 'Cool' }) });
    await adapter.send(messageOf(config, content), options());
    const stored = blob('audit/organization-1/2026/delivery-1-content.txt');
    expect((await stored.downloadToBuffer()).toString()).toBe('Ada Lovelace');
    expect(await stored.getProperties()).toMatchObject({
      contentType: 'text/plain; charset=utf-8',
      accessTier: 'Cool',
      metadata: { waybilldelivery: 'delivery-1' },
    });
  });

  it('is let in by a shared access signature, and not by a wrong key', async () => {
    const credential = new StorageSharedKeyCredential(AZURITE_ACCOUNT.accountName, AZURITE_ACCOUNT.accountKey);
    const permissions = ContainerSASPermissions.parse('rcwl');
    const expiresOn = new Date(Date.now() + 3_600_000);
    const sasToken = generateBlobSASQueryParameters(
      { containerName: 'archive', permissions, expiresOn },
      credential,
    ).toString();
    const { accountKey: _, ...own } = ownOf(azurite.port, { sasToken });
    const config = configOf(azurite.port, { config: own, path: 'sas/{filename}' });
    expect(adapter.validate(config)).toEqual([]);
    expect(await adapter.send(messageOf(config, content), options())).toMatchObject({ kind: 'accepted' });
    const wrong = configOf(azurite.port, { config: ownOf(azurite.port, { accountKey: 'd3Jvbmc=' }) });
    expect(await adapter.send(messageOf(wrong, content), options())).toMatchObject({ category: 'AUTHENTICATION' });
  });

  it('sends a large file in blocks', async () => {
    const bytes = Buffer.alloc(11 * 1_024 * 1_024, 'waybill');
    const file = { filename: 'large.bin', contentType: 'application/octet-stream', base64: bytes.toString('base64') };
    const config = configOf(azurite.port, { path: 'big/{filename}' });
    expect(await adapter.send(messageOf(config, { attachments: [file] }), options())).toMatchObject({
      kind: 'accepted',
    });
    expect((await blob('big/large.bin').getProperties()).contentLength).toBe(bytes.length);
  }, 180_000);

  it('removes blobs that were kept for long enough, and no others', async () => {
    const config = configOf(azurite.port, { path: '/kept/', retention: { days: 30, autoCleanup: true } });
    await adapter.send(messageOf(config, content, { deliveryId: randomUUID() }), options());
    await adapter.send(messageOf({ ...config, path: 'kept/mine.txt' }, content), options());
    const cleanUp = (now: Date) =>
      adapter.cleanUp(config, { organizationId: 'organization-1', now, signal: new AbortController().signal });
    expect(await cleanUp(new Date())).toEqual({ removed: 0 });
    expect(await cleanUp(new Date(Date.now() + 31 * 86_400_000))).toEqual({ removed: 1 });
    expect(await blob('kept/mine.txt').exists()).toBe(true);
  });
});
