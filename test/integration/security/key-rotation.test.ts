import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { openKeyRing } from '../../../src/app/key-ring.js';
import { loadConfig } from '../../../src/platform/config.js';
import { openDatabase } from '../../../src/platform/database.js';
import { DataKeys } from '../../../src/security/data-keys.js';
import { KeyEncryption } from '../../../src/security/key-encryption.js';
import { keysByVersion, type RotatableKeyRing, rotate } from '../../../src/security/key-rotation.js';
import { KeyTable } from '../../../src/security/key-table.js';
import { type TestDatabase, testDatabase } from '../../support/postgres.js';

let database: TestDatabase;
let pool: pg.Pool;
let table: KeyTable;
let dataDir: string;
const TIMEOUT = { timeout: 120_000 };

beforeAll(async () => {
  database = await testDatabase();
  await (await openDatabase({ connection: { connectionString: database.url }, entities: [] })).destroy();
  pool = new pg.Pool({ connectionString: database.url });
  table = new KeyTable(pool);
}, 180_000);
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'waybill-rotation-'));
  await pool.query('truncate waybill_keys.data_keys, waybill_keys.installation');
});
afterEach(async () => {
  await rm(dataDir, { recursive: true, force: true });
});
afterAll(async () => {
  await pool.end();
  await database.close();
});

const open = (isNew = false) => openKeyRing(loadConfig({ WAYBILL_DATA: dataDir }, { cwd: '/' }), table, isNew);
const versionsOnDisk = async (): Promise<number[]> =>
  JSON.parse(await readFile(join(dataDir, 'keys.json'), 'utf8')).keys.map(
    ({ version }: { version: number }) => version,
  );

/** An installation with its secret and so many keys, all by the newest version of the ring. */
async function install(ring: RotatableKeyRing, count: number): Promise<ReadonlyMap<string, Buffer>> {
  const secret = ring.encryption.wrap('installation', randomBytes(32));
  await table.install({ id: '00000000-0000-4000-8000-000000000000', acceptsMissing: false, ...secret });
  const keys = new Map(Array.from({ length: count }, (_, at) => [`key-${at}`, randomBytes(32)]));
  const rows = [...keys].map(([id, key]) => ({
    id,
    subject: `person:${id}`,
    organizationId: 'a',
    ...ring.encryption.wrap(id, key),
  }));
  await table.add(rows);
  return keys;
}

async function opened(ring: RotatableKeyRing): Promise<ReadonlyMap<string, Buffer>> {
  const { rows } = await pool.query(
    'select id, key_version as version, wrapped from waybill_keys.data_keys order by id',
  );
  return new Map(rows.map(({ id, version, wrapped }) => [id, ring.encryption.unwrap(id, { version, wrapped })]));
}

/** Dies after so many keys, as a process does: what is committed is, and nothing more is done. */
function dyingAfter(ring: RotatableKeyRing, keys: number): RotatableKeyRing {
  let left = keys;
  return {
    versions: () => ring.versions(),
    extend: () => ring.extend(),
    reload: () => ring.reload(),
    retire: (isNeeded) => ring.retire(isNeeded),
    get encryption() {
      const { encryption } = ring;
      return Object.assign(Object.create(KeyEncryption.prototype), {
        current: encryption.current,
        unwrap: encryption.unwrap.bind(encryption),
        wrap: (name: string, key: Buffer) => {
          if (left-- === 0) throw new Error('the power is gone');
          return encryption.wrap(name, key);
        },
      });
    },
  };
}

it('a rotation that was broken off loses nothing, and the next one finishes it', TIMEOUT, async () => {
  const ring = await open(true);
  const keys = await install(ring, 2_500);
  await expect(rotate(pool, dyingAfter(ring, 1_600))).rejects.toThrow('the power is gone');
  expect(Object.fromEntries(await keysByVersion(pool))).toEqual({ 1: 1_500, 2: 1_000 });
  expect(await versionsOnDisk()).toEqual([1, 2]);

  const later = await open();
  expect(await opened(later)).toEqual(new Map([...keys].sort()));
  expect(await rotate(pool, later)).toEqual({ version: 2, rewrapped: 1_500, versions: [1, 2] });
  expect(await rotate(pool, later)).toEqual({ version: 3, rewrapped: 2_500, versions: [2, 3] });
  expect(await opened(await open())).toEqual(new Map([...keys].sort()));
});

it('who has not seen a rotation adds nothing that the old version wraps', TIMEOUT, async () => {
  const ring = await open(true);
  await install(ring, 1);
  const running = new DataKeys(table, await open());
  await rotate(pool, ring);
  await running.prepare([{ subject: 'person:new', organizationId: 'a' }]);
  expect(Object.fromEntries(await keysByVersion(pool))).toEqual({ 2: 2 });
  expect(await rotate(pool, ring)).toEqual({ version: 3, rewrapped: 2, versions: [2, 3] });
  expect((await opened(ring)).size).toBe(2);
});

it('one rotation at a time; a key that is being destroyed meanwhile stays destroyed', TIMEOUT, async () => {
  const ring = await open(true);
  await install(ring, 20);
  const erasing = await pool.connect();
  await erasing.query('begin');
  await erasing.query("update waybill_keys.data_keys set wrapped = null, destroyed_at = now() where id = 'key-7'");
  const first = rotate(pool, ring);
  await expect.poll(() => keysByVersion(pool).then((all) => all.get(2)), { timeout: 30_000 }).toBe(19);
  await expect(rotate(pool, await open())).rejects.toThrow('is being rotated already');
  await erasing.query('commit');
  erasing.release();
  expect(await first).toMatchObject({ version: 2, rewrapped: 19 });
  expect((await pool.query("select wrapped from waybill_keys.data_keys where id = 'key-7'")).rows).toEqual([
    { wrapped: null },
  ]);
});
