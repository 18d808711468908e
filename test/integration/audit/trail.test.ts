import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { verifyBundle as verifyIndependently } from '../../../docs/audit/verify.mjs';
import { AccessRecorder } from '../../../src/audit/access-recorder.js';
import type { Audit } from '../../../src/audit/audit.js';
import { verifyBundle } from '../../../src/audit/bundle-verifier.js';
import { isConsistent, rootFromInclusion } from '../../../src/audit/merkle.js';
import type { TrailFilter } from '../../../src/audit/trail.js';
import type { Organizations } from '../../../src/domain/vocabulary.js';
import { EventCodec } from '../../../src/event-store/codec.js';
import { SealedFields } from '../../../src/event-store/sealed-fields.js';
import { AuditWorld } from './world.js';

let world: AuditWorld;
let audit: Audit;
let stop: () => Promise<void>;
const delivery = randomUUID();
let middle: Date;

const by = (actor: string, organizationId: string) => ({ metadata: { schemaVersion: '1', organizationId, actor } });

beforeAll(async () => {
  world = await AuditWorld.create();
  ({ audit, stop } = world.start({ checkpointEntries: 150 }));
  await world.record(2, by('ada', 'a'), `delivery-${delivery}`);
  await world.record(300, by('ada', 'a'));
  await audit.makeCheckpoint();
  await world.record(40, by('bob', 'b'));
  await delay(20);
  middle = new Date();
  await delay(20);
  const accesses = new AccessRecorder(world.log, new EventCodec(new SealedFields(world.keys)), { warn: console.warn });
  const denied = { actor: 'eve', action: 'Query.delivery', outcome: 'denied', resource: delivery } as const;
  for (let n = 0; n < 5; n++) accesses.record({ ...denied, organizationId: 'a', ip: '192.0.2.7', reason: 'tenant' });
  accesses.record({ action: 'authenticate', outcome: 'denied', reason: 'credentials' });
  await accesses.stop();
  await world.record(1, by('ada', 'a'), `delivery-${delivery}`);
  await world.record(200, by('ada', 'a'));
  await audit.makeCheckpoint();
}, 60_000);

afterAll(async () => {
  await stop();
  await world.close();
});

const TOTAL = 2 + 300 + 40 + 2 + 1 + 200;

/** All pages of a list, a few entries at a time. */
async function all(
  filter: TrailFilter,
  organizations: Organizations = 'all',
  size = 7,
  direction: 'asc' | 'desc' = 'desc',
) {
  const found = [];
  for (let after: number | undefined, more = true; more; ) {
    const { entries, next } = await audit.trail.page(filter, organizations, { size, direction, after });
    found.push(...entries);
    after = next;
    more = next !== undefined;
  }
  return found;
}

it('has every entry once, the newest first', async () => {
  const entries = await all({}, 'all', 100);
  expect(entries.map(({ index }) => index)).toEqual(Array.from({ length: TOTAL }, (_, at) => TOTAL - 1 - at));
});

it('has the same entries the oldest first, whatever is asked for, and those that come later', async () => {
  const filters: readonly TrailFilter[] = [{}, { actor: 'bob' }, { delivery }, { from: middle }, { to: middle }];
  for (const filter of filters)
    for (const organizations of ['all', ['b']] as const)
      for (const size of filter.delivery ? [1, 3] : [100, 256]) {
        const newest = await all(filter, organizations, size);
        expect(await all(filter, organizations, size, 'asc')).toEqual(newest.toReversed());
      }
  const { entries, next } = await audit.trail.page({}, 'all', { size: 200, direction: 'asc', after: TOTAL - 6 });
  expect([entries.map(({ index }) => index), next]).toEqual([[5, 4, 3, 2, 1].map((n) => TOTAL - n), undefined]);
});

it('is found by actor, delivery, organization and time, and shows nobody what is another organization’s', async () => {
  expect((await all({ actor: 'bob' })).map(({ index }) => index)).toEqual(
    Array.from({ length: 40 }, (_, at) => 341 - at),
  );
  expect(await all({ delivery })).toMatchObject([
    { index: 344, action: 'ScheduleReached' },
    { index: 342, action: 'Query.delivery', actor: 'eve', outcome: 'denied', address: '192.0.2.7', data: { count: 5 } },
    { index: 1, actor: 'ada' },
    { index: 0, subject: `delivery-${delivery}` },
  ]);
  // Where from is personal: it is opened for who asks, and lies sealed in the log.
  expect((await all({ delivery }))[1]?.data).toMatchObject({ count: 5, sealed: [{ key: expect.any(String) }] });
  for (const { data } of await world.log.readAll(0n, 10_000)) expect(JSON.stringify(data)).not.toContain('192.0.2.7');
  expect(await all({}, ['b'])).toHaveLength(40);
  expect(await all({ actor: 'ada' }, ['b'])).toEqual([]);
  expect(await all({ from: middle }, 'all', 100)).toHaveLength(203);
  expect(await all({ to: middle, actor: 'bob' }, 'all', 100)).toHaveLength(40);
});

it('proofs from the stored tree lead to the signed roots', async () => {
  const { root, size } = await audit.checkpoint();
  const bytes = (text: string | null) => Buffer.from(text ?? '', 'base64');
  for (const index of [0, 255, 256, 344, TOTAL - 1]) {
    const proof = await audit.proof({ kind: 'INCLUSION', index, treeSize: undefined });
    expect(rootFromInclusion(index, size, bytes(proof.leafHash), proof.hashes.map(bytes))).toEqual(root);
  }
  const proof = await audit.proof({ kind: 'CONSISTENCY', firstSize: 302, treeSize: undefined });
  const first = { size: 302, hash: bytes(proof.firstRootHash) };
  expect(isConsistent(first, { size, hash: root }, proof.hashes.map(bytes))).toBe(true);
  await expect(audit.proof({ kind: 'INCLUSION', index: TOTAL, treeSize: undefined })).rejects.toMatchObject({
    path: 'index',
  });
  await expect(audit.proof({ kind: 'CONSISTENCY', firstSize: 0, treeSize: undefined })).rejects.toMatchObject({
    path: 'firstSize',
  });
});

it('bundles of all of it, and of a part, are right by both verifiers', async () => {
  for (const [range, from, entries] of [
    [{}, 0, TOTAL],
    [{ from: middle }, 342, 203],
    [{ to: middle }, 0, 342],
  ] as const) {
    const lines: string[] = [];
    for (let cursor: string | undefined, more = true; more; ) {
      const page = await audit.bundles.page(range, cursor, 90);
      lines.push(...page.lines);
      cursor = page.cursor;
      more = cursor !== undefined;
    }
    expect(await verifyBundle(lines)).toMatchObject({ ok: true, from, entries, problem: null });
    expect(await verifyIndependently(lines)).toMatchObject({ ok: true, entries, problem: null });
  }
  await expect(audit.bundles.page({ from: new Date(Date.now() + 60_000) }, undefined, 9)).rejects.toMatchObject({
    path: 'from',
  });
  await expect(audit.bundles.page({}, 'nonsense', 9)).rejects.toMatchObject({ path: 'cursor' });
});

it('two instances build one tree, each entry once; one goes on when the other stops', { timeout: 60_000 }, async () => {
  const other = world.start({ checkpointEntries: 150 });
  for (let round = 0; round < 3; round++) await world.record(50, by('ada', 'a'));
  await audit.makeCheckpoint();
  await stop();
  await world.record(50, by('ada', 'a'));
  await other.audit.makeCheckpoint(30_000);
  expect(await other.audit.verify()).toMatchObject({ ok: true, entries: TOTAL + 200 });
  await other.stop();
  expect(world.problems).toEqual([]);
});
