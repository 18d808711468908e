import type { Pool } from 'pg';
import type { WrappedKey } from './key-encryption.js';

/** A row of `waybill_keys.data_keys`; `wrapped` is null once it was destroyed. */
export interface KeyRow {
  readonly id: string;
  readonly subject: string;
  readonly version: number;
  readonly wrapped: Buffer | null;
}

export interface NewKeyRow extends WrappedKey {
  readonly id: string;
  readonly subject: string;
  readonly organizationId: string;
  readonly members?: readonly string[];
}

export interface KeptKeyRow {
  readonly id: string;
  readonly subject: string;
  readonly members: readonly string[];
  readonly week: string;
}

export interface Installation extends WrappedKey {
  readonly id: string;
  /** Keys that are not there count as destroyed: they were lost, and an operator has accepted it. */
  readonly acceptsMissing: boolean;
}

const ROW = 'id, subject, key_version as version, wrapped';

/** The wrapped keys in Postgres. */
export class KeyTable {
  readonly #pool: Pool;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  async installation(): Promise<Installation | undefined> {
    const { rows } = await this.#pool.query<Installation>(
      `select id, key_version as version, wrapped_secret as wrapped, accepts_missing as "acceptsMissing"
       from waybill_keys.installation`,
    );
    return rows[0];
  }

  /** Of several that begin at once, the first one's counts. */
  async install({ id, version, wrapped, acceptsMissing }: Installation): Promise<void> {
    await this.#pool.query(
      `insert into waybill_keys.installation (id, key_version, wrapped_secret, accepts_missing)
       values ($1, $2, $3, $4) on conflict do nothing`,
      [id, version, wrapped, acceptsMissing],
    );
  }

  /** What KMS has wrapped, by version. */
  async keyEncryptionKeys(): Promise<
    { readonly version: number; readonly created: string; readonly wrapped: Buffer }[]
  > {
    const { rows } = await this.#pool.query<{ version: number; created: Date; wrapped: Buffer }>(
      'select version, created_at as created, wrapped from waybill_keys.key_encryption_keys order by version',
    );
    return rows.map(({ version, created, wrapped }) => ({ version, created: created.toISOString(), wrapped }));
  }

  /** Of several at once the first one counts. */
  async addKeyEncryptionKey(version: number, kmsKey: string, wrapped: Buffer): Promise<void> {
    await this.#pool.query(
      `insert into waybill_keys.key_encryption_keys (version, kms_key, wrapped) values ($1, $2, $3)
       on conflict do nothing`,
      [version, kmsKey, wrapped],
    );
  }

  async dropKeyEncryptionKeys(versions: readonly number[]): Promise<void> {
    await this.#pool.query('delete from waybill_keys.key_encryption_keys where version = any($1)', [versions]);
  }

  /** The versions of the key ring that are needed; each is found in the index without counting. */
  async versionsInUse(): Promise<readonly number[]> {
    const { rows } = await this.#pool.query<{ version: number }>(
      `select version from generate_series(1, (select max(key_version) from waybill_keys.data_keys where destroyed_at is null)) as version
       where exists (select from waybill_keys.data_keys where key_version = version and destroyed_at is null)`,
    );
    return rows.map(({ version }) => version);
  }

  /** The living keys of a person, of the groups it is in too. */
  async ofPerson(subject: string): Promise<{ readonly id: string; readonly createdAt: string }[]> {
    const { rows } = await this.#pool.query<{ id: string; createdAt: Date }>(
      `select id, created_at as "createdAt" from waybill_keys.data_keys
       where destroyed_at is null and (subject = $1 or members @> array[$1]) order by created_at, id`,
      [subject],
    );
    return rows.map(({ id, createdAt }) => ({ id, createdAt: createdAt.toISOString() }));
  }

  /** Organizations that have living keys of deliveries. */
  async organizationsKept(): Promise<readonly string[]> {
    const { rows } = await this.#pool.query<{ organizationId: string }>(
      `select distinct organization_id as "organizationId" from waybill_keys.data_keys
       where destroyed_at is null and subject like 'kept:%' order by 1`,
    );
    return rows.map(({ organizationId }) => organizationId);
  }

  /** Living keys of deliveries of one class, of weeks that ended before a day, the oldest first; see `keptSubject`. */
  async keptBefore(
    { organizationId, retention, before }: { organizationId: string; retention: string; before: string },
    after: { readonly week: string; readonly id: string } | undefined,
    limit: number,
  ): Promise<KeptKeyRow[]> {
    const { rows } = await this.#pool.query<KeptKeyRow>(
      `select id, subject, coalesce(members, '{}') as members, split_part(subject, ':', 2) as week
       from waybill_keys.data_keys
       where destroyed_at is null and subject like 'kept:%' and organization_id = $1
         and split_part(subject, ':', 3) = $2 and split_part(subject, ':', 2) < $3
         and (split_part(subject, ':', 2), id) > ($4, $5)
       order by split_part(subject, ':', 2), id limit $6`,
      [organizationId, retention, before, after?.week ?? '', after?.id ?? '', limit],
    );
    return rows;
  }

  /** Destroys keys, those that are not there too: an older database must not bring them back. */
  async destroy(ids: readonly string[], subject: string, organizationId: string): Promise<void> {
    await this.#pool.query(
      `insert into waybill_keys.data_keys (id, subject, organization_id, key_version, destroyed_at)
       select id, $2, $3, 0, now() from unnest($1::text[]) as gone (id)
       on conflict (id) do update set wrapped = null, destroyed_at = now() where data_keys.destroyed_at is null`,
      [ids, subject, organizationId],
    );
  }

  /** Up to where the erasures of this log were followed. */
  async erasuresFollowed(logId: string): Promise<bigint> {
    const { rows } = await this.#pool.query<{ position: string }>(
      'select erasures_position as position from waybill_keys.installation where erasures_log = $1',
      [logId],
    );
    return BigInt(rows[0]?.position ?? 0);
  }

  async followedErasures(logId: string, position: bigint): Promise<void> {
    await this.#pool.query(
      `update waybill_keys.installation set erasures_log = $1, erasures_position =
         case when erasures_log = $1 then greatest(erasures_position, $2) else $2 end`,
      [logId, position],
    );
  }

  /** The living keys of subjects, and keys by id, living or not. */
  async find(subjects: readonly string[], ids: readonly string[]): Promise<KeyRow[]> {
    const { rows } = await this.#pool.query<KeyRow>({
      name: 'find-keys',
      text: `select ${ROW} from waybill_keys.data_keys
             where (subject = any($1) and destroyed_at is null) or id = any($2)`,
      values: [subjects, ids],
    });
    return rows;
  }

  /**
   * Adds keys for subjects that have none.
   *
   * @returns the ids of those that were added: another instance may be faster, or have rotated the key ring, and then
   *   nothing is added that the version before has wrapped
   */
  async add(keys: readonly NewKeyRow[]): Promise<Set<string>> {
    const { rows } = await this.#pool.query<{ id: string }>({
      name: 'add-keys',
      text: `insert into waybill_keys.data_keys (id, subject, organization_id, members, key_version, wrapped)
             select id, subject, organization_id, nullif(string_to_array(members, ' '), '{}'), version, wrapped
             from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::bytea[])
               as new (id, subject, organization_id, members, version, wrapped)
             where version >= coalesce((select key_version from waybill_keys.installation), 0)
             on conflict (subject) where destroyed_at is null do nothing
             returning id`,
      values: [
        keys.map(({ id }) => id),
        keys.map(({ subject }) => subject),
        keys.map(({ organizationId }) => organizationId),
        keys.map(({ members }) => members?.join(' ') ?? ''),
        keys.map(({ version }) => version),
        keys.map(({ wrapped }) => wrapped),
      ],
    });
    return new Set(rows.map(({ id }) => id));
  }
}
