import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import { EmbeddedLogReader } from '../../../src/event-store/embedded-log-reader.js';
import { verifyLog } from '../../../src/event-store/embedded-verify.js';
import type { RecordedEvent } from '../../../src/event-store/event-store.js';
import { idsOf, newEvents, temporaryFolder } from '../../support/logs.js';
import { type Appender, compileEventStore } from './compiled-log.js';

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let compiled: Awaited<ReturnType<typeof compileEventStore>>;
let appender: Appender | undefined;
beforeAll(async () => {
  compiled = await compileEventStore();
});
afterAll(() => compiled.remove());
beforeEach(async () => {
  folder = await temporaryFolder();
});
afterEach(async () => {
  await appender?.kill();
  await folder.remove();
});

it('a reader in another process than the writer’s sees every event once, in order, as it comes', async () => {
  appender = compiled.appendTo(folder.path);
  await appender.acknowledges(1);
  const reader = EmbeddedLogReader.open(folder.path);
  const stop = new AbortController();
  const seen: RecordedEvent[] = [];
  const after = await reader.head();
  for await (const { events } of reader.subscribe({ after, signal: stop.signal })) {
    seen.push(...events);
    if (seen.length >= 300) stop.abort();
  }
  expect(seen.map(({ position }) => position)).toEqual(seen.map((_, index) => after + BigInt(index + 1)));
  await appender.kill();
  const all = await reader.readAll(0n, 1e9);
  expect(idsOf(all)).toEqual(expect.arrayContaining(appender.acknowledged.flatMap(({ ids }) => ids)));
  await reader.close();
});

it('a log is opened, read and verified at any moment of its being written', async () => {
  appender = compiled.appendTo(folder.path);
  await appender.acknowledges(1);
  for (let opened = 0; opened < 150; opened++) {
    const acknowledged = appender.acknowledged.at(-1);
    const reader = EmbeddedLogReader.open(folder.path);
    expect((await reader.readLast(acknowledged?.streamId ?? ''))?.revision).toBeGreaterThanOrEqual(
      acknowledged?.revision ?? 0,
    );
    await reader.close();
    if (opened % 30 === 0) expect(await verifyLog(folder.path)).toMatchObject({ problems: 0 });
  }
  await appender.kill();
  const reader = EmbeddedLogReader.open(folder.path);
  const all = idsOf(await reader.readAll(0n, 1e9));
  // Nothing that was acknowledged has been written over by what came after (embedded-opening.ts).
  expect(all).toEqual(expect.arrayContaining(appender.acknowledged.flatMap(({ ids }) => ids)));
  await reader.close();
});

/** Opens a log again and again, and closes it. */
const OPENER = `
  const [program, folder] = process.argv.slice(1);
  const { EmbeddedLogReader } = await import(program);
  for (let opened = 0; opened < 20; opened++) {
    const reader = EmbeddedLogReader.open(folder);
    await reader.head();
    await reader.close();
  }`;

it('several processes open a log that is being written at the same moments, and none is in the way of another', async () => {
  appender = compiled.appendTo(folder.path);
  await appender.acknowledges(1);
  const openers = Array.from({ length: 8 }, () => compiled.run(OPENER, 'embedded-log-reader.js', folder.path));
  expect(await Promise.all(openers)).toEqual(openers.map(() => ({ code: 0, complaints: '' })));
  await appender.acknowledges(appender.acknowledged.length + 1);
  await appender.kill();
  const reader = EmbeddedLogReader.open(folder.path);
  const all = idsOf(await reader.readAll(0n, 1e9));
  expect(all).toEqual(expect.arrayContaining(appender.acknowledged.flatMap(({ ids }) => ids)));
  await reader.close();
});

/** Holds a snapshot of a log until it is killed: what it sees may not be written over. */
const HOLDER = `
  const { open } = require('lmdb');
  const env = open({ path: process.argv[1], readOnly: true, maxDbs: 8, overlappingSync: false, noSubdir: false });
  const entries = env.openDB('log', { encoding: 'binary' }).getRange({})[Symbol.iterator]();
  entries.next();
  process.stdout.write('holding');
  setInterval(() => entries, 1_000);`;

it('a reader that was killed does not make the file grow for ever', async () => {
  const log = EmbeddedLog.open(folder.path);
  const growth = async () => {
    const { size } = await stat(join(folder.path, 'data.mdb'));
    for (let append = 0; append < 150; append++)
      await log.append(`s-${append % 3}-${size}`, append < 3 ? 'no-stream' : 'stream-exists', newEvents(1));
    return (await stat(join(folder.path, 'data.mdb'))).size - size;
  };
  await growth();
  const free = await growth();
  const holder = spawn(process.execPath, ['-e', HOLDER, folder.path], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(holder.stdout, 'data');
  const held = await growth();
  expect(held).toBeGreaterThan(free + 1_000_000);
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  // Whoever opens the log clears away what is left of the dead; the writer itself does so every ten minutes.
  await EmbeddedLogReader.open(folder.path).close();
  await growth();
  expect(await growth()).toBeLessThan(held / 2);
  await log.close();
});
