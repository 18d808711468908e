import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import { EmbeddedLogReader } from '../../../src/event-store/embedded-log-reader.js';
import { client } from '../../e2e/journeys.js';
import { newEvents } from '../../support/logs.js';
import { removeDataDir, startWaybill } from '../../support/waybill-process.js';
import { changeTables } from '../event-store/tables.js';

const WAYBILL = fileURLToPath(new URL('../../../bin/waybill.mjs', import.meta.url));

let dataDir: string;
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'waybill-cli-log-'));
});
afterEach(async () => {
  await removeDataDir(dataDir);
  await rm(dataDir, { recursive: true, force: true });
});

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly error: string;
}

/** Runs `waybill log …` as an operator does. */
const run = (...args: string[]): Promise<Ended> =>
  new Promise((resolve) => {
    const env = { ...process.env, WAYBILL_DATA: dataDir };
    execFile(process.execPath, [WAYBILL, 'log', ...args], { env }, (error, out, errorText) =>
      resolve({ code: error ? Number(error.code) : 0, out, error: errorText }),
    );
  });
const json = async (...args: string[]) => JSON.parse((await run(...args, '--json')).out);

/** Fails, with one line for the operator. */
async function expectRefused(running: Promise<Ended>, line: string): Promise<void> {
  const { code, error } = await running;
  expect(error.trim()).toContain(line);
  expect(error.trim()).not.toContain('\n');
  expect(code).toBe(1);
}

async function makeLog(): Promise<void> {
  const log = EmbeddedLog.open(join(dataDir, 'log'));
  await log.append('delivery-1', 'no-stream', newEvents(3));
  await log.append('delivery-2', 'no-stream', newEvents(2));
  await log.append('destination-1', 'no-stream', newEvents(1));
  await log.close();
}

describe('stats', () => {
  it('say what is in the log', async () => {
    await makeLog();
    expect(await json('stats')).toEqual({
      events: 6,
      streams: 3,
      head: '6',
      bytes: expect.any(Number),
      bytesPerEvent: expect.any(Number),
      firstCreated: expect.stringMatching(/Z$/),
      lastCreated: expect.stringMatching(/Z$/),
      eventsByType: { ScheduleReached: 6 },
      streamsByCategory: { delivery: 2, destination: 1 },
    });
    const { out, code } = await run('stats', '--data', dataDir);
    expect(out).toContain('6 events in 3 streams, the newest at position 6');
    expect(code).toBe(0);
  });

  it('are refused where there is no log', () =>
    expectRefused(
      run('stats', '--data', join(dataDir, 'none')),
      `there is no event log in ${join(dataDir, 'none', 'log')}`,
    ));
});

describe('verify', () => {
  it('says that a log is whole', async () => {
    await makeLog();
    expect(await run('verify')).toEqual({
      code: 0,
      out: '6 events in 3 streams checked: the log is whole\n',
      error: '',
    });
  });

  it('names what is wrong, and fails', async () => {
    await makeLog();
    await changeTables(join(dataDir, 'log'), ({ index }) => index.remove(['delivery-1', 1]));
    const problem = 'position 2 has revision 1 of delivery-1, for which the index has nothing';
    await expectRefused(run('verify'), `The event log has 2 problems. The first: ${problem}`);
    expect(await json('verify')).toMatchObject({ ok: false, problems: 2, first: [problem, expect.any(String)] });
  });
});

describe('restore', () => {
  const backup = () => join(dataDir, 'backup');
  const elsewhere = () => join(dataDir, 'restored');

  it('makes a backup the log of a new data directory', async () => {
    await makeLog();
    const manifest = await json('backup', backup());
    expect(manifest).toMatchObject({ file: backup(), head: '6' });
    expect(await run('restore', backup(), '--data', elsewhere())).toMatchObject({ code: 0, error: '' });
    expect(await readdir(join(elsewhere(), 'log'))).toEqual(['data.mdb']);
    expect(await json('verify', '--data', elsewhere())).toMatchObject({ ok: true, events: 7 });
    // The last one says that it was restored.
    const log = EmbeddedLogReader.open(join(elsewhere(), 'log'));
    expect(await log.readAllBackwards('end', 1)).toMatchObject([{ type: 'LogRestored' }]);
    await log.close();
  });

  it('touches nothing where it cannot be done', async () => {
    await makeLog();
    await run('backup', backup());
    await expectRefused(run('backup', backup()), 'exists already');
    await expectRefused(run('restore', backup()), `${dataDir} has an event log: move its folder`);
    const whole = await readFile(backup());
    await truncate(backup(), whole.length - 1);
    await expectRefused(run('restore', backup(), '--data', elsewhere()), 'its end is missing');
    whole[9_000] = (whole[9_000] as number) ^ 1;
    await writeFile(backup(), whole);
    await expectRefused(run('restore', backup(), '--data', elsewhere()), 'its checksum does not match');
    await expectRefused(run('restore', join(dataDir, 'format.json'), '--data', elsewhere()), 'no such file');
    expect((await readdir(dataDir)).sort()).toEqual(['backup', 'log']);
  });
});

describe('with a Waybill', () => {
  const held = { to: [{ channel: 'WEBHOOK', address: 'http://127.0.0.1:9/' }], approval: { approvers: ['admin'] } };
  const COUNT = '{ deliveries(first: 1) { totalCount } }';
  const IDS = '{ deliveries { edges { node { id } } } }';

  it('looks, checks and backs up while it runs; what is restored is what it goes on with', {
    timeout: 120_000,
  }, async () => {
    const start = () => startWaybill({ dataDir, eventStoreDb: false });
    const log = join(dataDir, 'log');
    const backup = join(dataDir, 'backup');
    let waybill = await start();
    await client(waybill).request(held);
    expect(await json('verify')).toMatchObject({ ok: true });
    const { head } = await json('backup', backup);
    await client(waybill).request(held);
    const newer = join(dataDir, 'newer');
    await json('backup', newer);
    const both = await waybill.ask(IDS);
    expect((await json('stats')).streamsByCategory.delivery).toBe(2);
    await expectRefused(run('restore', backup), `${dataDir} has an event log`);
    await rename(log, join(dataDir, 'log.old'));
    await expectRefused(run('restore', backup), `Data directory ${dataDir} is in use by process ${waybill.pid}`);
    await rename(join(dataDir, 'log.old'), log);
    await waybill.stop();

    await rm(log, { recursive: true });
    expect(await run('restore', backup)).toMatchObject({ code: 0, error: '' });
    waybill = await start();
    await expect.poll(() => waybill.ask(COUNT), { timeout: 10_000 }).toEqual({ deliveries: { totalCount: 1 } });
    await client(waybill).request(held);
    await expect.poll(() => waybill.ask(COUNT)).toEqual({ deliveries: { totalCount: 2 } });
    await waybill.stop();
    expect(Number((await json('stats')).head)).toBeGreaterThan(Number(head));

    // As many events as it has seen already, but of another story.
    await rm(log, { recursive: true });
    expect(await run('restore', newer)).toMatchObject({ code: 0, error: '' });
    waybill = await start();
    await expect.poll(() => waybill.ask(IDS), { timeout: 10_000 }).toEqual(both);
    await waybill.stop();
  });

  it('does not start on a damaged log, and says so', { timeout: 60_000 }, async () => {
    await makeLog();
    await truncate(join(dataDir, 'log', 'data.mdb'), 20_000);
    await expect(startWaybill({ dataDir, eventStoreDb: false })).rejects.toThrow(
      /\n(?:.*\n)*the event log .* is damaged: .*its end is missing$/,
    );
  });
});
