import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { redisVersion } from '../../../bench/peers/redis.js';
import type { PeersResult } from '../../../bench/peers/report.js';
import { NAMES, needsRedis } from '../../../bench/peers/systems.js';
import { REPOSITORY } from '../../support/waybill-process.js';

const DELIVERIES = 200;
/** Ten processes start and end one after the other, on a machine that may be busy. */
const TIMEOUT_MS = 90_000;

const bench = (...options: string[]) =>
  promisify(execFile)(
    process.execPath,
    ['--import', join(REPOSITORY, 'scripts/ts-loader.mjs'), join(REPOSITORY, 'bench/peers/main.ts'), ...options],
    { cwd: REPOSITORY },
  );
const small = ['--deliveries', String(DELIVERIES), '--warm-up', '0'];

test('every peer that can run here delivers each request once, and one that cannot is named', {
  timeout: TIMEOUT_MS,
}, async () => {
  const peers = NAMES.filter((name) => name !== 'waybill');
  const hasRedis = (await redisVersion()) !== undefined;

  const { stdout } = await bench(...small, '--latency-seconds', '0', '--only', peers.join(','), '--json');
  const { systems, skipped }: PeersResult = JSON.parse(stdout);

  const canRun = peers.filter((name) => hasRedis || !needsRedis(name));
  expect(systems.map(({ name }) => name)).toEqual(canRun);
  expect(skipped.map(({ name }) => name)).toEqual(peers.filter((name) => !canRun.includes(name)));
  for (const system of systems) {
    expect(system, system.name).toMatchObject({ repeated: 0, title: expect.stringMatching(/\d\.\d/) });
    expect(Math.round((system.perSecond * system.seconds) / 10), system.name).toBe(DELIVERIES / 10);
    expect(system.ofRaw, system.name).toBeGreaterThan(0);
  }
});

test('the table shows Waybill, a peer, their ratio and their latency', { timeout: TIMEOUT_MS }, async () => {
  const { stdout } = await bench(
    ...small,
    '--latency-seconds',
    '1',
    '--latency-warm-up',
    '1',
    '--only',
    'hand-written,waybill',
  );
  const rows = stdout.split('\n').filter((line) => line.startsWith('| '));
  const cells = rows.map((row) => row.split('|').map((cell) => cell.trim()));

  expect(cells.map(([, name]) => name)).toEqual([
    'system',
    expect.stringMatching(/^-+$/),
    expect.stringContaining('raw loop'),
    'Waybill',
    expect.stringContaining('hand-written'),
  ]);
  expect(cells[3]?.[4]).toBe('1.00');
  for (const [, , rate, , , latency] of cells.slice(3)) {
    expect(rate).toMatch(/^[\d,]+$/);
    expect(latency).toMatch(/^[\d.]+ \/ [\d.]+$/);
  }
});

test('a mistake in the command line is explained', async () => {
  await expect(bench('--only', 'waybill,sidekiq')).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringContaining('not "sidekiq"'),
  });
  expect((await bench('--help')).stdout).toContain('npm run bench:peers');
});
