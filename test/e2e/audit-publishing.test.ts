import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GetObjectCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CheckpointChannelSettings, checkpointChannels } from '../../src/app/checkpoint-channel.js';
import { parseCheckpoint } from '../../src/audit/checkpoint.js';
import { problemWith, verifierOf } from '../../src/audit/signed-note.js';
import { createChannels } from '../../src/channels/registry.js';
import { loadConfig } from '../../src/platform/config.js';
import { temporaryFolder } from '../support/logs.js';
import { type S3Peer, startS3 } from '../support/peers/s3.js';
import { type SmtpPeer, startSmtpPeer } from '../support/peers/smtp.js';
import { REPOSITORY, startWaybill, type WaybillProcess } from '../support/waybill-process.js';
import { client } from './journeys.js';

/** Checkpoints of the audit trail in a bucket with object lock and at an e-mail address, also after they were away. */
const KEYS = { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' };
const POLL = { timeout: 30_000, interval: 50 };

let s3: S3Peer;
let smtp: SmtpPeer;
let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let waybill: WaybillProcess | undefined;

beforeAll(async () => {
  [s3, smtp, folder] = await Promise.all([startS3(), startSmtpPeer(), temporaryFolder()]);
});
afterAll(async () => {
  await waybill?.stop();
  await Promise.all([s3.close(), smtp.close(), folder.remove()]);
});

const start = async (publish: readonly object[]) => {
  const config = join(folder.path, 'waybill.yaml');
  await writeFile(config, JSON.stringify({ audit: { publish }, allowedNetworks: ['127.0.0.0/8'] }));
  waybill = await startWaybill({ env: { WAYBILL_CONFIG: config } });
  return waybill;
};
const own = { region: 'us-east-1', bucket: 'hospital-archive', ...KEYS };
const bucket = (config: object) => ({
  ...{ name: 'vault', channel: 'STORAGE', everySeconds: 0 },
  config: { storage: { provider: 's3', path: 'audit/', config: { ...own, ...config } } },
});

test('checkpoints are published where nobody can change them', { timeout: 180_000 }, async () => {
  const objectLock = { mode: 'COMPLIANCE', days: 365 };
  const mail = { service: 'smtp', host: smtp.host, port: smtp.port, from: 'audit@hospital.com' };
  const running = await start([
    bucket({ endpoint: s3.front.origin, objectLock }),
    {
      ...{ name: 'auditor', channel: 'EMAIL', everySeconds: 0 },
      config: { email: { ...mail, recipients: ['auditor@firm.example'] } },
    },
  ]);
  const s3Client = new S3Client({
    region: 'us-east-1',
    endpoint: s3.front.origin,
    credentials: KEYS,
    forcePathStyle: true,
  });
  const objects = async (): Promise<Record<string, string>> => {
    const { Contents = [] } = await s3Client.send(new ListObjectsV2Command({ Bucket: s3.bucket }));
    const bodies = Contents.map(async ({ Key = '' }) => {
      const { Body } = await s3Client.send(new GetObjectCommand({ Bucket: s3.bucket, Key }));
      return [Key, (await Body?.transformToString()) ?? ''];
    });
    return Object.fromEntries(await Promise.all(bodies));
  };
  interface Made {
    readonly made: { readonly note: string; readonly treeSize: number };
  }
  const checkpoint = async () => {
    // There is something new, recorded before it is answered.
    await client(running).destination('WEBHOOK', { webhook: { url: 'http://127.0.0.1:9' } });
    return (await running.ask<Made>('mutation { made: makeAuditCheckpoint { note treeSize } }')).made;
  };

  const first = await checkpoint();
  const nameOf = ({ note, treeSize }: Made['made']) =>
    `audit/${parseCheckpoint(note).origin.replace('waybill.log/', '')}-checkpoint-${treeSize}.txt`;
  await expect.poll(async () => (await objects())[nameOf(first)], POLL).toBe(first.note);
  // The two files of a checkpoint are put one after the other.
  const keysOf = (stored: Record<string, string>) =>
    Object.entries(stored).find(([name]) => name.endsWith('-public-keys.txt'))?.[1];
  await expect.poll(async () => keysOf(await objects()), POLL).toMatch(/./);
  const puts = s3.front.received.filter(({ method }) => method === 'PUT');
  expect(puts.length).toBeGreaterThan(1);
  const days = (until: unknown) => (Date.parse(String(until)) - Date.now()) / 86_400_000;
  for (const { headers } of puts) {
    expect(headers['x-amz-object-lock-mode']).toBe('COMPLIANCE');
    expect(days(headers['x-amz-object-lock-retain-until-date'])).toBeCloseTo(365, 1);
  }
  const keys = (keysOf(await objects()) ?? '').trim().split('\n');
  expect(problemWith(parseCheckpoint(first.note).parsed, keys.map(verifierOf))).toBeUndefined();

  const subjects = () => smtp.received.map(({ mail: { subject } }) => subject);
  const { origin } = parseCheckpoint(first.note);
  await expect.poll(subjects, POLL).toContain(`Audit checkpoint ${first.treeSize} of ${origin}`);
  const letter = smtp.received.find(({ mail: { subject } }) => subject?.includes(` ${first.treeSize} of `));
  expect(letter).toMatchObject({ to: ['auditor@firm.example'] });
  expect(letter?.mail.attachments.map(({ filename, content }) => [filename, content.toString()])).toContainEqual([
    `checkpoint-${first.treeSize}.txt`,
    first.note,
  ]);

  // One of them is away. The other gets every checkpoint, and it the newest when it is back; nobody else is stopped by it.
  const ready = async () => {
    const response = await fetch(`${running.url}/ready`);
    return { code: response.status, body: await response.json() };
  };
  s3.front.respond = ({ method }) => (method === 'PUT' ? { status: 503 } : undefined);
  const lost = [await checkpoint(), await checkpoint()];
  await expect.poll(ready, POLL).toMatchObject({
    code: 200,
    body: { parts: { audit: 'up' }, warnings: [expect.stringContaining('could be published to vault since')] },
  });
  await expect.poll(subjects, POLL).toContain(`Audit checkpoint ${lost[1]?.treeSize} of ${origin}`);
  s3.front.respond = () => undefined;
  const last = await checkpoint();
  await expect.poll(async () => (await objects())[nameOf(last)], POLL).toBe(last.note);
  await expect.poll(async () => (await ready()).body, POLL).not.toHaveProperty('warnings');
  await running.stop();
  waybill = undefined;
});

test('a place that is described wrongly is named, and the documented ones are good', async () => {
  const channels = createChannels({ allowedNetworks: [] });
  const made = (settings: unknown) =>
    checkpointChannels(settings as readonly CheckpointChannelSettings[], channels.registry, console);
  expect(() => made([bucket({ bucket: 'Not A Bucket' })])).toThrow('audit.publish.0.config.storage.config.bucket: ');
  expect(() => made([{ ...bucket({}), config: {} }])).toThrow('audit.publish.0.config.storage: is required');

  const page = await readFile(join(REPOSITORY, 'docs/audit/publishing.md'), 'utf8');
  const file = join(folder.path, 'documented.yaml');
  await writeFile(file, /```yaml\n([\s\S]*?)```/.exec(page)?.[1] ?? '');
  const secrets = { AUDIT_KEY_ID: 'AKIA0123456789ABCDEF', AUDIT_KEY: 'secret', SMTP_PASSWORD: 'secret' };
  const { audit } = loadConfig({ WAYBILL_CONFIG: file, ...secrets }, { cwd: folder.path });
  expect(made(audit.publish).map(({ name, everyMs }) => [name, everyMs])).toEqual([
    ['vault', 3_600_000],
    ['auditor', 86_400_000],
  ]);
  await channels.close();
});
