import type { DataSource, EntityManager } from 'typeorm';

/**
 * Everything in Postgres follows from one event log: the read models and the engine's memory, each with the position up
 * to which it has read. A position means something only in the log it was read from, so it is compared with the log
 * before anybody goes on from there; otherwise events would be skipped, and nobody would notice.
 */
export interface EventLog {
  /** A uuid that the log keeps; a new one since it was restored from a backup. */
  readonly id: string;
  /** What it was before. */
  readonly formerly: readonly string[];
  /** Position of the newest event. Asked for after the database, which others may be filling: it cannot be ahead then. */
  head(): Promise<bigint>;
}

/** What must outlive the log it is about: the audit trail of a log that was cut off shows that there was more. */
export const EVIDENCE_TABLES = [
  'audit_writer',
  'audit_trees',
  'audit_entries',
  'audit_nodes',
  'audit_checkpoints',
  'audit_keys',
] as const;

export interface Log {
  warn(fields: object, message: string): void;
}

/** Every other table that a migration has made; no other is touched, whoever else may use the database. */
export const DERIVED_TABLES = [
  'event_log',
  'deliveries',
  'delivery_hours',
  'attempts',
  'destinations',
  'destination_health',
  'dashboard_hours',
  'suppressions',
  'legs',
  'inbox_messages',
  'inbox_presence',
  'projection_checkpoints',
  'projection_rebuilds',
  'projection_kept',
  'parked_events',
  'projection_writer',
  'engine_instances',
  'engine_partitions',
  'engine_deliveries',
  'engine_suspensions',
  'status_webhook_progress',
] as const;

/**
 * Makes the database this log's, and empties it when what it holds does not follow from the log: it is ahead of it (an
 * older backup of the log has been put in place; from its end on the two tell different stories), or of another log. All
 * of it is made again from the log then.
 *
 * To be called after the migrations and before anything reads a position.
 *
 * @param options.isShared whether other instances can reach the database. One of another log is left alone then
 * @param options.instanceId this instance
 * @throws Error, one line, when a shared database is of another log, or is ahead of this one while other instances work
 *   on it; nothing is changed then
 */
export async function matchDerivedState(
  database: DataSource,
  { id, formerly, head: headOf }: EventLog,
  options: { readonly isShared: boolean; readonly instanceId: string },
  log: Log,
): Promise<void> {
  const emptied = await database.transaction(async (transaction) => {
    const followed = await claim(transaction, id);
    if (followed !== id && !formerly.includes(followed) && options.isShared)
      throw new Error(
        `DATABASE_URL: this database holds the read models of another Waybill (event log ${followed}); give each its own`,
      );
    const reached = await newestPosition(transaction);
    const head = await headOf();
    if (followed === id && reached <= head) return undefined;
    if (options.isShared && (await isWorkedOn(transaction, options.instanceId)))
      throw new Error(
        'DATABASE_URL: this database does not follow from the event log, and other instances work on it; stop them first',
      );
    await dropOtherVersions(transaction);
    await transaction.query(`truncate ${DERIVED_TABLES.join(', ')}`);
    await claim(transaction, id);
    return { followed, reached: reached.toString(), head: head.toString() };
  });
  if (!emptied) return;
  const why =
    emptied.followed === id ? 'has seen more than this event log holds' : 'does not follow from this event log';
  log.warn(emptied, `the database ${why}: all read models are emptied and made again from the log`);
}

/** @returns the log that the database follows: this one, unless another one was there before */
async function claim(transaction: EntityManager, id: string): Promise<string> {
  await transaction.query('insert into event_log (id) values ($1) on conflict do nothing', [id]);
  const [followed] = await transaction.query<{ id: string }[]>('select id from event_log');
  return followed?.id ?? id;
}

/** Read models that were being rebuilt, or are kept from before a rebuild. */
async function dropOtherVersions(transaction: EntityManager): Promise<void> {
  const schemas = await transaction.query<{ name: string }[]>(
    `select nspname as name from pg_namespace where nspname like 'waybill\\_building\\_%' or nspname like 'waybill\\_kept\\_%'`,
  );
  for (const { name } of schemas) await transaction.query(`drop schema "${name}" cascade`);
}

/** Whether another instance holds a lease on a part of the deliveries. */
async function isWorkedOn(transaction: EntityManager, instanceId: string): Promise<boolean> {
  const leases = await transaction.query<object[]>(
    'select 1 from engine_partitions where expires_at > now() and owner <> $1 limit 1',
    [instanceId],
  );
  return leases.length > 0;
}

async function newestPosition(transaction: EntityManager): Promise<bigint> {
  const [row] = await transaction.query<{ position: string }[]>(
    `select coalesce(max(position), 0) as position from (
       select position from projection_checkpoints union all select position from engine_partitions
       union all select position from status_webhook_progress) as reached`,
  );
  return BigInt(row?.position ?? 0);
}
