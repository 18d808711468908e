import { hkdfSync, randomBytes, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Pool } from 'pg';
import type { EventStore } from '../event-store/event-store.js';
import type { Config } from '../platform/config.js';
import { RESTORED_KEYS } from '../platform/data-directory.js';
import { DestroyedKeysFile } from '../platform/destroyed-keys-file.js';
import { DataKeys, type KeyRing } from '../security/data-keys.js';
import { importKeys } from '../security/key-backup.js';
import { KEY_BYTES, WrongKeyRing } from '../security/key-encryption.js';
import { INSTALLATION_SECRET } from '../security/key-rotation.js';
import { type Installation, KeyTable } from '../security/key-table.js';
import { Subjects } from '../security/subjects.js';
import { openKeyRing } from './key-ring.js';

/** Everything that personal data is sealed and opened with. */
export interface Keys {
  readonly dataKeys: DataKeys;
  readonly subjects: Subjects;
  readonly table: KeyTable;
  /** 32 bytes for one purpose, the same on every instance and after every start (HKDF, RFC 5869). */
  readonly derived: (purpose: string) => Buffer;
  /** Destroys keys here, in the database, and for the case that both log and database are restored from old backups. */
  readonly destroy: (ids: readonly string[], subject: string, organizationId: string) => Promise<void>;
}

/** Each log says which keys it was written with: an event for each time that they were made anew. */
const STREAM = 'waybill-keys';
const MOST_AT_ONCE = 10_000;

/**
 * Opens the keys of this installation, or makes them at its first start.
 *
 * @throws Error, one line for the operator: the key ring is missing or another one, or the keys in the database are not
 *   those of the event log
 */
export async function openKeys(config: Config, pool: Pool, store: EventStore): Promise<Keys> {
  const table = new KeyTable(pool);
  await restoreKeys(pool, join(config.dataDir, RESTORED_KEYS));
  const known = await table.installation();
  const logged = (await store.readStream(STREAM)).map(({ id }) => id);
  if (!known && logged.length > 0 && !config.acceptLostKeys) throw new Error(KEYS_ARE_MISSING);
  if (known && logged.length > 0 && !logged.includes(known.id))
    throw new Error('the database has the keys of another Waybill, not those that this event log was written with');

  const ring = await openKeyRing(config, table, known === undefined);
  const installation = known ?? (await install(table, ring, logged.length > 0));
  const secret = unwrapSecret(ring, installation);
  const lacking = (await table.versionsInUse()).filter((version) => !ring.encryption.has(version));
  if (lacking.length > 0)
    throw new Error(
      `the key ring lacks version ${lacking.join(', ')}, which keys in the database are wrapped with: put back a copy of ` +
        'the ring that has it',
    );
  if (!logged.includes(installation.id)) await note(store, installation.id, logged.length);
  const { acceptsMissing } = installation;
  const dataKeys = new DataKeys(table, ring, { acceptsMissing });
  const gone = new DestroyedKeysFile(join(config.dataDir, 'destroyed-keys'));
  const ids = await gone.read();
  for (let at = 0; at < ids.length; at += MOST_AT_ONCE) await table.destroy(ids.slice(at, at + MOST_AT_ONCE), '', '');
  return {
    dataKeys,
    subjects: new Subjects(secret),
    table,
    derived: (purpose) => Buffer.from(hkdfSync('sha256', secret, '', purpose, KEY_BYTES)),
    async destroy(keys, subject, organizationId) {
      dataKeys.forget(keys);
      await gone.add(keys);
      await table.destroy(keys, subject, organizationId);
    },
  };
}

/** What `waybill log restore` has put there. */
async function restoreKeys(pool: Pool, file: string): Promise<void> {
  if (!existsSync(file)) return;
  await importKeys(pool, file);
  await rm(file);
}

const KEYS_ARE_MISSING =
  'the event log holds personal data that was sealed with keys, and the database has none of them: restore the schema ' +
  'waybill_keys from a backup, or set WAYBILL_ACCEPT_LOST_KEYS=true to go on without that data for ever, and with an empty ' +
  'suppression list';

async function install(table: KeyTable, { encryption }: KeyRing, acceptsMissing: boolean): Promise<Installation> {
  const { version, wrapped } = encryption.wrap(INSTALLATION_SECRET, randomBytes(KEY_BYTES));
  await table.install({ id: randomUUID(), version, wrapped, acceptsMissing });
  return (await table.installation()) as Installation;
}

function unwrapSecret({ encryption }: KeyRing, installation: Installation): Buffer {
  try {
    return encryption.unwrap(INSTALLATION_SECRET, installation);
  } catch (error) {
    if (!(error instanceof WrongKeyRing)) throw error;
    throw new Error(`the key ring is not the one that the keys in the database are wrapped with: ${error.message}`, {
      cause: error,
    });
  }
}

/** Of several instances that start at once one writes it; the others find it there. */
async function note(store: EventStore, id: string, revision: number): Promise<void> {
  const metadata = { schemaVersion: '1', occurredAt: new Date().toISOString() };
  const expected = revision === 0 ? 'no-stream' : revision - 1;
  await store.append(STREAM, expected, [{ id, type: 'KeysIdentified', data: {}, metadata }]);
}
