import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { copyContents } from '../../../src/cli/log-contents.js';
import { ContentCollector, removeContentsOf } from '../../../src/event-store/content/collector.js';
import { ContentFiles } from '../../../src/event-store/content/content-files.js';
import { Contents } from '../../../src/event-store/content/contents.js';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import { type SealedFile, SealedFiles } from '../../../src/event-store/sealed-files.js';
import { MemoryKeys } from '../../support/keys.js';

/** Files behind links: sealed as they come, beside the large contents of requests, and gone with their time or their key. */
const UNTIL = new Date('2026-03-04T05:06:07.500Z');
const STREAM = 'download-1';
let folder: string;
let log: EmbeddedLog;
let keys: MemoryKeys;
let contents: Contents;
let files: SealedFiles;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'waybill-files-'));
  log = EmbeddedLog.open(folder);
  keys = new MemoryKeys();
  contents = new Contents(new ContentFiles(join(folder, 'content')), log, {
    logId: '10000000-0000-4000-8000-000000000001',
  });
  files = new SealedFiles(keys, contents);
});
afterEach(async () => {
  await log.close();
  await rm(folder, { recursive: true, force: true });
});

const owner = { streamId: STREAM, subject: 'person:ada', organizationId: 'clinic', until: UNTIL };
async function* chunksOf(bytes: Buffer) {
  for (let at = 0; at < bytes.length; at += 70_000) yield bytes.subarray(at, at + 70_000);
}
const append = async (stored: readonly SealedFile[]) => {
  const data = { stored: stored.map((file) => file.stored) } as never;
  const metadata = { schemaVersion: '1', occurredAt: '2026-03-02T12:00:00.000Z' };
  const id = 'f0000000-0000-4000-8000-000000000001';
  return (await log.append(STREAM, 'no-stream', [{ id, type: 'DownloadOffered', data, metadata }])).ok;
};
async function kept(...all: readonly Buffer[]): Promise<readonly SealedFile[]> {
  let named: readonly SealedFile[] = [];
  await files.keep(owner, all.map(chunksOf), async (stored) => {
    named = stored;
    return await append(stored);
  });
  return named;
}
async function read({ stored }: SealedFile, range?: { start: number; end: number }): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of (await files.open(stored, STREAM)).read(range)) chunks.push(chunk);
  return Buffer.concat(chunks);
}
async function stored(): Promise<string[]> {
  const all = await readdir(join(folder, 'content'), { recursive: true }).catch(() => []);
  return all.filter((name) => name.includes(STREAM));
}
const collect = (now: Date, graceMs = 0) =>
  new ContentCollector({
    ...{ contents, reader: log, graceMs, destroyedOf: async () => new Set() },
    nowMs: () => now.getTime(),
    collected: () => undefined,
    failed: () => undefined,
  }).run();

it('are read again whole and in parts, and what lies on the disk tells nothing but until when', async () => {
  const [large, small, none] = [randomBytes(200_001), Buffer.from('Ada Lovelace'), Buffer.alloc(0)];
  const named = await kept(large, small, none);
  expect(named.map(({ bytes }) => bytes)).toEqual([200_001, 12, 0]);
  expect(await Promise.all(named.map((file) => read(file)))).toEqual([large, small, none]);
  expect(
    (await read(named[0] as SealedFile, { start: 65_000, end: 132_000 })).equals(large.subarray(65_000, 132_000)),
  ).toBe(true);
  expect(await stored()).toHaveLength(3);
  for (const name of await stored()) {
    expect(name).toMatch(/\.1772600768$/);
    expect((await readFile(join(folder, 'content', name))).includes('Ada Lovelace')).toBe(false);
  }
});

it('go with their time, whoever names them; before it only what nobody names goes', async () => {
  const [file] = await kept(randomBytes(1_000));
  await files.keep({ ...owner, streamId: 'download-2' }, [chunksOf(randomBytes(10))], async () => true);
  expect(await collect(new Date(Date.parse('2026-03-04T05:06:07.000Z')))).toMatchObject({ contents: 2, orphans: 0 });
  const nobodys = { ...owner, streamId: 'download-2', until: new Date('2099-01-01T00:00:00.000Z') };
  await files.keep(nobodys, [chunksOf(randomBytes(10))], async () => true);
  const last = await collect(new Date('2026-03-04T05:06:08.000Z'), 1e12);
  expect(last).toMatchObject({ contents: 3, expired: 2, orphans: 0 });
  expect(await collect(new Date(Date.now() + 1))).toMatchObject({ contents: 1, orphans: 1 });
  await expect(read(file as SealedFile)).rejects.toMatchObject({ code: 'CONTENT_LOST' });
});

it('go with the key of whose they are, and cannot be opened without it', async () => {
  const [file] = await kept(randomBytes(1_000));
  const key = file?.stored.key as string;
  keys.destroy('person:ada');
  await expect(read(file as SealedFile)).rejects.toThrow('was erased');
  await removeContentsOf([key], contents);
  expect(await stored()).toEqual([]);
});

it('are in a backup, until when included', async () => {
  const bytes = randomBytes(100_000);
  const [file] = await kept(bytes);
  const [here, backup] = [contents.store, new ContentFiles(join(folder, 'backup'))];
  expect(await copyContents(here, backup)).toMatchObject({ contents: 1, damaged: 0 });
  await rm(join(folder, 'content'), { recursive: true });
  expect(await copyContents(backup, new ContentFiles(here.place))).toMatchObject({ contents: 1, damaged: 0 });
  expect((await read(file as SealedFile)).equals(bytes)).toBe(true);
});

it('that are not named after all are removed, and so are those of which one breaks off: nothing is wrong with the place', async () => {
  await files.keep(owner, [chunksOf(randomBytes(10))], async () => false);
  expect(await stored()).toEqual([]);
  const broken = async function* () {
    yield randomBytes(200_000);
    throw new Error('the source is damaged');
  };
  const attempt = files.keep(owner, [chunksOf(randomBytes(10)), broken()], append);
  await expect(attempt).rejects.toThrow('the source is damaged');
  expect(await stored()).toEqual([]);
  expect(contents.problem).toBeUndefined();
  expect(await log.readStream(STREAM)).toEqual([]);
});

it('are nobody’s orphans while they are being stored', async () => {
  const bytes = randomBytes(300_000);
  let collected: unknown;
  await files.keep(owner, [chunksOf(bytes)], async (named) => {
    collected = await collect(new Date(Date.now() + 1));
    return await append(named);
  });
  expect(collected).toBeDefined();
});
