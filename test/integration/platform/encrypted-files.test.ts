import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { EncryptedFiles } from '../../../src/platform/encrypted-files.js';

const PIECE = 65_536;
const key = randomBytes(32);
const UNTIL = new Date('2026-03-04T05:06:07.500Z');
let root: string;
let files: EncryptedFiles;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'waybill-files-'));
  files = new EncryptedFiles(root);
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function read(place: string, bytes: number, start = 0, end = bytes - 1, index = 0, own = key): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of files.read(place, index, { key: own, bytes }, { start, end })) parts.push(part);
  return Buffer.concat(parts);
}

it('any part of a file is read as it was written, whatever its size', async () => {
  for (const size of [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 17]) {
    const content = randomBytes(size);
    const place = await files.put([content], key, UNTIL);
    expect((await read(place, size)).equals(content)).toBe(true);
    for (const [start, end] of [
      [0, 0],
      [PIECE - 1, PIECE],
      [PIECE, 2 * PIECE - 1],
      [size - 1, size - 1],
    ] as const)
      if (start >= 0 && end < size)
        expect((await read(place, size, start, end)).equals(content.subarray(start, end + 1))).toBe(true);
  }
});

it('what lies on the disk tells nothing, and its folder is nobody else’s', async () => {
  const place = await files.put([Buffer.from('Ada Lovelace')], key, UNTIL);
  expect((await readFile(join(root, place, '0'))).toString('latin1')).not.toContain('Ada');
  expect(place).toMatch(/^1772600768\.[0-9a-f-]{36}$/);
});

it('what was changed, cut off, moved or is of another key is not handed out', async () => {
  const size = 2 * PIECE;
  const place = await files.put([randomBytes(size), randomBytes(size)], key, UNTIL);
  const path = join(root, place, '0');
  const sealed = await readFile(path);
  await expect(read(place, size, 0, size - 1, 0, randomBytes(32))).rejects.toThrow();
  await expect(read(place, size - 1)).rejects.toThrow();
  const damaged = Buffer.from(sealed);
  damaged[PIECE + 20] = (damaged[PIECE + 20] as number) ^ 1;
  await writeFile(path, damaged);
  await expect(read(place, size)).rejects.toThrow();
  expect(await read(place, size, 0, 10)).toHaveLength(11);
  const half = PIECE + 16;
  await writeFile(path, Buffer.concat([sealed.subarray(half), sealed.subarray(0, half)]));
  await expect(read(place, size, 0, 10)).rejects.toThrow();
  await writeFile(path, await readFile(join(root, place, '1')));
  await expect(read(place, size, 0, 10)).rejects.toThrow();
  await writeFile(path, sealed);
  await truncate(path, half);
  await expect(read(place, size)).rejects.toThrow('lost its end');
});

it('what has had its time is removed, and nothing else', async () => {
  expect(await files.removeExpired(UNTIL)).toBe(0);
  const [old, young] = [await files.put([key], key, UNTIL), await files.put([key], key, new Date(2e12))];
  await writeFile(join(root, '1000000000.notes'), 'mine');
  expect(await files.removeExpired(new Date(UNTIL.getTime() + 1_000))).toBe(1);
  expect((await readdir(root)).sort()).toEqual(['1000000000.notes', young].sort());
  await expect(read(old, 32)).rejects.toThrow('ENOENT');
  for (const place of ['..', '../etc', `${young}/..`]) {
    await files.remove(place);
    await expect(read(place, 32)).rejects.toThrow('no place');
  }
  expect(await readdir(root)).toHaveLength(2);
});
