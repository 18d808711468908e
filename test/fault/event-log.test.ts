import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EmbeddedLog } from '../../src/event-store/embedded-log.js';
import { EmbeddedLogReader } from '../../src/event-store/embedded-log-reader.js';
import { verifyLog } from '../../src/event-store/embedded-verify.js';
import type { RecordedEvent } from '../../src/event-store/event-store.js';
import { type Acknowledged, type Appender, compileEventStore } from '../integration/event-store/compiled-log.js';

/**
 * FAULTS.md: kill -9 during append, and a full disk. Acknowledged is recorded, what was not acknowledged is there once at
 * most and never in part, and the log's two tables agree. `npm run test:fault` kills more often.
 */
const KILLS = process.env.FAULT_LONG === '1' ? 100 : 20;

let compiled: Awaited<ReturnType<typeof compileEventStore>>;
let folder: string;
const appenders: Appender[] = [];

beforeAll(async () => {
  compiled = await compileEventStore();
});
afterAll(() => compiled.remove());
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'waybill-log-fault-'));
});
afterEach(async () => {
  for (const appender of appenders.splice(0)) await appender.kill();
  await rm(folder, { recursive: true, force: true });
});

function startAppender(path = folder, wrapper: readonly string[] = []): Appender {
  const appender = compiled.appendTo(path, wrapper);
  appenders.push(appender);
  return appender;
}

/** @returns all that is in the log */
async function expectWhole(path: string, acknowledged: readonly Acknowledged[]): Promise<RecordedEvent[]> {
  expect(await verifyLog(path)).toMatchObject({ problems: 0, first: [] });
  const reader = EmbeddedLogReader.open(path);
  const all = await reader.readAll(0n, 1e9);
  await reader.close();

  const stored = new Map(all.map((event) => [event.id, event]));
  expect(stored.size).toBe(all.length);
  for (const { streamId, revision, ids } of acknowledged)
    for (const [index, id] of ids.entries())
      expect(stored.get(id)).toMatchObject({ streamId, revision: revision - ids.length + 1 + index });

  const parts = new Map<unknown, number>();
  for (const { data } of all) parts.set(data.append, (parts.get(data.append) ?? 0) + 1);
  for (const { data } of all) expect(parts.get(data.append)).toBe(data.of);
  return all;
}

it(`a writer that is killed ${KILLS} times leaves all it acknowledged, and a log to be written on`, {
  timeout: 300_000,
}, async () => {
  const acknowledged: Acknowledged[] = [];
  let events = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    const appender = startAppender();
    await appender.acknowledges(1 + Math.floor(Math.random() * 200));
    await appender.kill();
    acknowledged.push(...appender.acknowledged);
    const all = await expectWhole(folder, acknowledged);
    expect(all.length).toBeGreaterThan(events);
    events = all.length;
  }
  const log = EmbeddedLog.open(folder);
  const after = { id: crypto.randomUUID(), type: 'After', data: {}, metadata: {} };
  expect(await log.append('after', 'no-stream', [after])).toMatchObject({ ok: true, position: BigInt(events + 1) });
  await log.close();
});

describe('without room', () => {
  const isLinux = process.platform === 'linux';

  async function expectRecovery(
    path: string,
    appender: Appender,
    problem: RegExp,
    giveRoom: () => void,
  ): Promise<void> {
    await appender.fails();
    expect(appender.problems[0]).toMatch(problem);
    // Nobody waits for what the disk does not have.
    const reader = EmbeddedLogReader.open(path);
    const last = appender.acknowledged.at(-1);
    expect((await reader.readLast(last?.streamId ?? ''))?.revision).toBeGreaterThanOrEqual(last?.revision ?? 0);
    await reader.close();

    const before = appender.acknowledged.length;
    giveRoom();
    await appender.acknowledges(before + 50);
    await appender.kill();
    await expectWhole(path, appender.acknowledged);
  }

  const hasPrlimit = isLinux && spawnSync('prlimit', ['--version']).status === 0;
  it.skipIf(!hasPrlimit)(
    'for its file, a log says so, loses nothing, and goes on when there is some (needs prlimit)',
    async () => {
      const appender = startAppender(folder, ['prlimit', `--fsize=${2 * 1024 * 1024}:unlimited`]);
      await expectRecovery(
        folder,
        appender,
        /^the event log could not be written: file too large; it goes on by itself once it can$/,
        () => execFileSync('prlimit', ['--pid', String(appender.pid), '--fsize=unlimited:unlimited']),
      );
    },
  );

  /** Whether this process may mount file systems: root outside a container, most often. */
  const mounted = (size: string, path: string, options = '') =>
    spawnSync('mount', ['-t', 'tmpfs', '-o', `${options}size=${size}`, 'tmpfs', path], { stdio: 'ignore' }).status ===
    0;
  it('on its disk, a log says so, loses nothing, and goes on when there is some', async ({ skip }) => {
    if (!isLinux || !mounted('8m', folder)) return skip('only who may mount a small file system can fill one');
    try {
      const log = join(folder, 'log');
      await expectRecovery(
        log,
        startAppender(log, ['env']),
        /^the event log could not be written: no space left on device; it goes on by itself once it can$/,
        () => expect(mounted('64m', folder, 'remount,')).toBe(true),
      );
    } finally {
      execFileSync('umount', ['--lazy', folder]);
    }
  });
});
