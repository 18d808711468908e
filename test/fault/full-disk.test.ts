import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, open, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { client, ORGANIZATION } from '../e2e/journeys.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';
import { type TestDatabase, testDatabase } from '../support/postgres.js';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * FAULTS.md, "disk full", with a whole Waybill: the disk under the event log and the large contents is filled to its last
 * byte, or, for accounts that may mount nothing, the files may not grow any more (RLIMIT_FSIZE). What was acknowledged is
 * there and delivered, what cannot be stored is refused as UNAVAILABLE, `/ready` says why, and with room it all goes on.
 */
let receiver: WebhookReceiver;
let database: TestDatabase;
let folder: string;
let waybill: WaybillProcess | undefined;

beforeAll(async () => {
  receiver = await startWebhookReceiver();
});
afterAll(() => receiver.close());
beforeEach(async () => {
  [database, folder] = await Promise.all([testDatabase(), mkdtemp(join(tmpdir(), 'waybill-full-'))]);
});
afterEach(async () => {
  await waybill?.kill();
  await database.close();
  await rm(folder, { recursive: true, force: true });
});

/** A way to leave a process without room, and to give it some. */
interface Narrowness {
  readonly name: string;
  readonly through: (dataDir: string) => readonly string[];
  readonly fill: (dataDir: string, pid: number) => Promise<void>;
  readonly giveRoom: (dataDir: string, pid: number) => Promise<void>;
  readonly log: RegExp;
  readonly content: string;
}

const MIB = 1024 * 1024;
const limited: Narrowness = {
  name: 'files that may not grow',
  through: () => ['prlimit', `--fsize=${6 * MIB}:unlimited`],
  async fill(dataDir, pid) {
    // The large content is larger than the log, which has come to its end.
    const { size } = await stat(join(dataDir, 'log', 'data.mdb'));
    expect(size).toBeLessThan(3 * MIB);
    execFileSync('prlimit', ['--pid', String(pid), `--fsize=${size}:unlimited`]);
  },
  giveRoom: async (_, pid) => void execFileSync('prlimit', ['--pid', String(pid), '--fsize=unlimited:unlimited']),
  log: /^the event log could not be written: file too large; it goes on by itself once it can$/,
  content: 'its place cannot be used',
};

/** The process sees a small disk of its own (a mount namespace); it goes with the process. */
const ballast = (dataDir: string, pid: number) => join('/proc', String(pid), 'root', dataDir, 'ballast');
const full: Narrowness = {
  name: 'a full disk',
  through: (dataDir) => [
    ...NAMESPACE,
    'sh',
    '-c',
    `mount -t tmpfs -o size=24m,mode=700 tmpfs "${dataDir}" && exec "$@"`,
    'sh',
  ],
  async fill(dataDir, pid) {
    const file = await open(ballast(dataDir, pid), 'a');
    try {
      for (let bytes = MIB; bytes >= 1_024; )
        await file.write(Buffer.alloc(bytes, 1)).catch((error: NodeJS.ErrnoException) => {
          if (error.code !== 'ENOSPC') throw error;
          bytes /= 2;
        });
      // Full, but for what some small events take.
      await file.truncate((await file.stat()).size - MIB);
    } finally {
      await file.close();
    }
  },
  giveRoom: (dataDir, pid) => rm(ballast(dataDir, pid)),
  log: /^the event log could not be written: no space left on device; it goes on by itself once it can$/,
  content: 'the disk is full',
};

/** Root has one of its own; others need a user namespace for it, where the system lets them. */
const NAMESPACE = process.getuid?.() === 0 ? ['unshare', '-m'] : ['unshare', '-rm'];
const [unshare = '', ...flags] = NAMESPACE;
const mayMount =
  spawnSync(unshare, [...flags, 'mount', '-t', 'tmpfs', 'tmpfs', tmpdir()], { stdio: 'ignore' }).status === 0;

const POLL = { timeout: 60_000, interval: 100 };
const REQUEST = `mutation ($input: RequestDeliveryInput!) { requestDelivery(input: $input) { delivery { id } } }`;

it.each(mayMount ? [full, limited] : [limited])('$name', { timeout: 300_000 }, async (narrow) => {
  const dataDir = join(folder, 'data');
  await mkdir(dataDir, { mode: 0o700 });
  const config = join(folder, 'config.yaml');
  await writeFile(config, JSON.stringify({ allowedNetworks: ['127.0.0.0/8'] }));
  const env = { WAYBILL_CONFIG: config, DATABASE_URL: database.url };
  waybill = await startWaybill({ dataDir, env, eventStoreDb: false, through: narrow.through(dataDir) });
  const running = waybill;
  const api = client(running);
  const accepted = new Map<string, string>();
  const to = [{ channel: 'WEBHOOK', address: receiver.url }];
  /** Asks for a delivery; the code of the refusal, if it is one. */
  async function ask(content: object): Promise<string | undefined> {
    const idempotencyKey = `k-${accepted.size}`;
    const input = { organizationId: ORGANIZATION, idempotencyKey, to, content };
    const { data, errors } = await running.graphql<{ requestDelivery: { delivery: { id: string } } }>(REQUEST, {
      input,
    });
    if (data?.requestDelivery) accepted.set(idempotencyKey, data.requestDelivery.delivery.id);
    return errors[0] && (errors[0].extensions?.code ?? errors[0].message);
  }
  const ready = async () => {
    const response = await fetch(`${running.url}/ready`);
    const { parts, warnings = [] } = (await response.json()) as { parts: Record<string, string>; warnings?: string[] };
    return {
      status: response.status,
      log: parts.log,
      content: warnings.filter((text) => text.startsWith('content: ')),
    };
  };
  const file = { filename: 'a.bin', contentType: 'application/octet-stream' };
  const large = { text: 'large', attachments: [{ ...file, base64: randomBytes(3 * MIB).toString('base64') }] };
  const small = { data: { words: 'x'.repeat(20_000) } };
  expect([await ask({ html: randomBytes(200_000).toString('base64') }), await ask(small)]).toEqual([
    undefined,
    undefined,
  ]);

  await narrow.fill(dataDir, running.pid);
  // Large contents are written first, so nothing reaches the log.
  expect(await ask(large)).toBe('UNAVAILABLE');
  expect((await ready()).content).toEqual([`content: nothing over 32 KiB can be taken: ${narrow.content}`]);
  let refusal: string | undefined;
  while (refusal === undefined && accepted.size < 2_000) refusal = await ask(small);
  expect(refusal).toBe('UNAVAILABLE');
  expect(accepted.size).toBeGreaterThan(5);
  await expect.poll(ready, POLL).toMatchObject({ status: 503, log: expect.stringMatching(narrow.log) });
  // What was acknowledged can be read meanwhile.
  for (const id of [...accepted.values()].slice(-1)) expect((await api.delivery(id)).id).toBe(id);

  await narrow.giveRoom(dataDir, running.pid);
  await expect.poll(ready, POLL).toEqual({ status: 200, log: 'up', content: [] });
  expect([await ask(large), await ask(small)]).toEqual([undefined, undefined]);
  for (const id of accepted.values()) await api.until(id, 'DELIVERED', 120_000);
  // A client that asks again with its key gets what it was promised.
  const again = await api.request({ idempotencyKey: 'k-1', to, content: small });
  expect(again).toMatchObject({ replayed: true, id: accepted.get('k-1') });
  // LMDB has not begun what it could not end: it says so when a write fails, and writes beyond its own memory then.
  expect(running.output()).not.toContain('Write error');
});
