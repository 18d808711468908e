import type { DataSource, EntityManager } from 'typeorm';

/**
 * Everything in Postgres follows from one event log: the read models and the engine's memory, each with the position up
 * to which it has read. A position means something only in the log it was read from, so it is compared with the log
 * before anybody goes on from there; otherwise events would be skipped, and nobody would notice.
 */
export interface EventLog {
  /** Of the instance whose log it is. */
  readonly instanceId: string;
  /** Position of the newest event, before this process has written any. */
  readonly head: bigint;
}

export interface Log {
  warn(fields: object, message: string): void;
}

/** Every table that a migration has made; no other is touched, whoever else may use the database. */
export const DERIVED_TABLES = [
  'deliveries',
  'attempts',
  'destinations',
  'destination_health',
  'dashboard_hours',
  'projection_checkpoints',
  'projection_rebuilds',
  'parked_events',
  'engine_partitions',
  'engine_deliveries',
] as const;

/** The database belongs to another log. */
export class ForeignDatabase extends Error {
  override name = 'ForeignDatabase';
}

/**
 * Makes the database this instance's, and empties it when it is ahead of the log: an older backup of the log has been
 * put in place, and from its end on the two tell different stories. It is filled again from the log.
 *
 * To be called after the migrations and before anything reads a position.
 *
 * @throws ForeignDatabase, one line, when it holds what follows from another instance's log; nothing is changed then
 */
export async function matchDerivedState(database: DataSource, eventLog: EventLog, log: Log): Promise<void> {
  const { instanceId, head } = eventLog;
  await database.transaction(async (transaction) => {
    await claim(transaction, instanceId);
    const reached = await newestPosition(transaction);
    if (reached <= head) return;
    await transaction.query(`truncate ${DERIVED_TABLES.join(', ')}`);
    await claim(transaction, instanceId);
    log.warn(
      { reached: reached.toString(), head: head.toString() },
      'the event log ends before what the database has seen of it (was it restored from a backup?): all read models are rebuilt',
    );
  });
}

/**
 * The engine's partitions say whose the database is. One that is free is taken at once, expired so that it keeps nobody
 * waiting: of two instances that are given the same new database, the second finds the first one's name.
 */
async function claim(transaction: EntityManager, instanceId: string): Promise<void> {
  await transaction.query(
    `insert into engine_partitions (partition, owner, epoch, expires_at, position)
     values (0, $1, 0, now(), 0) on conflict do nothing`,
    [instanceId],
  );
  const [other] = await transaction.query<{ owner: string }[]>(
    'select owner from engine_partitions where owner <> $1 limit 1',
    [instanceId],
  );
  if (other)
    throw new ForeignDatabase(
      `DATABASE_URL: this database holds the read models of another Waybill (instance ${other.owner}); give each its own`,
    );
}

async function newestPosition(transaction: EntityManager): Promise<bigint> {
  const [row] = await transaction.query<{ position: string }[]>(
    `select coalesce(max(position), 0) as position from (
       select position from projection_checkpoints union all select position from engine_partitions) as reached`,
  );
  return BigInt(row?.position ?? 0);
}
