import { createHash, generateKeyPairSync } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { GetObjectCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { AzureAdapter } from '../../../src/channels/adapters/azure.js';
import { GcsAdapter } from '../../../src/channels/adapters/gcs.js';
import { LocalAdapter } from '../../../src/channels/adapters/local.js';
import { S3Adapter } from '../../../src/channels/adapters/s3.js';
import { SftpAdapter } from '../../../src/channels/adapters/sftp.js';
import { SmtpAdapter } from '../../../src/channels/adapters/smtp.js';
import type { ChannelAdapter, OutgoingAttachment } from '../../../src/channels/channel.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { JsonObject } from '../../../src/domain/vocabulary.js';
import { type LargeFile, largeFile } from '../../support/large-file.js';
import { AZURITE_ACCOUNT, startAzurite } from '../../support/peers/azurite.js';
import { startGcsRecorder } from '../../support/peers/gcs-recorder.js';
import { hasSshd, startOpenSsh } from '../../support/peers/openssh.js';
import { startS3 } from '../../support/peers/s3.js';
import { startSmtpPeer } from '../../support/peers/smtp.js';
import { LOOPBACK, messageOf, options } from './conformance.js';

/** Files that are never all in memory: each provider that can gets them as they are read, or not at all. */
const MIB = 1_024 * 1_024;
/** More than one part of any of them. */
const BYTES = 9 * MIB + 12_345;

interface Place {
  readonly adapter: ChannelAdapter & { close?(): void };
  readonly config: JsonObject;
  /** The bytes of everything that is there. */
  stored(): Promise<Buffer[]>;
  close(): Promise<void>;
}

const places: Readonly<Record<string, (egress: Egress) => Promise<Place>>> = {
  async local() {
    const root = await mkdtemp(join(tmpdir(), 'waybill-large-'));
    const stored = async () => {
      const entries = await readdir(root, { recursive: true, withFileTypes: true });
      return await Promise.all(
        entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => readFile(join(parentPath, name))),
      );
    };
    const config = { provider: 'local', path: 'in/' };
    return { adapter: new LocalAdapter(root), config, stored, close: () => rm(root, { recursive: true }) };
  },
  async sftp(egress) {
    const peer = await startOpenSsh();
    const stored = async () => {
      const entries = await readdir(peer.folder, { recursive: true, withFileTypes: true });
      const files = entries.filter((entry) => entry.isFile() && !entry.parentPath.includes('.keys'));
      return await Promise.all(files.map(({ parentPath, name }) => readFile(join(parentPath, name))));
    };
    const config = { ...peer.config, path: `${peer.folder}/in/` };
    return { adapter: new SftpAdapter(egress), config, stored, close: () => peer.close() };
  },
  async s3(egress) {
    const peer = await startS3();
    const keys = { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' };
    const place = { region: 'eu-central-1', endpoint: peer.origin };
    const client = new S3Client({ ...place, forcePathStyle: true, credentials: keys });
    const stored = async () => {
      const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: peer.bucket }));
      return await Promise.all(
        Contents.map(async ({ Key }) => {
          const { Body } = await client.send(new GetObjectCommand({ Bucket: peer.bucket, Key }));
          return Buffer.from((await Body?.transformToByteArray()) ?? []);
        }),
      );
    };
    const config = { provider: 's3', path: 'in/', config: { ...place, ...keys, bucket: peer.bucket } };
    const close = async () => {
      client.destroy();
      await peer.close();
    };
    return { adapter: new S3Adapter(egress), config, stored, close };
  },
  async azure(egress) {
    const peer = await startAzurite();
    const endpoint = `http://127.0.0.1:${peer.port}/${AZURITE_ACCOUNT.accountName}`;
    const container = peer.service.getContainerClient(peer.container);
    const stored = async () => {
      const blobs: Buffer[] = [];
      for await (const { name } of container.listBlobsFlat())
        blobs.push(await container.getBlobClient(name).downloadToBuffer());
      return blobs;
    };
    const own = { ...AZURITE_ACCOUNT, container: peer.container, endpoint };
    const config = { provider: 'azure', path: 'in/', config: own };
    return { adapter: new AzureAdapter(egress), config, stored, close: () => peer.close() };
  },
  async gcs(egress) {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 });
    const peer = await startGcsRecorder(publicKey);
    const account = {
      clientEmail: 'waybill@hospital.iam.gserviceaccount.com',
      privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    };
    const own = { ...account, bucket: peer.bucket, endpoint: peer.origin, tokenEndpoint: `${peer.origin}/token` };
    const stored = async () => [...peer.objects.values()].map(({ bytes }) => bytes);
    const config = { provider: 'gcs', path: 'in/', config: own };
    return { adapter: new GcsAdapter(egress), config, stored, close: () => peer.close() };
  },
};

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const send = ({ adapter, config }: Place, files: readonly OutgoingAttachment[], change: JsonObject = {}) =>
  adapter.send({ ...messageOf({ ...config, ...change }, {}), content: { attachments: files } }, options());
const digests = async (place: Place): Promise<string[]> => (await place.stored()).map(sha256).sort();
const digestsOf = (files: readonly LargeFile[]): string[] => files.map(({ digest }) => digest).sort();

for (const [name, start] of Object.entries(places))
  describe.skipIf(name === 'sftp' && !hasSshd)(name, () => {
    let egress: Egress;
    let place: Place;
    beforeAll(async () => {
      egress = new Egress({ allowedNetworks: LOOPBACK });
      place = await start(egress);
    }, 120_000);
    afterAll(async () => {
      await place.adapter.close?.();
      await place.close();
      await egress.close();
    });

    it('stores nothing of a file whose reading breaks off, and leaves no reader behind', {
      timeout: 120_000,
    }, async () => {
      for (const brokenAt of [0, 3 * MIB, 8 * MIB + 65_536]) {
        const file = largeFile(`broken-${brokenAt}.bin`, BYTES, brokenAt);
        const outcome = await send(place, [file]).catch((error: Error) => ({ kind: 'thrown', error }));
        expect(outcome.kind).not.toBe('accepted');
        expect(await digests(place)).toEqual([]);
        await expect.poll(file.open, { timeout: 30_000 }).toBe(0);
      }
    });

    it('stores files as they are read, whole, whatever their size', { timeout: 180_000 }, async () => {
      const files = [0, 1, 5 * MIB, BYTES].map((bytes, index) => largeFile(`file-${index}.bin`, bytes));
      expect(await send(place, files)).toMatchObject({ kind: 'accepted', delivered: true });
      expect(await digests(place)).toEqual(digestsOf(files));
      for (const file of files) expect(file.open()).toBe(0);
    });

    it('stores what is compressed on the way, whose size nobody knows beforehand', { timeout: 180_000 }, async () => {
      const file = largeFile('packed.bin', BYTES);
      expect(await send(place, [file], { compression: 'gzip' })).toMatchObject({ kind: 'accepted' });
      const unpacked = (await place.stored()).flatMap((bytes) =>
        bytes[0] === 0x1f && bytes[1] === 0x8b ? [bytes] : [],
      );
      expect(unpacked.map((bytes) => sha256(gunzipSync(bytes)))).toEqual([file.digest]);
    });

    it('says that too much came of it, and stores nothing', { timeout: 120_000 }, async () => {
      const before = await digests(place);
      const file = largeFile('much.bin', BYTES);
      const refused = { kind: 'rejected', category: 'VALIDATION', code: 'TOO_LARGE' };
      expect(await send(place, [file], { maxBytes: BYTES - 1 })).toMatchObject(refused);
      expect(await send(place, [file], { maxBytes: 1_000, compression: 'gzip' })).toMatchObject(refused);
      expect(await digests(place)).toEqual(before);
    });
  });

describe('smtp', () => {
  const closings: (() => Promise<unknown> | unknown)[] = [];
  afterEach(async () => {
    for (const close of closings.splice(0).reverse()) await close();
  });
  const start = async (change: JsonObject = {}) => {
    const peer = await startSmtpPeer();
    const egress = new Egress({ allowedNetworks: LOOPBACK });
    const adapter = new SmtpAdapter(egress);
    closings.push(
      () => egress.close(),
      () => peer.close(),
      () => adapter.close(),
    );
    const config = {
      ...{
        service: 'smtp',
        host: peer.host,
        port: peer.port,
        from: 'lab@clinic.example',
        recipients: ['jane@x.example'],
      },
      ...change,
    };
    const sendMail = (files: readonly OutgoingAttachment[]) =>
      adapter.send({ ...messageOf(config, {}), content: { subject: 'Report', attachments: files } }, options());
    return { peer, sendMail };
  };

  it('sends attachments as they are read, beside small ones', { timeout: 120_000 }, async () => {
    const { peer, sendMail } = await start();
    const files = [largeFile('scan.bin', 6 * MIB), { ...largeFile('note.txt', 100_001), contentType: 'text/plain' }];
    const small = { filename: 'a.txt', contentType: 'text/plain', base64: Buffer.from('a').toString('base64') };
    expect(await sendMail([...files, small])).toMatchObject({ kind: 'accepted' });
    const [received] = peer.received;
    expect(received?.mail.attachments.map(({ filename, content }) => [filename, sha256(content)])).toEqual([
      ...files.map(({ filename, digest }) => [filename, digest]),
      ['a.txt', sha256(Buffer.from('a'))],
    ]);
  });

  it('signs them too', { timeout: 120_000 }, async () => {
    const privateKey = generateKeyPairSync('rsa', { modulusLength: 2_048 }).privateKey;
    const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    const { peer, sendMail } = await start({ dkim: { domain: 'clinic.example', selector: 's', privateKey: pem } });
    const file = largeFile('scan.bin', 2 * MIB);
    expect(await sendMail([file])).toMatchObject({ kind: 'accepted' });
    expect(peer.received[0]?.raw).toMatch(/^DKIM-Signature:/m);
    expect(peer.received[0]?.mail.attachments.map(({ content }) => sha256(content))).toEqual([file.digest]);
  });

  it('a message whose file breaks off is not sent, and the connection serves the next one', {
    timeout: 120_000,
  }, async () => {
    const { peer, sendMail } = await start();
    const broken = largeFile('scan.bin', 6 * MIB, 3 * MIB);
    const outcome = await sendMail([broken]).catch(() => ({ kind: 'thrown' }));
    expect(outcome.kind).not.toBe('accepted');
    await expect.poll(broken.open, { timeout: 30_000 }).toBe(0);
    const whole = largeFile('scan.bin', 300_000);
    expect(await sendMail([whole])).toMatchObject({ kind: 'accepted' });
    expect(peer.received.map(({ mail }) => mail.attachments.map(({ content }) => sha256(content)))).toEqual([
      [whole.digest],
    ]);
  });
});
