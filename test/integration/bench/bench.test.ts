import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { parse, UsageError } from '../../../bench/args.js';
import { threadProfile } from '../../../bench/profiles.js';
import type { BenchResult } from '../../../bench/report.js';
import { stagesOf } from '../../../bench/stages.js';
import { REPOSITORY } from '../../support/waybill-process.js';

const bench = (...options: string[]) =>
  promisify(execFile)(
    process.execPath,
    ['--import', join(REPOSITORY, 'scripts/ts-loader.mjs'), join(REPOSITORY, 'bench/main.ts'), ...options],
    { cwd: REPOSITORY },
  );

describe('npm run bench', () => {
  it('measures deliveries beside a bare loop, and says on which stage their CPU time goes', {
    timeout: 90_000,
  }, async () => {
    const { stdout } = await bench(
      ...['--deliveries', '2000', '--warm-up', '0', '--latency-seconds', '0', '--profile', '--json'],
    );
    const { perSecond, seconds, rawPerSecond, ratio, profile }: BenchResult = JSON.parse(stdout);
    expect(Math.round((perSecond * seconds) / 10)).toBe(200);
    expect(ratio).toBeCloseTo(perSecond / rawPerSecond, 2);
    const { stages = [], busyPercent = [] } = profile ?? {};
    for (const { stage, micros } of stages.filter((each) => each.stage !== 'garbage'))
      expect(micros, stage).toBeGreaterThan(0);
    expect(stages.reduce((sum, { percent }) => sum + percent, 0)).toBeCloseTo(100, 0);
    expect(busyPercent).toHaveLength(2);
  });

  it('takes --profile with and without a folder', () => {
    expect(parse(['--profile'])).toMatchObject({ profile: '' });
    expect(parse(['--profile', '--json'])).toMatchObject({ profile: '', json: true });
    expect(parse(['--profile', '/tmp/profiles', '--json'])).toMatchObject({ profile: '/tmp/profiles', json: true });
    expect(parse(['--json'])).not.toHaveProperty('profile');
    expect(() => parse(['--deliveries'])).toThrow(UsageError);
  });
});

describe('A profile is divided into stages', () => {
  const frame = (id: number, functionName: string, url: string, children: number[] = []) => ({
    id,
    callFrame: { functionName, url },
    children,
  });
  const nodes = [
    frame(1, '(root)', '', [2, 5, 8, 9, 10]),
    frame(2, 'run', 'file:///waybill/dist/sagas/attempt.js', [3]),
    frame(3, 'dispatch', 'file:///waybill/node_modules/undici/lib/client.js', [4]),
    frame(4, 'writev', ''),
    frame(5, 'seal', 'file:///waybill/dist/event-store/sealed-fields.js', [6]),
    frame(6, 'next', 'file:///waybill/node_modules/es-toolkit/dist/array.js', [7]),
    frame(7, 'hash', 'node:internal/crypto/hash'),
    frame(8, '(garbage collector)', ''),
    frame(9, '(idle)', ''),
    frame(10, 'poll', 'node:internal/timers'),
  ];
  const at = (...stacks: number[]) =>
    threadProfile(0, { nodes, samples: stacks, timeDeltas: stacks.map(() => 1_000), startTime: 0 });

  it('by the innermost function whose stage is known', () => {
    const { stages, busyPercent } = stagesOf([at(2, 3, 4, 5, 7, 8, 9, 10)], { from: 0, to: 8, deliveries: 2 });
    const micros = Object.fromEntries(stages.map((share) => [share.stage, share.micros]));
    expect(micros).toMatchObject({
      engine: 500,
      send: 1_000,
      log: 1_000,
      garbage: 500,
      rest: 500,
      accept: 0,
      audit: 0,
    });
    expect(busyPercent).toEqual([87.5]);
  });

  it('for the phase that is asked for, and for all threads together', () => {
    const { stages, busyPercent } = stagesOf([at(2, 5, 9, 9), at(9, 2, 9, 2)], { from: 2, to: 3, deliveries: 1 });
    expect(stages.filter((share) => share.micros > 0)).toEqual([
      { stage: 'log', percent: 50, micros: 1_000 },
      { stage: 'engine', percent: 50, micros: 1_000 },
    ]);
    expect(busyPercent).toEqual([50, 50]);
  });

  it('by the CPU time of each thread, where the kernel tells it: one that waits for a core looks busy', () => {
    const phase = { from: 0, to: 4, cpuMicros: [3_000, 1_000], deliveries: 1 };
    const { stages, busyPercent } = stagesOf([at(2, 2, 2, 9), at(5, 5, 9, 9)], phase);
    expect(stages.filter((share) => share.micros > 0)).toEqual([
      { stage: 'log', percent: 25, micros: 1_000 },
      { stage: 'engine', percent: 75, micros: 3_000 },
    ]);
    expect(busyPercent).toEqual([75, 25]);
  });
});
