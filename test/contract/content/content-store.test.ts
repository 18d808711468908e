import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ContentFiles } from '../../../src/event-store/content/content-files.js';
import { type ContentStore, nameOf, provisionalName } from '../../../src/event-store/content/content-store.js';
import { S3Contents } from '../../../src/event-store/content/s3-contents.js';
import { startS3 } from '../../support/peers/s3.js';
import { startSilent } from '../../support/peers/silent.js';

/** One suite for every place that large contents are kept in. */
const KEY = 'AbCdEfGhIjKlMnOpQrStUv';
const newName = (bytes: Buffer, key = KEY, stream = 'delivery-1') =>
  nameOf({ key, streamId: stream, hash: createHash('sha256').update(bytes).digest('hex') });
async function read(store: ContentStore, name: string, size: number, range = { start: 0, end: size }): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of store.read(name, size, range)) {
    expect(chunk.length).toBeLessThanOrEqual(1_000_000);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
const everything = async (store: ContentStore, prefix?: string) => {
  const files: { name: string; bytes: number; modifiedAtMs: number }[] = [];
  for await (const page of store.list(prefix)) files.push(...page);
  return files.sort((a, b) => (a.name < b.name ? -1 : 1));
};

const places = {
  files: async () => {
    const folder = await mkdtemp(join(tmpdir(), 'waybill-content-'));
    const open = () => new ContentFiles(join(folder, 'content'));
    return { open, close: () => rm(folder, { recursive: true }) };
  },
  s3: async () => {
    const peer = await startS3();
    const before = { ...process.env };
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'S3RVER', AWS_SECRET_ACCESS_KEY: 'S3RVER' });
    const open = () =>
      new S3Contents({ bucket: peer.bucket, prefix: 'large/', region: 'eu-central-1', endpoint: peer.origin });
    const close = async () => {
      process.env = before;
      await peer.close();
    };
    return { open, close };
  },
};

describe.each(Object.entries(places))('contents in %s', (_, start) => {
  let place: Awaited<ReturnType<typeof start>>;
  let store: ContentStore;
  beforeEach(async () => {
    place = await start();
    store = place.open();
  });
  afterEach(() => place.close());

  it('are read as they were written, also by another instance', async () => {
    const bytes = randomBytes(3_000_000);
    const name = newName(bytes);
    await store.put(name, bytes);
    for (const each of [store, place.open()]) {
      expect(await each.size(name)).toBe(bytes.length);
      expect((await read(each, name, bytes.length)).equals(bytes)).toBe(true);
      const part = await read(each, name, bytes.length, { start: 1_000_001, end: 1_500_000 });
      expect(part.equals(bytes.subarray(1_000_001, 1_500_000))).toBe(true);
    }
  });

  it('that come as a stream are stored as they come, and get their name when their digest is known', async () => {
    const bytes = randomBytes(12_000_000);
    const name = newName(bytes);
    const provisional = provisionalName({ key: KEY, streamId: 'delivery-1' });
    const chunks = async function* () {
      for (let at = 0; at < bytes.length; at += 100_000) yield bytes.subarray(at, at + 100_000);
    };
    await store.put(provisional, chunks());
    await store.rename(provisional, name);
    expect((await everything(store)).map((file) => file.name)).toEqual([name]);
    expect((await read(store, name, bytes.length)).equals(bytes)).toBe(true);
  });

  it('that break off while they come leave nothing under their name', async () => {
    const name = provisionalName({ key: KEY, streamId: 'delivery-1' });
    const chunks = async function* () {
      yield randomBytes(6_000_000);
      throw new Error('no more of it');
    };
    // What it says is the server's affair: not every one knows how to take parts back.
    await expect(store.put(name, chunks())).rejects.toThrow();
    expect(await everything(store)).toEqual([]);
  });

  it('that are not there, or not what was stored, are told apart', async () => {
    const none = newName(Buffer.from('x'));
    expect(await store.size(none)).toBeUndefined();
    await expect(read(store, none, 1)).rejects.toMatchObject({ reason: 'missing' });
    const bytes = randomBytes(500_000);
    await store.put(newName(bytes), bytes);
    for (const size of [1_000, 499_999, 500_001, 600_000])
      await expect(read(store, newName(bytes), size)).rejects.toMatchObject({ reason: 'damaged' });
    await expect(read(store, newName(bytes), 900_000, { start: 800_000, end: 900_000 })).rejects.toMatchObject({
      reason: 'damaged',
    });
  });

  it('are listed, all or those of a key, and removed, also twice', async () => {
    const names = [newName(Buffer.from('a')), newName(Buffer.from('b')), newName(Buffer.from('c'), 'AbZZ')].sort();
    expect(await everything(store)).toEqual([]);
    await store.writeMark('whose it is');
    for (const name of names) await store.put(name, Buffer.from('12345'));
    const listed = await everything(store);
    expect(listed).toMatchObject(names.map((name) => ({ name, bytes: 5 })));
    for (const { modifiedAtMs } of listed) expect(Math.abs(modifiedAtMs - Date.now())).toBeLessThan(120_000);
    const own = (await everything(store, `${KEY}.`)).map(({ name }) => name);
    expect(own).toEqual(names.filter((name) => name.startsWith(KEY)));
    await store.remove(own);
    await store.remove(own);
    expect((await everything(store)).map(({ name }) => name)).toEqual(names.filter((name) => !own.includes(name)));
  });

  it('have a mark once somebody has written one', async () => {
    expect(await store.readMark()).toBeUndefined();
    await store.writeMark('whose it is');
    expect(await place.open().readMark()).toBe('whose it is');
  });
});

describe('in an S3 that says nothing', () => {
  const bytes = Buffer.from('x');
  const before = { ...process.env };
  beforeEach(() => {
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'S3RVER', AWS_SECRET_ACCESS_KEY: 'S3RVER' });
  });
  afterEach(() => {
    process.env = { ...before };
  });

  it.each([
    { of: 'at all', beginning: '' },
    {
      of: 'after the beginning',
      beginning: 'HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-0/1\r\nContent-Length: 1\r\n\r\n',
    },
  ])('nothing $of: what is asked for is given up in time', async ({ beginning }) => {
    const silent = await startSilent(beginning);
    const store = new S3Contents({ bucket: 'b', prefix: '', region: 'eu-central-1', endpoint: silent.url }, 200);
    await expect(read(store, newName(bytes), 1)).rejects.toMatchObject({ name: 'TimeoutError' });
    if (beginning === '')
      await expect(store.put(newName(bytes), bytes)).rejects.toMatchObject({ name: 'TimeoutError' });
    await silent.close();
  });
});

describe('in files', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'waybill-content-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('of several that write a mark at once one wins, and nothing else is left', async () => {
    const stores = Array.from({ length: 5 }, () => new ContentFiles(join(folder, 'content')));
    // One process number, so that one after the other has its turn.
    for (const [index, store] of stores.entries()) await store.writeMark(`mark ${index}`);
    for (const store of stores) expect(await store.readMark()).toBe('mark 0');
    expect(await readdir(join(folder, 'content'))).toEqual(['store.id']);
  });

  it('are their owner’s alone', async () => {
    const store = new ContentFiles(join(folder, 'content'));
    const name = newName(Buffer.from('x'));
    await store.put(name, Buffer.from('x'));
    for (const [path, mode] of [
      ['content', 0o700],
      [`content/${name.slice(0, 2)}`, 0o700],
      [`content/${name.slice(0, 2)}/${name}`, 0o600],
    ] as const)
      expect((await stat(join(folder, path))).mode & 0o777).toBe(mode);
  });

  it('a name that leads elsewhere is refused', async () => {
    const store = new ContentFiles(join(folder, 'content'));
    await writeFile(join(folder, 'secret'), 'x');
    for (const name of ['../secret', '..', '', `${KEY}.../../secret.${'0'.repeat(64)}`]) {
      await expect(read(store, name, 1)).rejects.toThrow('not the name of a content');
      await expect(store.put(name, Buffer.from('x'))).rejects.toThrow('not the name of a content');
      await expect(store.remove([name])).rejects.toThrow('not the name of a content');
    }
  });
});
