import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { client, ORGANIZATION } from '../../e2e/journeys.js';
import { removeDataDir, startWaybill } from '../../support/waybill-process.js';

const WAYBILL = fileURLToPath(new URL('../../../bin/waybill.mjs', import.meta.url));

let dataDir: string;
let elsewhere: string;
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'waybill-cli-keys-'));
  elsewhere = await mkdtemp(join(tmpdir(), 'waybill-cli-keys-'));
});
afterEach(async () => {
  for (const folder of [dataDir, elsewhere]) {
    await removeDataDir(folder);
    await rm(folder, { recursive: true, force: true });
  }
});

/** Runs `waybill …` as an operator does. */
const run = (...args: string[]): Promise<{ code: number; out: string; error: string }> =>
  new Promise((resolve) => {
    const env = { ...process.env, WAYBILL_DATA: dataDir };
    execFile(process.execPath, [WAYBILL, ...args], { env }, (error, out, text) =>
      resolve({ code: error ? Number(error.code) : 0, out, error: text }),
    );
  });
const json = async (...args: string[]) => {
  const { out, error } = await run(...args, '--json');
  if (error !== '') throw new Error(error);
  return JSON.parse(out);
};
const versionsIn = async (file: string): Promise<number[]> =>
  JSON.parse(await readFile(file, 'utf8')).keys.map(({ version }: { version: number }) => version);

const jane = 'jane@example.com';
const joe = 'joe@example.com';

it('keys are rotated while Waybill runs and while it does not, backed up, and restored with the key ring only', {
  timeout: 400_000,
}, async () => {
  expect((await run('keys', 'list')).error).toContain('there are no keys yet');
  const ring = join(dataDir, 'keys.json');
  const config = join(dataDir, 'config.yaml');
  const mail = { service: 'smtp', host: '127.0.0.1', port: 9, from: 'a@clinic.example', recipients: ['b@c.example'] };
  await writeFile(config, JSON.stringify({ providers: [{ name: 'mail', channel: 'EMAIL', config: { email: mail } }] }));
  const start = (folder: string) =>
    startWaybill({ dataDir: folder, eventStoreDb: false, env: { WAYBILL_CONFIG: config } });
  const held = (address: string, text: string) => ({
    to: [{ channel: 'EMAIL', address }],
    content: { text },
    approval: { approvers: ['admin'] },
  });
  let waybill = await start(dataDir);
  const first = await client(waybill).request(held(jane, 'before'));
  expect((await stat(ring)).mode & 0o777).toBe(0o600);
  expect(await json('keys', 'list')).toMatchObject({ versions: [{ version: 1, keys: 1 }], destroyed: 0 });
  expect(await json('keys', 'rotate')).toEqual({ version: 2, rewrapped: 1, versions: [1, 2] });
  expect(await versionsIn(ring)).toEqual([1, 2]);
  // It goes on with what it has, and wraps what is new with the new version.
  const second = await client(waybill).request(held(joe, 'after'));
  const contents = async () => {
    const deliveries = await Promise.all([first, second].map(({ id }) => client(waybill).delivery(id)));
    return deliveries.map(({ history }) => (history[0]?.data.content as { text: string } | undefined)?.text);
  };
  expect(await contents()).toEqual(['before', 'after']);
  // Two people's, and one for who has read of them, which is recorded a little later.
  await expect
    .poll(() => json('keys', 'list'), { timeout: 20_000 })
    .toMatchObject({ versions: [{ keys: 0 }, { version: 2, keys: 3 }] });
  const backup = join(dataDir, 'backup');
  expect(await json('log', 'backup', backup)).toMatchObject({ keys: 3 });
  expect((await run('log', 'backup', join(dataDir, 'again'))).out).toContain('3 keys, wrapped; the key ring');
  await waybill.ask(
    `mutation { eraseSubject(organizationId: "${ORGANIZATION}", recipient: { channel: EMAIL, address: "${jane}" },
       reason: "she asked for it") { keysDestroyed } }`,
  );
  await waybill.stop();

  // The old version goes with the second rotation that does not need it; what is destroyed is not wrapped again.
  expect(await json('keys', 'rotate')).toMatchObject({ version: 3, versions: [2, 3] });
  expect(await json('keys', 'list')).toMatchObject({ versions: [{ keys: 0 }, { version: 3 }], destroyed: 1 });

  expect((await run('log', 'restore', backup, '--data', elsewhere)).out).toContain(
    'they need the key ring (keys.json)',
  );
  await expect(start(elsewhere)).rejects.toThrow('there is no key ring in');
  // It still has the version of the time of the backup. The list of the dead is newer than the backup, so she stays dead.
  await copyFile(ring, join(elsewhere, 'keys.json'));
  await copyFile(join(dataDir, 'destroyed-keys'), join(elsewhere, 'destroyed-keys'));
  waybill = await start(elsewhere);
  await expect.poll(contents, { timeout: 60_000 }).toEqual(['[erased]', 'after']);
  await waybill.stop();
});
