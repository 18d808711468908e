import { randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type CleanableDestination, FileRetention } from '../../../src/app/file-retention.js';
import { createChannels } from '../../../src/channels/registry.js';

const DAY_MS = 86_400_000;
let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'waybill-retention-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

it('removes what each destination has kept for long enough, whatever happens to the others', async () => {
  const { registry, close } = createChannels({ allowedNetworks: [], localRoot: root });
  const storage = (path: string, days: number) => ({
    storage: { provider: 'local', path, retention: { days, autoCleanup: true } },
  });
  const bucket = { provider: 's3', config: { region: 'x', endpoint: 'http://127.0.0.1:1' }, path: '/' };
  const broken = { storage: { ...bucket, retention: { days: 1, autoCleanup: true } } };
  const destinations: CleanableDestination[] = [
    { id: 'webhook', organizationId: 'a', type: 'WEBHOOK', config: { webhook: { url: 'https://example.com' } } },
    { id: 'broken', organizationId: 'a', type: 'STORAGE', config: broken },
    { id: 'short', organizationId: 'a', type: 'STORAGE', config: storage('/short/', 1) },
    { id: 'long', organizationId: 'a', type: 'STORAGE', config: storage('/long/', 30) },
  ];
  for (const { id, config } of destinations.slice(2)) {
    const choice = registry.adapterFor('STORAGE', config);
    if (!('adapter' in choice)) throw new Error(id);
    const message = { deliveryId: randomUUID(), organizationId: 'a', config: choice.config, content: { text: 'x' } };
    const { signal } = new AbortController();
    const at = { signal, attemptKey: id, now: new Date() };
    const outcome = await choice.adapter.send({ ...message, requestedAt: new Date().toISOString() }, at);
    expect(outcome).toMatchObject({ kind: 'accepted' });
  }

  const said: string[] = [];
  const retention = new FileRetention(registry, {
    async *destinations() {
      yield* destinations;
    },
    removed: (id, files) => said.push(`${id}: ${files} removed`),
    failed: (id) => said.push(`${id}: failed`),
  });
  await retention.run(new Date(Date.now() + 2 * DAY_MS));
  await retention.stop();
  await close();
  expect(said).toEqual(['broken: failed', 'short: 1 removed']);
  expect(await readdir(join(root, 'a', 'short'))).toEqual([]);
  expect(await readdir(join(root, 'a', 'long'))).toHaveLength(1);
});
