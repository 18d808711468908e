import { readFile, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { dataFolders } from '../support/data-folders.js';
import { startWebhookReceiver } from '../support/peers/webhook-receiver.js';
import { postgresPid, startWaybill } from '../support/waybill-process.js';
import { client } from './journeys.js';

/** Starting and stopping. */
const folder = dataFolders('waybill-start-');

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

  it('again after kill -9, with what it had and the PostgreSQL that was left behind, also with less memory', async () => {
    const dataDir = await folder();
    const first = await startWaybill({ dataDir });
    const { id } = await client(first).request({
      to: [{ channel: 'WEBHOOK', address: 'http://127.0.0.1:9/' }],
      approval: { approvers: ['admin'] },
    });
    await first.kill();
    expect(await postgresPid(dataDir)).toBeDefined();
    const second = await startWaybill({ dataDir, script: 'start:lean' });
    await client(second).until(id, 'HELD');
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
    const { id: destinationId } = await api.destination('WEBHOOK', { webhook: { url: receiver.url, timeout: 2_000 } });
    const request = { to: [{ destinationId }] };
    const ids = [];
    for (let n = 0; n < 3; n++) ids.push((await api.request(request)).id);
    await expect.poll(() => receiver.received.length, { interval: 5 }).toBe(3);
    const REQUEST = 'mutation ($input: RequestDeliveryInput!) { requestDelivery(input: $input) { replayed } }';
    const again = () => api.refusal(REQUEST, { input: { organizationId: 'hospital-001', ...request } });
    expect(await again()).toEqual([{ code: 'RATE_LIMITED', paths: [] }]);
    receiver.respond = () => ({ status: 204 });
    for (const id of ids) await api.act('cancelDelivery', { id });
    await expect.poll(again, { timeout: 20_000, interval: 100 }).toEqual([]);
    // What is under way with a receiver that is gone need not be waited for.
    await receiver.close();
    await waybill.stop();
  });
});
