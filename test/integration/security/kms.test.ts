import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { openKeyRing } from '../../../src/app/key-ring.js';
import { loadConfig } from '../../../src/platform/config.js';
import { openDatabase } from '../../../src/platform/database.js';
import { KeyTable } from '../../../src/security/key-table.js';
import { Kms } from '../../../src/security/kms.js';
import { startHttpPeer } from '../../support/peers/http-peer.js';
import { KMS_KEY, type KmsRecorder, startKmsRecorder } from '../../support/peers/kms-recorder.js';
import { type TestDatabase, testDatabase } from '../../support/postgres.js';

let database: TestDatabase;
let pool: pg.Pool;
let kms: KmsRecorder;
let table: KeyTable;

beforeAll(async () => {
  [database, kms] = await Promise.all([testDatabase(), startKmsRecorder()]);
  await (await openDatabase({ connection: { connectionString: database.url }, entities: [] })).destroy();
  pool = new pg.Pool({ connectionString: database.url });
  table = new KeyTable(pool);
  process.env.AWS_ACCESS_KEY_ID = 'AKIDEXAMPLE';
  process.env.AWS_SECRET_ACCESS_KEY = randomBytes(20).toString('hex');
});
afterEach(async () => {
  kms.failure = undefined;
  kms.actions.length = 0;
  await pool.query('truncate waybill_keys.key_encryption_keys');
});
afterAll(async () => {
  await pool.end();
  await Promise.all([database.close(), kms.close()]);
});

const settings = () => ({ keyId: KMS_KEY, region: 'eu-central-1', endpoint: kms.url });
const open = (isNew = false) => openKeyRing({ ...loadConfig({}, { cwd: '/nowhere' }), kms: settings() }, table, isNew);
const key = randomBytes(32);

it('KMS makes the key that wraps all others, and opens it at each start; no other key goes there', async () => {
  const first = await open(true);
  const wrapped = first.encryption.wrap('k1', key);
  expect((await pool.query('select kms_key from waybill_keys.key_encryption_keys')).rows).toEqual([
    { kms_key: KMS_KEY },
  ]);
  const later = await open();
  expect(later.encryption.unwrap('k1', wrapped)).toEqual(key);
  expect(kms.actions).toEqual(['GenerateDataKey', 'Decrypt', 'Decrypt']);
});

it('a rotation makes another one, which a running instance finds by reading again', async () => {
  const running = await open(true);
  const old = running.encryption.wrap('k1', key);
  const rotating = await open();
  await rotating.extend();
  const wrapped = rotating.encryption.wrap('k1', key);
  expect(wrapped.version).toBe(2);
  expect(running.encryption.has(2)).toBe(false);
  await running.reload();
  expect([running.encryption.unwrap('k1', wrapped), running.encryption.unwrap('k1', old)]).toEqual([key, key]);
  await rotating.retire((version) => version === 2);
  expect(rotating.versions()).toMatchObject([{ version: 2, created: expect.stringMatching(/Z$/) }]);
});

it('a refusal is told in one line, with KMS’s own words, and so is a key of another KMS key or database', async () => {
  await open(true);
  kms.failure = { status: 400, type: 'AccessDeniedException', message: 'no kms:Decrypt for you' };
  await expect(open()).rejects.toThrow('AWS KMS: AccessDeniedException: no kms:Decrypt for you');
  kms.failure = undefined;
  await pool.query('update waybill_keys.key_encryption_keys set wrapped = $1', [randomBytes(60)]);
  await expect(open()).rejects.toThrow('AWS KMS: InvalidCiphertextException');
  await pool.query('truncate waybill_keys.key_encryption_keys');
  await expect(open()).rejects.toThrow('kms: the keys in the database are not wrapped by KMS');
});

it('one that says nothing is given up', async () => {
  const silent = await startHttpPeer(() => 'silence');
  const asked = new Kms({ ...settings(), endpoint: silent.origin }, 200);
  await expect(asked.generate()).rejects.toThrow('AWS KMS: TimeoutError');
  await expect(asked.open(randomBytes(60))).rejects.toThrow('AWS KMS: TimeoutError');
  asked.close();
  await silent.close();
});
