import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { DestinationDirectory } from '../../../src/commands/destination-directory.js';
import { Erasures } from '../../../src/commands/erasures.js';
import { CommandExecutor } from '../../../src/commands/executor.js';
import { subjectId, suppressionId } from '../../../src/commands/ids.js';
import { Inboxes } from '../../../src/commands/inboxes.js';
import { Intake } from '../../../src/commands/intake.js';
import { Retention } from '../../../src/commands/retention.js';
import { RetentionPolicies } from '../../../src/commands/retention-policies.js';
import { Suppressions } from '../../../src/commands/suppressions.js';
import { dataSubject } from '../../../src/domain/data-subject.js';
import { delivery } from '../../../src/domain/delivery.js';
import { inboxMessage } from '../../../src/domain/inbox.js';
import { defaultRetryPolicy } from '../../../src/domain/retry-policy.js';
import { suppression } from '../../../src/domain/suppression.js';
import type { Channel } from '../../../src/domain/vocabulary.js';
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
    const inboxes = new Inboxes(executor, subjects);
    const suppressions = new Suppressions(executor, subjects, () => undefined);
    return {
      retention,
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
      suppressions,
      keysOf: (address: string, channel: Channel = 'EMAIL') =>
        table.ofPerson(subjects.person('clinic', channel, address) as string),
      forget: destroy,
      /** A message of a delivery, in the inbox of somebody. */
      async tell(deliveryId: string, recipient: string, title: string): Promise<() => Promise<unknown>> {
        const message = { organizationId: 'clinic', deliveryId, recipient, content: { title } };
        const { id } = await inboxes.store(
          { ...message, priority: 'NORMAL', expiresAt: '2099-01-01T00:00:00Z' },
          'attempt-1',
        );
        return async () => {
          const { state } = await executor.load(inboxMessage, id);
          return state.tag === 'stored' ? state.content : state.tag;
        };
      },
      async listed(address: string) {
        const id = suppressionId('EMAIL', subjects.person('clinic', 'EMAIL', address) as string);
        const { state } = await executor.load(suppression, id);
        return state.tag === 'listed' ? [state.reason, state.address] : state.tag;
      },
      /** An attempt that a provider has accepted, and what it says of it later. */
      async sentAndBounced(id: string, between: () => Promise<unknown>) {
        const [envelope, now] = [{ organizationId: 'clinic', actor: 'ada' }, day('2026-03-05').toISOString()];
        const attempt = { leg: 1, number: 1, route: 0, channel: 'EMAIL', provider: 'smtp', startedAt: now } as const;
        const outcome = { kind: 'accepted', delivered: false } as const;
        const sent = { type: 'RecordOutcome', now, attempt, outcome, policy: defaultRetryPolicy, random: 0 } as const;
        const failure = { category: 'PERMANENT', code: 'BOUNCED', message: `no mailbox ${jane}` } as const;
        const report = {
          type: 'RecordReport',
          now,
          kind: 'Bounced',
          leg: 1,
          via: { channel: 'EMAIL' },
          failure,
        } as const;
        const more = { provider: 'smtp', reportId: 'r-1', happenedAt: now, recipient: 'r' };
        for (const command of [sent, { ...report, ...more }]) {
          const done = { id, command, envelope: { ...envelope, commandId: crypto.randomUUID() } };
          expect(await executor.execute(delivery, done)).toMatchObject({ ok: true });
          if (command === sent) await between();
        }
        return (await log.readStream(`delivery-${id}`)).at(-1);
      },
      async hold(type: 'PlaceLegalHold' | 'ReleaseLegalHold', address: string, channel: Channel = 'EMAIL') {
        const subject = subjects.person('clinic', channel, address) as string;
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

it(
  'a message in an inbox goes with the delivery it is of, unless its reader is under a legal hold',
  TIMEOUT,
  async () => {
    const { start, close } = await world();
    const here = start();
    await here.retention.set(
      [
        { name: 'standard', keep: 'P90D' },
        { name: 'phi', keep: 'P6Y' },
      ],
      'the law',
      ada,
    );
    const [old, lab] = [
      await here.request([jane], 'old', day('2026-03-04')),
      await here.request([jane], 'lab', day('2026-03-04'), { retention: 'phi' }),
    ];
    const olds = [await here.tell(old, 'user-1', 'old'), await here.tell(old, 'user-2', 'old too')];
    const phi = await here.tell(lab, 'user-1', 'biopsy');
    const newer = await here.tell(await here.request([jane], 'new', day('2026-06-08')), 'user-1', 'new');
    expect(await here.keysOf('user-1', 'IN_APP')).toHaveLength(3);
    const read = () => Promise.all([...olds, phi, newer].map((each) => each()));
    expect(await read()).toEqual([{ title: 'old' }, { title: 'old too' }, { title: 'biopsy' }, { title: 'new' }]);

    await here.hold('PlaceLegalHold', 'user-2', 'IN_APP');
    expect(await here.retention.dispose(ada, day('2026-06-08'), false)).toMatchObject([
      { keysDestroyed: 2, keysOnHold: 1 },
      { keysDestroyed: 0 },
    ]);
    expect(await read()).toEqual([{ text: '[erased]' }, { title: 'old too' }, { title: 'biopsy' }, { title: 'new' }]);

    const rest = (await here.keysOf('user-1', 'IN_APP')).map(({ id }) => id);
    await here.forget(rest, '', 'clinic');
    const erased = { text: '[erased]' };
    expect(await read()).toEqual([erased, { title: 'old too' }, erased, erased]);
    await close();
  },
);

it('the address of an entry on the suppression list goes, and the entry holds', TIMEOUT, async () => {
  const { start, close } = await world();
  const here = start();
  await here.retention.set([{ name: 'suppression', keep: 'P5Y' }], 'no longer than needed to prove it', ada);
  const optOut = { reason: 'OPT_OUT', by: 'provider:twilio', happenedAt: new Date() } as const;
  const addressee = (address: string) => ({ organizationId: 'clinic', channel: 'EMAIL' as const, address });
  for (const address of [jane, joe]) await here.suppressions.suppress(addressee(address), optOut);
  expect(await here.keysOf(jane)).toHaveLength(1);
  await here.hold('PlaceLegalHold', joe);
  const [soon, later] = [1_800, 1_850].map((days) => new Date(Date.now() + days * 86_400_000)) as [Date, Date];
  expect(await here.retention.dispose(ada, soon, false)).toMatchObject([{ keysDestroyed: 0 }]);
  expect(await here.retention.dispose(ada, later, false)).toMatchObject([{ keysDestroyed: 1, keysOnHold: 1 }]);
  const there = start();
  expect(await there.listed(jane)).toEqual(['OPT_OUT', '[erased]']);
  expect(await there.listed(joe)).toEqual(['OPT_OUT', joe]);
  // However it is written, and as long as nobody releases it.
  const among = () => there.suppressions.among('clinic', 'EMAIL', ['Jane@Example.com', joe, 'other@example.com']);
  expect([...(await among()).keys()]).toEqual(['Jane@Example.com', joe]);
  await there.forget(
    (await there.keysOf(joe)).map(({ id }) => id),
    '',
    'clinic',
  );
  expect(await start().listed(joe)).toEqual(['OPT_OUT', '[erased]']);
  expect((await among()).size).toBe(2);
  // Said again it changes nothing, and brings no address back; said anew after a release it does.
  await there.suppressions.suppress(addressee(jane), optOut);
  expect(await there.listed(jane)).toEqual(['OPT_OUT', '[erased]']);
  await there.suppressions.release(addressee(jane), 'ada');
  expect([...(await among()).keys()]).toEqual([joe]);
  await there.suppressions.suppress(addressee(jane), { ...optOut, happenedAt: new Date(Date.now() + 1_000) });
  expect(await there.listed(jane)).toEqual(['OPT_OUT', jane]);
  await close();
});

it('what a provider says after the content is gone leaves no trace of whom it is about', TIMEOUT, async () => {
  const { start, close } = await world();
  const here = start();
  const id = await here.request([jane], 'hello', day('2026-03-04'));
  const last = await here.sentAndBounced(id, async () => {
    await here.forget(
      (await here.keysOf(jane)).map((key) => key.id),
      '',
      'clinic',
    );
  });
  expect(last).toMatchObject({ type: expect.stringMatching(/Bounced|LegDeadLettered/) });
  expect(last?.data).toMatchObject({ failure: { code: 'BOUNCED', message: '[erased]' } });
  expect(last?.data.sealed).toBeUndefined();
  expect(await here.keysOf(jane)).toEqual([]);
  await close();
});
