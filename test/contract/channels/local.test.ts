import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LocalAdapter } from '../../../src/channels/adapters/local.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import { conforms, messageOf, options } from './conformance.js';

const content: Content = { text: 'Ada Lovelace' };
const CONFIG: JsonObject = { provider: 'local', path: '/{year}/{month}/' };
let root: string;

const filesBelow = async (folder: string) => {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));
};

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'waybill-local-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

conforms({
  name: 'local',
  create: () => new LocalAdapter(root),
  async start() {
    await mkdir(join(root, 'organization-1'));
    await writeFile(join(root, 'organization-1', 'occupied'), '');
    await symlink(tmpdir(), join(root, 'organization-1', 'elsewhere'));
    let files = 0;
    return {
      config: CONFIG,
      behave: () => undefined,
      seen: () => 0,
      accepted: () => files,
      count: async () => {
        files = (await filesBelow(root)).length - 1;
      },
      close: async () => undefined,
    };
  },
  settle: (peer) => peer.count(),
  bad: [
    { change: { path: '/../{filename}' }, path: 'path' },
    { change: { path: '' }, path: 'path' },
    { change: { config: { root: '/etc' } }, path: 'config.root' },
    { change: { path: 'x', retention: { days: 1, autoCleanup: true } }, path: 'retention.autoCleanup' },
  ],
  refusals: [
    { when: 'a folder that is a file', change: { path: '/occupied/x' }, category: 'CONFIGURATION' },
    {
      when: 'a link that leads out',
      change: { path: '/elsewhere/x' },
      category: 'CONFIGURATION',
      code: 'OUTSIDE_ROOT',
    },
  ],
  addresses: { good: '/outbox/{deliveryId}.txt', bad: '/a/./b' },
  content,
  oversized: { content, change: { maxBytes: 10 } },
  confidential: ['Ada Lovelace'],
  never: ['unavailable', 'unauthorized', 'limited'],
});

describe('local', () => {
  const send = (change: JsonObject = {}, more = {}) =>
    new LocalAdapter(root).send(messageOf({ ...CONFIG, ...change }, content, more), options());

  it('keeps each organization in a folder of its own, whatever it is called', async () => {
    await send();
    await send({ path: 'x' }, { organizationId: '../../etc' });
    await send({ config: { durable: false }, path: 'y' }, { organizationId: '..' });
    expect((await filesBelow(root)).sort()).toEqual([
      '.._.._etc/x',
      '_2/y',
      'organization-1/2026/03/delivery-1-content.txt',
    ]);
  });

  it('replaces the file, never what a link in its place points to', async () => {
    const other = join(root, 'other');
    await writeFile(other, 'untouched');
    await mkdir(join(root, 'organization-1'));
    await symlink(other, join(root, 'organization-1', 'report'));
    expect(await send({ path: 'report' })).toMatchObject({ kind: 'accepted' });
    expect(await readFile(other, 'utf8')).toBe('untouched');
    expect(await readFile(join(root, 'organization-1', 'report'), 'utf8')).toBe('Ada Lovelace');
  });

  it('removes files that were kept for long enough, and no others', async () => {
    const config = { ...CONFIG, path: '/{year}/', retention: { days: 30, autoCleanup: true } };
    const [old, young] = [randomUUID(), randomUUID()];
    for (const deliveryId of [old, young]) await send(config, { deliveryId });
    await writeFile(join(root, 'organization-1', '2026', 'mine.txt'), '');
    const past = new Date(Date.now() - 31 * 86_400_000);
    for (const name of [`${old}-content.txt`, 'mine.txt'])
      await utimes(join(root, 'organization-1', '2026', name), past, past);
    const { signal } = new AbortController();
    expect(
      await new LocalAdapter(root).cleanUp(config, { organizationId: 'organization-1', now: new Date(), signal }),
    ).toEqual({ removed: 1 });
    expect(await new LocalAdapter(root).cleanUp(config, { organizationId: 'nobody', now: new Date(), signal })).toEqual(
      { removed: 0 },
    );
    expect((await readdir(join(root, 'organization-1', '2026'))).sort()).toEqual(
      [`${young}-content.txt`, 'mine.txt'].sort(),
    );
  });
});
