import { copyFile, mkdir, open as openFile, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { open } from 'lmdb';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import { newEvent, newEvents, temporaryFolder } from '../../support/logs.js';
import { changeTables } from './tables.js';

/** A log of 60 events in 20 commits, as its writer left it. */
let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let file: string;
beforeEach(async () => {
  folder = await temporaryFolder();
  file = join(folder.path, 'data.mdb');
  const log = EmbeddedLog.open(folder.path);
  for (let append = 0; append < 20; append++)
    await log.append(`s-${append % 5}`, append < 5 ? 'no-stream' : 'stream-exists', newEvents(3));
  await log.close();
});
afterEach(() => folder.remove());

/** Opens the log, reads it and writes to it. @returns how many events it had, or why it could not be opened */
async function opened(): Promise<number | string> {
  let log: EmbeddedLog;
  try {
    log = EmbeddedLog.open(folder.path);
  } catch (error) {
    return (error as Error).message;
  }
  try {
    const { length } = await log.readAll(0n, 1_000);
    expect(await log.append('after', 'no-stream', newEvents(1))).toMatchObject({
      ok: true,
      position: BigInt(length + 1),
    });
    return length;
  } finally {
    await log.close();
  }
}

/** Without the room for what comes next, which a writer leaves at the end. @returns bytes that are left */
async function cutRoom(): Promise<number> {
  const bytes = await readFile(file);
  const pageSize = bytes.readUInt32LE(48);
  const lastPages = [0, pageSize].map((header) => Number(bytes.readBigUInt64LE(header + 144)));
  const used = (Math.max(...lastPages) + 1) * pageSize;
  await truncate(file, used);
  return used;
}

const DAMAGED = /^the event log .* (is damaged|cannot be opened): [^\n]+$/;

it('that is whole is opened', async () => {
  expect(await opened()).toBe(60);
});

it.each([
  ['without the room at its end', () => cutRoom()],
  ['with a part of it, not whole pages', async () => truncate(file, (await cutRoom()) + 12_345)],
])('%s it is whole', async (_, cut) => {
  await cut();
  expect(await opened()).toBe(60);
});

describe('a damaged file is refused with one line', () => {
  it.each([
    ['empty', 0, 'the file is empty'],
    ['cut within its headers', 4_100, 'it ends within its headers'],
    ['cut after its headers', 8_192, 'its end is missing'],
    ['cut in the middle', 30_000, 'its end is missing'],
  ])('%s', async (_, size, problem) => {
    await truncate(file, size);
    expect(await opened()).toContain(`is damaged: ${problem}`);
    expect((await stat(file)).size).toBe(size);
  });

  it('cut by its last page', async () => {
    await truncate(file, (await cutRoom()) - 1);
    expect(await opened()).toMatch(/is damaged: .*its end is missing$/);
  });

  it('something else', async () => {
    await writeFile(file, 'Not a log at all. '.repeat(1_000));
    expect(await opened()).toContain('is damaged: it is not an LMDB file');
  });

  it.each([1, 2, 3])('another program’s, with %i tables', async (tables) => {
    await rm(file);
    const env = open({ path: folder.path, maxDbs: 8, overlappingSync: false, noSubdir: false });
    for (let table = 0; table < tables; table++) await env.openDB(`table-${table}`, {}).put('key', 'value');
    await env.close();
    const before = await readFile(file);
    expect(await opened()).toContain('cannot be opened: it has not the tables of an event log');
    expect(await readFile(file)).toEqual(before);
  });

  it('whichever bit of its headers is another: it is refused, or as good as before', async () => {
    const whole = await readFile(file);
    const [pageSize, headerBytes] = [whole.readUInt32LE(48), 168];
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: 1 }),
        fc.nat({ max: headerBytes - 1 }),
        fc.nat({ max: 7 }),
        async (page, byte, bit) => {
          const damaged = Buffer.from(whole);
          const at = page * pageSize + byte;
          damaged[at] = (damaged[at] as number) ^ (1 << bit);
          await writeFile(file, damaged);
          const result = await opened();
          if (typeof result === 'string') expect(result).toMatch(DAMAGED);
          else expect(result).toBe(60);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('with a newest header that looks older than the other', async () => {
    const whole = await readFile(file);
    const pageSize = whole.readUInt32LE(48);
    const [one, two] = [152, pageSize + 152].map((at) => ({ at, transaction: whole.readBigUInt64LE(at) }));
    const newest = one && two && one.transaction > two.transaction ? one : two;
    whole.writeBigUInt64LE((newest?.transaction ?? 0n) - 2n, newest?.at);
    await writeFile(file, whole);
    expect(await opened()).toContain('is damaged: its headers do not belong to its newest pages');
  });

  it('with another byte in its newest event', async () => {
    const log = EmbeddedLog.open(folder.path);
    await log.append('last', 'no-stream', [newEvent({ text: 'the newest of all' })]);
    await log.close();
    const bytes = await readFile(file);
    const handle = await openFile(file, 'r+');
    await handle.write('T', bytes.lastIndexOf('the newest of all'));
    await handle.close();
    expect(await opened()).toContain('is damaged at position 61: its checksum does not match');
  });

  it.each([
    ['an event', 30, ['s-9', 0], 'it has 59 events, but its newest is at position 60'],
    ['the newest event', 60, ['s-9', 0], 'it has 59 events and 60 entries in its index'],
    ['an entry of the index', 0, ['s-1', 4], 'it has 60 events and 59 entries in its index'],
    ['the newest entry of the index', 0, ['s-4', 11], 'its newest event, at position 60, is not in its index'],
  ] as const)('without %s', async (_, position, entry, problem) => {
    await changeTables(folder.path, ({ records, index }) =>
      Promise.all([records.remove(position), index.remove([...entry])]),
    );
    expect(await opened()).toContain(`cannot be opened: ${problem}`);
  });
});

it('a file may end before pages that are free', async () => {
  await changeTables(folder.path, async ({ env, index }) => {
    const scratch = env.openDB<Buffer, string>('scratch', { encoding: 'binary' });
    await scratch.put('large', Buffer.alloc(400_000, 1));
    await scratch.remove('large');
    // So that what the removed value had is nobody's last snapshot.
    for (let commit = 0; commit < 3; commit++) await index.put(['s-4', 11], 60);
  });
  const size = await cutRoom();
  const copy = join(folder.path, 'copy');
  await mkdir(copy);
  await copyFile(file, join(copy, 'data.mdb'));
  let cut = 0;
  for (; cut < 200; cut++) {
    await copyFile(join(copy, 'data.mdb'), file);
    await truncate(file, size - cut * 4_096);
    if ((await opened()) !== 60) break;
  }
  expect(await opened()).toMatch(/is damaged: .*its end is missing$/);
  expect(cut).toBeGreaterThan(10);
});
