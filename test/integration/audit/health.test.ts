import { readFile } from 'node:fs/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { AuditHealth } from '../../../src/audit/health.js';
import type { CheckpointPublisher } from '../../../src/audit/publications.js';
import { Publications } from '../../../src/audit/publications.js';
import { SigningKeys } from '../../../src/audit/signing-keys.js';
import { writeDurably } from '../../../src/platform/data-directory.js';
import { AuditWorld } from './world.js';

const POLL = { timeout: 20_000, interval: 20 };
let world: AuditWorld;

beforeEach(async () => {
  world = await AuditWorld.create();
}, 60_000);
afterEach(() => world.close());

it('a trail that does not grow is told of, with its cause, and again when it grows', async () => {
  const told: (string | undefined)[] = [];
  const health = new AuditHealth({
    ...{ sql: world.sql, log: world.logId, reader: world.log, stalledAfterMs: 50, everyMs: 10 },
    tell: (problem) => told.push(problem),
  });
  health.start();
  await world.record(3);
  health.hear('the key cannot be read');
  await expect.poll(() => health.problem, POLL).toMatch(/^has not grown for \d+ s and lacks 3 events$/);
  expect(told).toEqual([expect.stringContaining(': the key cannot be read')]);

  const instance = world.start();
  await expect.poll(() => health.problem, POLL).toBeUndefined();
  expect(told.at(-1)).toBeUndefined();
  await instance.stop();

  // Who cannot look does not call it healthy.
  await world.sql.query('alter table audit_trees rename to audit_trees_away');
  await expect.poll(() => health.problem, POLL).toMatch(/cannot be looked at$/);
  await world.sql.query('alter table audit_trees_away rename to audit_trees');
  await expect.poll(() => health.problem, POLL).toBeUndefined();
  await health.stop();
});

it('a place that is away for long costs the room of one checkpoint, and gets the newest', async () => {
  const taken: number[] = [];
  let isAway = true;
  const place: CheckpointPublisher = {
    name: 'far away',
    publish: async ({ size }) => {
      if (isAway) throw new Error('no');
      taken.push(size);
    },
  };
  const silent = { info: () => undefined, warn: () => undefined };
  const publications = new Publications([place], async () => [], silent);
  const instance = world.start({ checkpointEntries: 1 });
  await world.record(1);
  const { note } = await instance.audit.makeCheckpoint();
  for (let count = 0; count < 1_000; count++) publications.offer(note);
  await expect.poll(() => publications.failing, POLL).toEqual([{ name: 'far away', since: expect.any(String) }]);
  await world.record(1);
  const newest = await instance.audit.makeCheckpoint();
  publications.offer(newest.note);
  isAway = false;
  await expect.poll(() => taken, POLL).toEqual([newest.size]);
  expect(publications.failing).toEqual([]);
  await publications.stop();
  await instance.stop();
});

it('a new signing key is tied to the old one by a checkpoint that both sign', async () => {
  const instance = world.start({ isPublished: true, checkpointEntries: 1_000_000 });
  const checkpoint = async () => {
    await world.record(300);
    return await instance.audit.makeCheckpoint();
  };
  const signers = ({ parsed }: Awaited<ReturnType<typeof checkpoint>>) =>
    parsed.signatures.map(({ id }) => id.toString('hex'));
  const [before] = signers(await checkpoint());
  const old = await readFile(world.keyFile, 'utf8');
  const keys = new SigningKeys(world.keyFile, writeDurably);
  await keys.rotate();
  // Asked twice, it is one rotation.
  await keys.rotate();
  const both = signers(await checkpoint());
  expect(both).toEqual([before, expect.not.stringMatching(before as string)]);
  await expect.poll(() => readFile(world.keyFile, 'utf8'), POLL).not.toBe(old);
  expect(signers(await checkpoint())).toEqual([both[1]]);
  await instance.stop();
  expect(await world.auditor('published').verify()).toMatchObject({ ok: true, entries: 900 });

  // A checkpoint by a key that nobody has introduced is none.
  await world.sql.query(`update audit_checkpoints set note = replace(note, 'time 2', 'time 3') where size = 300`);
  expect(await world.auditor().verify()).toMatchObject({ ok: false, firstBadIndex: 0 });
});
