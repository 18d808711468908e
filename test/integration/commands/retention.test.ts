import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { DestinationDirectory } from '../../../src/commands/destination-directory.js';
import { Erasures } from '../../../src/commands/erasures.js';
import { CommandExecutor } from '../../../src/commands/executor.js';
import { subjectId } from '../../../src/commands/ids.js';
import { Intake } from '../../../src/commands/intake.js';
import { Retention } from '../../../src/commands/retention.js';
import { RetentionPolicies } from '../../../src/commands/retention-policies.js';
import { dataSubject } from '../../../src/domain/data-subject.js';
import { delivery } from '../../../src/domain/delivery.js';
import { EventCodec } from '../../../src/event-store/codec.js';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import { KeyedEventStore } from '../../../src/event-store/keyed-event-store.js';
import { SealedFields } from '../../../src/event-store/sealed-fields.js';
import { openDatabase } from '../../../src/platform/database.js';
import { DataKeys } from '../../../src/security/data-keys.js';
import { KeyEncryption } from '../../../src/security/key-encryption.js';
import { KeyTable } from '../../../src/security/key-table.js';
import { Subjects } from '../../../src/security/subjects.js';
import { FakeCatalog } from '../../support/fake-catalog.js';
import { temporaryFolder } from '../../support/logs.js';
import { type TestDatabase, testDatabase } from '../../support/postgres.js';

/** Commands, the log and the keys as they are; only the clock is the test's. */

let database: TestDatabase;
let pool: pg.Pool;
beforeAll(async () => {
  database = await testDatabase();
  await (await openDatabase({ connection: { connectionString: database.url }, entities: [] })).destroy();
  pool = new pg.Pool({ connectionString: database.url });
}, 180_000);
afterAll(async () => {
  await pool.end();
  await database.close();
});
beforeEach(() => pool.query('truncate waybill_keys.data_keys'));

const TIMEOUT = { timeout: 60_000 };
const ring = { encryption: new KeyEncryption(new Map([[1, randomBytes(32)]])), reload: async () => {} };
const ada = { actor: 'ada', organizationId: 'clinic' };
const jane = 'jane@example.com';
const joe = 'joe@example.com';
const day = (text: string) => new Date(`${text}T12:00:00Z`);

async function world() {
  const folder = await temporaryFolder();
  const log = EmbeddedLog.open(folder.path);
  const table = new KeyTable(pool);
  const subjects = new Subjects(Buffer.alloc(32, 1));
  const open: string[] = [];
  const failing = { destroy: 0 };
  /** What a process has in memory. */
  const start = () => {
    const keys = new DataKeys(table, ring);
    const store = new KeyedEventStore(log, keys);
    const executor = new CommandExecutor(store, new EventCodec(new SealedFields(keys)));
    const policies = new RetentionPolicies(executor);
    const destroy = async (ids: readonly string[], subject: string, organizationId: string) => {
      if (failing.destroy-- > 0) throw new Error('the power is gone');
      keys.forget(ids);
      await table.destroy(ids, subject, organizationId);
    };
    const retention = new Retention({
      executor,
      policies,
      organizations: () => table.organizationsKept(),
      keysBefore: (scope, after, limit) => table.keptBefore(scope, after, Math.min(limit, 2)),
      openBefore: async () => open,
      destroy,
    });
    const intake = new Intake({
      catalog: new FakeCatalog(),
      directory: new DestinationDirectory(executor),
      reader: store,
      load: (id) => executor.load(delivery, id),
      defaults: async () => [],
      retention: (organizationId) => policies.find(organizationId),
      limits: { maxAttachmentBytes: 1_000 },
      subjects,
    });
    return {
      retention,
      table,
      async request(addresses: readonly string[], text: string, now: Date, more: object = {}): Promise<string> {
        const to = addresses.map((address) => ({ channel: 'EMAIL' as const, address }));
        const prepared = await intake.prepare({ to, content: { text }, ...more }, ada, now);
        if (!prepared.ok || !('order' in prepared)) throw new Error(JSON.stringify(prepared));
        const result = await executor.execute(delivery, prepared.order);
        if (!result.ok) throw new Error(JSON.stringify(result));
        return prepared.order.id;
      },
      async refusal(more: object, now: Date) {
        const prepared = await intake.prepare(
          { to: [{ channel: 'EMAIL', address: jane }], content: { text: 'x' }, ...more },
          ada,
          now,
        );
        return prepared.ok ? undefined : prepared.rejection.fields?.map(({ path }) => path);
      },
      async content(id: string): Promise<readonly unknown[]> {
        const { state } = await executor.load(delivery, id);
        if (state.tag === 'absent') throw new Error('there is no such delivery');
        const addresses = state.request.legs.flatMap(({ routes }) => routes.map(({ address }) => address));
        return [state.request.content.text, ...addresses];
      },
      async hold(type: 'PlaceLegalHold' | 'ReleaseLegalHold', address: string) {
        const subject = subjects.person('clinic', 'EMAIL', address) as string;
        const command = { type, now: day('2026-01-01').toISOString(), subject, by: 'ada', reason: 'case 7' } as const;
        const envelope = { organizationId: 'clinic', commandId: crypto.randomUUID(), actor: 'ada' };
        expect(await executor.execute(dataSubject, { id: subjectId(subject), command, envelope })).toMatchObject({
          ok: true,
        });
      },
      async follow() {
        const erasures = new Erasures({
          ...{ reader: log, forget: destroy, load: async () => 0n, save: async () => undefined },
          onTrouble: (error) => expect.fail(error.message),
        });
        await erasures.start();
        await erasures.stop();
      },
    };
  };
  const disposals = async () =>
    (await log.readAll(0n, 10_000)).filter(({ type }) => type === 'DataDisposed').map(({ data }) => data);
  return { start, open, failing, disposals, close: () => log.close().then(() => folder.remove()) };
}

it(
  'what is older than its class says can be read no more, what is newer can, each class by itself',
  TIMEOUT,
  async () => {
    const { start, disposals, close } = await world();
    const here = start();
    const classes = [
      { name: 'standard', keep: 'P90D' },
      { name: 'phi', keep: 'P6Y', tags: ['lab'] },
      { name: 'ledger' },
    ];
    expect(await here.retention.set(classes, 'the law', ada)).toMatchObject({ ok: true });
    const old = await here.request([jane], 'old', day('2026-03-04'));
    const both = await here.request([jane, joe], 'to both', day('2026-03-05'));
    const lab = await here.request([jane], 'biopsy', day('2026-03-04'), { tags: ['lab'] });
    const bill = await here.request([joe], 'bill', day('2026-03-04'), { retention: 'ledger' });
    const fresh = await here.request([jane], 'fresh', day('2026-06-08'));
    expect(await here.refusal({ retention: 'nonsense' }, day('2026-03-04'))).toEqual(['retention']);

    // The week ends on March 8th, so nothing is old enough before June 7th.
    expect(await here.retention.dispose(ada, day('2026-06-06'), false)).toMatchObject([
      { keysDestroyed: 0 },
      { keysDestroyed: 0 },
    ]);
    const now = day('2026-06-08');
    const dry = await here.retention.dispose(ada, now, true);
    expect(dry).toEqual([
      { retention: 'standard', keep: 'P90D', before: '2026-03-10', keysDestroyed: 3, keysOnHold: 0, keysInUse: 0 },
      { retention: 'phi', keep: 'P6Y', before: '2020-06-08', keysDestroyed: 0, keysOnHold: 0, keysInUse: 0 },
    ]);
    expect(await disposals()).toEqual([]);
    expect(await here.content(old)).toEqual(['old', jane]);

    expect(await here.retention.dispose(ada, now, false)).toEqual(dry);
    // Two at a time here, so that there are two batches.
    const week = { firstWeek: '2026-03-08', lastWeek: '2026-03-08', organizationId: 'clinic', by: 'ada' };
    expect(await disposals()).toMatchObject([
      { retention: 'standard', keep: 'P90D', ...week, keys: [expect.any(String), expect.any(String)] },
      { retention: 'standard', keep: 'P90D', ...week, keys: [expect.any(String)] },
    ]);
    for (const process of [here, start()]) {
      expect(await process.content(old)).toEqual(['[erased]', '[erased]']);
      expect(await process.content(both)).toEqual(['[erased]', '[erased]', '[erased]']);
      expect(await process.content(lab)).toEqual(['biopsy', jane]);
      expect(await process.content(bill)).toEqual(['bill', joe]);
      expect(await process.content(fresh)).toEqual(['fresh', jane]);
    }
    // Nothing is left to do; six years later the rest is.
    expect(await here.retention.dispose(ada, now, false)).toMatchObject([{ keysDestroyed: 0 }, { keysDestroyed: 0 }]);
    expect(await here.retention.disposeAll(day('2032-06-09'))).toMatchObject([
      { organizationId: 'clinic', disposed: [{ keysDestroyed: 1 }, { retention: 'phi', keysDestroyed: 1 }] },
    ]);
    expect(await start().content(lab)).toEqual(['[erased]', '[erased]']);
    expect(await start().content(bill)).toEqual(['bill', joe]);
    await close();
  },
);

it('a legal hold and a delivery that has not ended keep what they need, as long as they last', TIMEOUT, async () => {
  const { start, open, close } = await world();
  const here = start();
  const janes = await here.request([jane], 'old', day('2025-03-04'));
  const both = await here.request([jane, joe], 'to both', day('2025-03-05'));
  const waiting = await here.request([joe], 'waits', day('2025-03-12'));
  // Set later than all of it was requested: it counts all the same.
  await here.retention.set([{ name: 'standard', keep: 'P90D' }], 'the law', ada);
  await here.hold('PlaceLegalHold', jane);
  open.push(waiting);
  const now = day('2026-01-01');
  expect(await here.retention.dispose(ada, now, false)).toMatchObject([
    { keysDestroyed: 1, keysOnHold: 2, keysInUse: 1 },
  ]);
  expect(await start().content(janes)).toEqual(['old', jane]);
  // What was said to both is hers too; where it went to him is not.
  expect(await start().content(both)).toEqual(['to both', jane, '[erased]']);
  expect(await start().content(waiting)).toEqual(['waits', joe]);
  await here.hold('ReleaseLegalHold', jane);
  open.pop();
  expect(await here.retention.dispose(ada, now, false)).toMatchObject([
    { keysDestroyed: 3, keysOnHold: 0, keysInUse: 0 },
  ]);
  for (const id of [janes, both, waiting])
    expect(JSON.stringify(await start().content(id))).not.toMatch(/example|old|both|waits/);
  await close();
});

it(
  'cut off between the record and the keys, what was recorded is destroyed at the next start, the rest by the next run',
  TIMEOUT,
  async () => {
    const { start, failing, disposals, close } = await world();
    const here = start();
    const ids: string[] = [];
    for (const name of ['a', 'b', 'c']) ids.push(await here.request([`${name}@example.com`], name, day('2025-03-04')));
    await here.retention.set([{ name: 'standard', keep: 'P1Y' }], 'the law', ada);
    failing.destroy = 1;
    await expect(here.retention.dispose(ada, day('2026-06-08'), false)).rejects.toThrow('the power is gone');
    expect(await disposals()).toHaveLength(1);

    const later = start();
    await later.follow();
    const read = async () =>
      (await Promise.all(ids.map((id) => later.content(id)))).filter(([text]) => text !== '[erased]');
    expect(await read()).toHaveLength(1);
    expect(await later.retention.dispose(ada, day('2026-06-08'), false)).toMatchObject([{ keysDestroyed: 1 }]);
    expect(await read()).toHaveLength(0);
    expect((await disposals()).flatMap(({ keys }) => keys)).toHaveLength(3);
    await close();
  },
);
