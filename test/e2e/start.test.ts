import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { startWebhookReceiver } from '../support/peers/webhook-receiver.js';
import { postgresPid, REPOSITORY, removeDataDir, startWaybill } from '../support/waybill-process.js';
import { client } from './journeys.js';

/** Starting, stopping, and everything that keeps Waybill from starting. */
const made: string[] = [];
const folder = async () => {
  const path = await mkdtemp(join(tmpdir(), 'waybill-start-'));
  made.push(path);
  return path;
};
afterAll(async () => {
  for (const path of made) await removeDataDir(path);
});

/** Runs `waybill start` in the expectation that it ends by itself. */
const refusedStart = (env: Record<string, string>): Promise<{ code: number; stderr: string; stdout: string }> =>
  new Promise((resolve) => {
    const settings = { ...process.env, PORT: '0', WAYBILL_LOG_LEVEL: 'fatal', ...env };
    execFile('node', [join(REPOSITORY, 'bin/waybill.mjs'), 'start'], { env: settings }, (error, stdout, stderr) =>
      resolve({ code: (error as { code?: number } | null)?.code ?? 0, stderr, stdout }),
    );
  });

describe('Waybill starts', () => {
  it('from any folder, keeps its key to itself, and starts again on the same data', async () => {
    const [cwd, dataDir] = [await folder(), await folder()];
    const first = await startWaybill({ cwd, dataDir, env: { WAYBILL_ADMIN_KEY: '' } });
    const [, key] = /kept in .*\n\s+(\S{32,})/.exec(first.output()) ?? [];
    expect((await readFile(join(dataDir, 'admin.key'), 'utf8')).trim()).toBe(key);
    expect((await stat(join(dataDir, 'admin.key'))).mode & 0o777).toBe(0o600);
    expect(await first.stop()).toEqual({ code: 0, signal: null });
    expect(await postgresPid(dataDir)).toBeUndefined();

    const second = await startWaybill({ cwd: tmpdir(), dataDir, env: { WAYBILL_ADMIN_KEY: '' } });
    expect(second.output()).not.toContain(key);
    const answer = await fetch(`${second.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
      body: '{"query":"{ projections { name } }"}',
    });
    expect(answer.status).toBe(200);
    await second.stop();
  });

  it('again after kill -9, with what it had and the PostgreSQL that was left behind', async () => {
    const dataDir = await folder();
    const first = await startWaybill({ dataDir });
    const { id } = await client(first).request({
      to: [{ channel: 'WEBHOOK', address: 'http://127.0.0.1:9/' }],
      approval: { approvers: ['admin'] },
    });
    await first.kill();
    expect(await postgresPid(dataDir)).toBeDefined();
    const second = await startWaybill({ dataDir });
    expect(await client(second).delivery(id)).toMatchObject({ status: 'HELD' });
    await second.stop();
    expect(await postgresPid(dataDir)).toBeUndefined();
  });

  it('and on SIGTERM lets the attempt under way end, within 10 s', async () => {
    const receiver = await startWebhookReceiver({ respond: () => ({ status: 204, delayMs: 500 }) });
    const dataDir = await folder();
    const first = await startWaybill({ dataDir });
    const { id } = await client(first).request({ to: [{ channel: 'WEBHOOK', address: receiver.url }] });
    await expect.poll(() => receiver.received.length, { interval: 5 }).toBe(1);
    const before = performance.now();
    expect(await first.stop()).toEqual({ code: 0, signal: null });
    expect(performance.now() - before).toBeLessThan(10_000);
    const second = await startWaybill({ dataDir });
    expect(await client(second).until(id, 'DELIVERED')).toMatchObject({ attempts: [{ status: 'SUCCEEDED' }] });
    expect(receiver.received).toHaveLength(1);
    await second.stop();
    await receiver.close();
  });
});

describe('Waybill under more than it can hold', () => {
  it('says so instead of growing, and takes requests again when there is room', { timeout: 60_000 }, async () => {
    const config = join(await folder(), 'waybill.yaml');
    await writeFile(config, 'engine:\n  maxUnderWay: 3\n');
    const receiver = await startWebhookReceiver({ respond: () => 'silence' });
    const waybill = await startWaybill({ env: { WAYBILL_CONFIG: config } });
    const api = client(waybill);
    const request = { to: [{ channel: 'WEBHOOK', address: receiver.url }] };
    const ids = [];
    for (let n = 0; n < 3; n++) ids.push((await api.request(request)).id);
    await expect.poll(() => receiver.received.length, { interval: 5 }).toBe(3);
    const REQUEST = 'mutation ($input: RequestDeliveryInput!) { requestDelivery(input: $input) { replayed } }';
    const again = () => api.refusal(REQUEST, { input: { organizationId: 'hospital-001', ...request } });
    expect(await again()).toEqual([{ code: 'RATE_LIMITED', paths: [] }]);
    receiver.respond = () => ({ status: 204 });
    for (const id of ids) await api.act('cancelDelivery', { id });
    await expect.poll(again, { timeout: 20_000, interval: 100 }).toEqual([]);
    await waybill.stop();
    await receiver.close();
  });
});

describe('Waybill does not start, and says why in one line,', () => {
  const oneLine = (text: string) => text.trim().split('\n');

  it('when the port is in use', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    const dataDir = await folder();
    const { code, stderr } = await refusedStart({ PORT: String(port), WAYBILL_DATA: dataDir });
    expect(code).toBe(1);
    expect(oneLine(stderr)).toEqual([`Port ${port} on 127.0.0.1 is in use; set PORT to another one.`]);
    expect(await postgresPid(dataDir)).toBeUndefined();
    server.close();
  });

  it('when another instance runs on the same data, which goes on undisturbed', async () => {
    const waybill = await startWaybill();
    const { code, stderr } = await refusedStart({ WAYBILL_DATA: waybill.dataDir });
    expect(code).toBe(1);
    expect(oneLine(stderr)).toEqual([expect.stringContaining(`in use by process ${waybill.pid}`)]);
    expect(await waybill.ask('{ projections { name } }')).toBeTruthy();
    await waybill.stop();
  });

  it('when a setting is wrong', { timeout: 120_000 }, async () => {
    const WAYBILL_DATA = await folder();
    const wrong = async (env: Record<string, string>) => {
      const { code, stderr } = await refusedStart({ WAYBILL_DATA, ...env });
      expect(code).toBe(1);
      expect(oneLine(stderr)).toHaveLength(1);
      return stderr;
    };
    expect(await wrong({ PORT: 'http' })).toContain('PORT');
    expect(await wrong({ WAYBILL_ADMIN_KEY: 'short' })).toContain('WAYBILL_ADMIN_KEY');
    expect(await wrong({ WAYBILL_ALLOWED_NETWORKS: 'home' })).toContain('WAYBILL_ALLOWED_NETWORKS');
    expect(await wrong({ EVENTSTORE_URL: 'esdb://127.0.0.1:9?tls=false' })).toContain('EVENTSTORE_URL');
    expect(await wrong({ DATABASE_URL: 'postgresql://127.0.0.1:9/waybill' })).toContain('DATABASE_URL');
    const config = join(await folder(), 'waybill.yaml');
    await writeFile(config, 'engine:\n  concurency: 3\n');
    expect(await wrong({ WAYBILL_CONFIG: config })).toContain('engine.concurency');
  });

  it('when the data directory cannot be used', async () => {
    const file = join(await folder(), 'file');
    await writeFile(file, '');
    expect((await refusedStart({ WAYBILL_DATA: file })).stderr).toContain(file);
    const newer = await folder();
    await writeFile(join(newer, 'format.json'), '{"version":99}');
    await chmod(newer, 0o700);
    expect(oneLine((await refusedStart({ WAYBILL_DATA: newer })).stderr)).toHaveLength(1);
    await rm(file);
  });
});
