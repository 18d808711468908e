import { mkdir, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { BackupUnusable, backUp, checkBackup, extractBackup } from '../../../src/event-store/embedded-backup.js';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import { verifyLog } from '../../../src/event-store/embedded-verify.js';
import { newEvent, newEvents, temporaryFolder } from '../../support/logs.js';
import { changeTables } from './tables.js';

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let file: string;
let log: EmbeddedLog;
beforeEach(async () => {
  folder = await temporaryFolder();
  file = join(folder.path, 'backup');
  log = EmbeddedLog.open(join(folder.path, 'log'));
  await log.append('a', 'no-stream', [newEvent({ text: 'x'.repeat(100_000) }), ...newEvents(20)]);
});
afterEach(async () => {
  await log.close();
  await folder.remove();
});

const backup = () => backUp(join(folder.path, 'log'), file);

async function extracted(name = 'other'): Promise<string> {
  const other = join(folder.path, name);
  await mkdir(other);
  await extractBackup(file, other);
  return other;
}

it('has the log as it was at one moment while it was written, and can be written on', async () => {
  const stop = new AbortController();
  const writing = (async () => {
    for (let append = 0; !stop.signal.aborted; append++)
      await Promise.all(
        Array.from({ length: 20 }, (_, n) => log.append(`w-${append}-${n}`, 'no-stream', newEvents(3))),
      );
  })();
  for (const name of ['first', 'second', 'third']) {
    const before = await log.head();
    file = join(folder.path, `${name}.backup`);
    const manifest = await backup();
    expect(BigInt(manifest.head)).toBeGreaterThanOrEqual(before);
    expect(await checkBackup(file)).toEqual(manifest);

    const path = await extracted(name);
    expect(await verifyLog(path)).toMatchObject({ events: Number(manifest.head), problems: 0 });
    const copy = EmbeddedLog.open(path);
    const events = await copy.readAll(0n, 1e6);
    expect(events).toEqual((await log.readAll(0n, events.length)).slice(0, events.length));
    expect(await copy.append('a', 20, newEvents(1))).toMatchObject({ ok: true, position: BigInt(manifest.head) + 1n });
    await copy.close();
  }
  stop.abort();
  await writing;
});

it('overwrites nothing, and leaves nothing beside it', async () => {
  await writeFile(file, 'precious');
  await expect(backup()).rejects.toThrow(`${file} exists already; a backup overwrites nothing`);
  expect(await readFile(file, 'utf8')).toBe('precious');
  file = join(folder.path, 'new');
  await backup();
  await expect(backUp(join(folder.path, 'nowhere'), join(folder.path, 'none'))).rejects.toThrow(
    'there is no event log',
  );
  expect((await readdir(folder.path)).sort()).toEqual(['backup', 'log', 'new']);
});

it('is not made of a damaged log', async () => {
  await log.close();
  await changeTables(join(folder.path, 'log'), ({ records }) => records.put(2, Buffer.alloc(100)));
  log = EmbeddedLog.open(join(folder.path, 'log'));
  await expect(backup()).rejects.toThrow('a damaged event log is not backed up (waybill log verify names all): ');
  expect(await readdir(folder.path)).toEqual(['log']);
});

it('is made although a page of the file belongs to nobody', async () => {
  await log.close();
  const path = join(folder.path, 'log', 'data.mdb');
  const bytes = await readFile(path);
  const [pageSize, transaction, lastPage] = [bytes.readUInt32LE(48), 152, 144];
  const newest = bytes.readBigUInt64LE(transaction) > bytes.readBigUInt64LE(pageSize + transaction) ? 0 : pageSize;
  bytes.writeBigUInt64LE(bytes.readBigUInt64LE(newest + lastPage) + 1n, newest + lastPage);
  await writeFile(path, Buffer.concat([bytes, Buffer.alloc(pageSize)]));
  log = EmbeddedLog.open(join(folder.path, 'log'));
  expect(await backup()).toMatchObject({ head: '21' });
  expect(await verifyLog(await extracted())).toMatchObject({ events: 21, problems: 0 });
});

it('is refused when any of its bytes is another, or any of them are missing', async () => {
  await backup();
  const whole = await readFile(file);
  await fc.assert(
    fc.asyncProperty(
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.nat({ max: 7 }),
      fc.boolean(),
      async (place, bit, isNearEnd) => {
        const damaged = Buffer.from(whole);
        const at = isNearEnd ? whole.length - 1 - Math.floor(place * 300) : Math.floor(place * (whole.length - 1));
        damaged[at] = (damaged[at] as number) ^ (1 << bit);
        await writeFile(file, damaged);
        await expect(checkBackup(file)).rejects.toThrow(BackupUnusable);
        await writeFile(file, whole.subarray(0, at));
        await expect(checkBackup(file)).rejects.toThrow(BackupUnusable);
      },
    ),
    { numRuns: 60 },
  );
  await writeFile(file, Buffer.concat([whole, Buffer.alloc(1)]));
  await expect(checkBackup(file)).rejects.toThrow(BackupUnusable);
});

it('is refused in one line when it is something else', async () => {
  await writeFile(file, 'Not a backup at all. '.repeat(1_000));
  const message = `${file} cannot be used: it is not a backup of an event log, or its end is missing`;
  await expect(checkBackup(file)).rejects.toThrow(new BackupUnusable(message));
  await truncate(file, 0);
  await expect(checkBackup(file)).rejects.toThrow(new BackupUnusable(message));
  // Not even a log is one.
  await expect(checkBackup(join(folder.path, 'log', 'data.mdb'))).rejects.toThrow(BackupUnusable);
});
