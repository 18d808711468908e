import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it, test } from 'vitest';
import type { Audit } from '../../../src/audit/audit.js';
import { leafOf } from '../../../src/audit/entry.js';
import { leafHash, nodeHash, rootOf } from '../../../src/audit/merkle.js';
import { storedSubtrees } from '../../../src/audit/store.js';
import { AuditWorld } from './world.js';

const TABLES = ['audit_trees', 'audit_entries', 'audit_nodes', 'audit_checkpoints', 'audit_keys'];
const ENTRIES = 3 * 256 + 60;

let world: AuditWorld;
/** Who knows only what is in the database and in the log, and who also has what was published. */
let auditor: Audit;
let witness: Audit;

beforeAll(async () => {
  world = await AuditWorld.create();
  await world.record(41);
  const instance = world.start({ isPublished: true, checkpointEntries: 10_000 });
  // Several checkpoints, at sizes that nothing else is made of.
  for (const count of [259, 200, ENTRIES - 500, 0]) {
    await instance.audit.makeCheckpoint();
    if (count > 0) await world.record(count);
  }
  await instance.stop();
  expect(world.problems).toEqual([]);
  auditor = world.auditor();
  witness = world.auditor('published');
  for (const table of TABLES) await world.sql.query(`create table kept_${table} as table ${table}`);
}, 90_000);

afterAll(() => world.close());

beforeEach(async () => {
  await world.sql.query(`truncate ${TABLES.join(', ')}`);
  for (const table of TABLES) await world.sql.query(`insert into ${table} table kept_${table}`);
});

const change = (statement: string) => world.sql.query(statement);
/** SQL: the same bytes with one bit flipped. */
const flipped = (column: string, bit: number) =>
  `set ${column} = set_bit(${column}, ${bit}, 1 - get_bit(${column}, ${bit}))`;

it('an untouched trail is right, to the last entry', async () => {
  expect(await auditor.verify()).toEqual({ ok: true, entries: ENTRIES, firstBadIndex: null, problem: null });
});

it('its root is the one of the events in the log', async () => {
  const events = await world.log.readAll(0n, ENTRIES + 1);
  const leaves = events.map((event) => leafHash(leafOf(event)));
  expect(leaves).toHaveLength(ENTRIES);
  const made = await rootOf(ENTRIES, storedSubtrees(world.sql, world.logId));
  const plain = async (level: number, index: number): Promise<Buffer> =>
    level === 0
      ? (leaves[index] as Buffer)
      : nodeHash(await plain(level - 1, 2 * index), await plain(level - 1, 2 * index + 1));
  expect(made).toEqual(await rootOf(ENTRIES, plain));
  expect((await auditor.checkpoint()).root).toEqual(made);
});

describe('the first bad entry is named', () => {
  test.each([
    ['a row is deleted', 'delete from audit_entries where row_number = 1', 256],
    ['the last row is deleted', 'delete from audit_entries where row_number = 3', 768],
    [
      'a row is inserted',
      `insert into audit_entries select log, 4, positions, hashes, chain, keys, first_at, last_at from audit_entries where row_number = 2`,
      ENTRIES,
    ],
    [
      'two rows have changed places',
      'update audit_entries set row_number = case row_number when 1 then 12 else 11 end where row_number in (1, 2); update audit_entries set row_number = row_number - 10 where row_number > 10',
      256,
    ],
    [
      'two entries of a row have changed places',
      `update audit_entries set hashes = overlay(overlay(hashes placing substr(hashes, 1 + 32 * 7, 32) from 1 + 32 * 5) placing substr(hashes, 1 + 32 * 5, 32) from 1 + 32 * 7) where row_number = 2`,
      512 + 5,
    ],
    [
      'one entry is taken out of a row',
      `update audit_entries set hashes = substr(hashes, 1, 32 * 9) || substr(hashes, 1 + 32 * 10) where row_number = 1`,
      256 + 9,
    ],
    [
      'an entry is added at the end',
      `update audit_entries set hashes = hashes || substr(hashes, 1, 32), positions = positions || '\\x0000000000000fff' where row_number = 3`,
      ENTRIES,
    ],
    [
      'one bit of a hash has changed',
      `update audit_entries ${flipped('hashes', 8 * 32 * 77 + 3)} where row_number = 1`,
      256 + 77,
    ],
    [
      'one bit of a position has changed',
      `update audit_entries ${flipped('positions', 8 * 8 * 30)} where row_number = 0`,
      30,
    ],
    ['one bit of the chain has changed', `update audit_entries ${flipped('chain', 9)} where row_number = 2`, 767],
    ['one search key has changed', `update audit_entries set keys = array['a:eve', 'o:a'] where row_number = 1`, 256],
    [
      'the time of a row has changed',
      `update audit_entries set first_at = first_at - interval '1 hour' where row_number = 1`,
      256,
    ],
    ['one bit of a node has changed', `update audit_nodes ${flipped('hashes', 8 * 32 + 1)} where level = 1`, 256],
    ['a row of nodes is deleted', 'delete from audit_nodes', 0],
    ['a node is added', 'update audit_nodes set hashes = hashes || substr(hashes, 1, 32)', ENTRIES],
    [
      'the tail is cut, also in the head',
      'update audit_trees set size = 512; delete from audit_entries where row_number > 1',
      512,
    ],
    ['the head says that there are fewer', 'update audit_trees set size = size - 1', ENTRIES - 1],
    ['the head says that there are more', 'update audit_trees set size = size + 1', ENTRIES],
    ['the head has another position', 'update audit_trees set position = position - 1', ENTRIES - 1],
    ['one bit of the chain of the head has changed', `update audit_trees ${flipped('chain', 100)}`, ENTRIES - 1],
  ])('%s', async (_, statement, index) => {
    await change(statement);
    const { ok, firstBadIndex, problem } = await auditor.verify();
    expect({ ok, firstBadIndex, problem }).toEqual({ ok: false, firstBadIndex: index, problem: expect.any(String) });
  });

  it('a checkpoint is deleted: the next one knows of it', async () => {
    await change('delete from audit_checkpoints where size = 300');
    expect(await auditor.verify()).toMatchObject({
      ok: false,
      firstBadIndex: 41,
      problem: expect.stringContaining('missing'),
    });
  });

  it('any character of a checkpoint or a key', async () => {
    const { rows } = await world.sql.query<{ note: string }>('select note from audit_checkpoints where size = 300');
    const note = rows[0]?.note as string;
    for (let at = 3; at < note.length; at += 53) {
      const changed = note.slice(0, at) + (note[at] === 'x' ? 'y' : 'x') + note.slice(at + 1);
      await world.sql.query('update audit_checkpoints set note = $1 where size = 300', [changed]);
      expect(await auditor.verify(), changed).toMatchObject({ ok: false, firstBadIndex: 41 });
    }
    await world.sql.query('update audit_checkpoints set note = $1 where size = 300', [note]);
    await change(
      `update audit_keys set verifier = regexp_replace(verifier, '.$', case right(verifier, 1) when 'x' then 'y' else 'x' end)`,
    );
    expect(await auditor.verify()).toMatchObject({ ok: false, firstBadIndex: 0 });
  });
});

it('any bit of what is stored of any entry, wherever it is', { timeout: 120_000 }, async () => {
  const columns = [
    ['audit_entries', 'hashes'],
    ['audit_entries', 'positions'],
    ['audit_entries', 'chain'],
    ['audit_nodes', 'hashes'],
    ['audit_trees', 'chain'],
  ] as const;
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...columns), fc.nat(), fc.nat(), async ([table, column], row, bit) => {
      const [found] = (
        await world.sql.query(
          `select ctid, octet_length(${column}) * 8 as bits from ${table}
          order by ctid offset $1 % (select count(*)::integer from ${table}) limit 1`,
          [row],
        )
      ).rows;
      const flip = `update ${table} ${flipped(column, bit % found.bits)} where ctid = '${found.ctid}' returning ctid`;
      const [now] = (await world.sql.query(flip)).rows;
      expect(await auditor.verify(), `${table}.${column}, bit ${bit % found.bits}`).toMatchObject({
        ok: false,
        firstBadIndex: expect.any(Number),
      });
      await world.sql.query(`update ${table} ${flipped(column, bit % found.bits)} where ctid = '${now.ctid}'`);
    }),
    { numRuns: 40 },
  );
  expect(await auditor.verify()).toMatchObject({ ok: true });
});

it('any column of any table of the trail', { timeout: 180_000 }, async () => {
  const { rows: columns } = await world.sql.query<{ table: string; column: string; type: string }>(
    `select table_name as table, column_name as column, udt_name as type from information_schema.columns
     where table_schema = 'public' and table_name like 'audit\\_%' order by 1, ordinal_position`,
  );
  // Who writes the trail now is no part of it.
  const evidence = columns.filter(({ table }) => table !== 'audit_writer');
  expect([...new Set(evidence.map(({ table }) => table))].sort()).toEqual([...TABLES].sort());
  const changes: Record<string, (column: string) => string> = {
    bytea: (column) => `set_bit(${column}, 5, 1 - get_bit(${column}, 5))`,
    int8: (column) => `${column} + 1000`,
    int2: (column) => `${column} + 1`,
    uuid: () => 'gen_random_uuid()',
    text: (column) => `overlay(${column} placing case substr(${column}, 30, 1) when 'x' then 'y' else 'x' end from 30)`,
    _text: (column) => `${column} || 'a:mallory'::text`,
    timestamptz: (column) => `${column} + interval '1 millisecond'`,
  };
  for (const { table, column, type } of evidence) {
    const change = changes[type];
    if (!change) throw new Error(`${table}.${column} is of type ${type}`);
    const { rowCount } = await world.sql.query(
      `update ${table} set ${column} = ${change(column)} where ctid = (select ctid from ${table} order by ctid limit 1)`,
    );
    expect(rowCount).toBe(1);
    expect(await auditor.verify(), `${table}.${column}`).toMatchObject({
      ok: false,
      firstBadIndex: expect.any(Number),
    });
    await world.sql.query(`truncate ${table}`);
    await world.sql.query(`insert into ${table} table kept_${table}`);
  }
  expect(await auditor.verify()).toMatchObject({ ok: true });
});

describe('who can change the whole database, and knows how,', () => {
  const CUT = `
    delete from audit_checkpoints where size > 300;
    delete from audit_entries where row_number > 1;
    update audit_entries set hashes = substr(hashes, 1, 32 * 44), positions = substr(positions, 1, 8 * 44), keys = keys,
      chain = (select decode(substring(note from 'chain (\\S+)'), 'base64') from audit_checkpoints where size = 300)
      where row_number = 1;
    update audit_nodes set hashes = substr(hashes, 1, 32);
    update audit_trees set size = 300, position = 300,
      chain = (select decode(substring(note from 'chain (\\S+)'), 'base64') from audit_checkpoints where size = 300)`;

  it('is found by what was published elsewhere', async () => {
    await change(CUT);
    await world.sql.query('update audit_entries set last_at = $1 where row_number = 1', [
      (await world.log.readAll(299n, 1))[0]?.created,
    ]);
    expect(await auditor.verify()).toMatchObject({ ok: true, entries: 300 });
    expect(await witness.verify()).toMatchObject({ ok: false, firstBadIndex: 300 });
  });

  it('has hidden nothing: the log makes the same trail again', async () => {
    const before = await auditor.checkpoint();
    await change(`truncate ${TABLES.join(', ')}`);
    expect(await witness.verify()).toMatchObject({ ok: false, firstBadIndex: 0 });
    const again = world.start();
    expect((await again.audit.makeCheckpoint()).root).toEqual(before.root);
    await again.stop();
    expect(await witness.verify()).toMatchObject({ ok: true, entries: ENTRIES });
  });
});
