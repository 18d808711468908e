import { setTimeout as delay } from 'node:timers/promises';
import type { Pool, PoolClient } from 'pg';
import type { KeyRing } from './data-keys.js';
import type { KeyEncryption } from './key-encryption.js';

/** A key ring that can get a new version. */
export interface RotatableKeyRing extends KeyRing {
  /** Version and time of each key, the oldest first. */
  versions(): readonly { readonly version: number; readonly created: string }[];
  /** Adds a version, which wraps from now on. @throws Error, one line, where that cannot be done from here */
  extend(): Promise<void>;
  /** Forgets versions that protect nothing any more. */
  retire(isNeeded: (version: number) => boolean): Promise<void>;
}

export interface Rotation {
  readonly version: number;
  readonly rewrapped: number;
  /** What the ring has now. */
  readonly versions: readonly number[];
}

/** Its own secret is wrapped under this name. */
export const INSTALLATION_SECRET = 'installation';
/** Rows of one transaction: short enough that nobody who wants a key waits for it. */
const PAGE = 1_000;
/** Rows that somebody else holds are looked at again after so long. */
const HELD_MS = 50;
/** One rotation at a time: two that made the same version of a ring would wrap with different keys. */
const LOCK = `hashtextextended('waybill keys rotate', 0)`;

interface Row {
  readonly id: string;
  readonly version: number;
  readonly wrapped: Buffer;
}

/**
 * Makes a new version of the ring and wraps everything with it. The keys themselves stay what they are, so no event is
 * touched, and a Waybill that runs meanwhile notices nothing. One that was broken off, or whose new version is in the ring
 * already, is finished instead: nothing is forgotten from the ring before it protects nothing, and the version before
 * stays for one more rotation.
 *
 * @param pool two connections or more
 * @throws Error, one line: another rotation is under way, or the ring cannot be extended from here
 */
export async function rotate(pool: Pool, ring: RotatableKeyRing): Promise<Rotation> {
  const client = await pool.connect();
  try {
    const { rows } = await client.query<{ got: boolean }>(`select pg_try_advisory_lock(${LOCK}) as got`);
    if (!rows[0]?.got) throw new Error('the key ring is being rotated already');
    try {
      await ring.reload();
      if (!(await isBehind(client, ring.encryption.current))) await ring.extend();
      const { current } = ring.encryption;
      const rewrapped = await rewrapAll(pool, ring.encryption);
      const used = await keysByVersion(pool);
      await ring.retire((version) => version >= current - 1 || used.has(version));
      return { version: current, rewrapped, versions: ring.versions().map(({ version }) => version) };
    } finally {
      await client.query(`select pg_advisory_unlock(${LOCK})`);
    }
  } finally {
    client.release();
  }
}

/** How many living keys each version of the key ring protects. */
export async function keysByVersion(pool: Pool): Promise<ReadonlyMap<number, number>> {
  const { rows } = await pool.query<{ version: number; count: string }>(
    'select key_version as version, count(*) from waybill_keys.data_keys where destroyed_at is null group by 1 order by 1',
  );
  return new Map(rows.map(({ version, count }) => [version, Number(count)]));
}

export async function destroyedKeys(pool: Pool): Promise<number> {
  const { rows } = await pool.query<{ count: string }>(
    'select count(*) from waybill_keys.data_keys where destroyed_at is not null',
  );
  return Number(rows[0]?.count);
}

/** Is anything wrapped with an older version? */
async function isBehind(database: Pool | PoolClient, version: number): Promise<boolean> {
  const { rows } = await database.query<{ isBehind: boolean }>(
    `select exists (select from waybill_keys.data_keys where destroyed_at is null and key_version < $1)
         or exists (select from waybill_keys.installation where key_version < $1) as "isBehind"`,
    [version],
  );
  return rows[0]?.isBehind ?? false;
}

/** @returns how many keys it has wrapped */
async function rewrapAll(pool: Pool, encryption: KeyEncryption): Promise<number> {
  // First: from now on nobody adds a key that is wrapped with an older version (KeyTable.add).
  await inTransaction(pool, (client) => rewrapInstallation(client, encryption));
  for (let done = 0; ; ) {
    const count = await inTransaction(pool, (client) => rewrapPage(client, encryption));
    done += count;
    if (count > 0) continue;
    if (!(await isBehind(pool, encryption.current))) return done;
    await delay(HELD_MS);
  }
}

/** Rows that are being destroyed at this moment are passed over: waiting for them in another order would be a deadlock. */
async function rewrapPage(client: PoolClient, encryption: KeyEncryption): Promise<number> {
  const { rows } = await client.query<Row>(
    `select id, key_version as version, wrapped from waybill_keys.data_keys
     where destroyed_at is null and key_version < $1 order by key_version, id limit ${PAGE} for update skip locked`,
    [encryption.current],
  );
  if (rows.length === 0) return 0;
  const wrapped = rows.map((row) => encryption.wrap(row.id, encryption.unwrap(row.id, row)).wrapped);
  await client.query(
    `update waybill_keys.data_keys as k set wrapped = n.wrapped, key_version = $3
     from unnest($1::text[], $2::bytea[]) as n (id, wrapped) where k.id = n.id`,
    [rows.map(({ id }) => id), wrapped, encryption.current],
  );
  return rows.length;
}

async function rewrapInstallation(client: PoolClient, encryption: KeyEncryption): Promise<void> {
  const { rows } = await client.query<Row>(
    `select '${INSTALLATION_SECRET}' as id, key_version as version, wrapped_secret as wrapped
     from waybill_keys.installation for update`,
  );
  for (const row of rows) {
    const { version, wrapped } = encryption.wrap(row.id, encryption.unwrap(row.id, row));
    await client.query('update waybill_keys.installation set key_version = $1, wrapped_secret = $2', [
      version,
      wrapped,
    ]);
  }
}

async function inTransaction<Result>(pool: Pool, work: (client: PoolClient) => Promise<Result>): Promise<Result> {
  const client = await pool.connect();
  try {
    await client.query('begin');
    const result = await work(client);
    await client.query('commit');
    return result;
  } catch (error) {
    await client.query('rollback').catch(() => undefined);
    throw error;
  } finally {
    client.release();
  }
}
