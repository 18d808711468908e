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

/**
 * Makes the database this instance's, and empties it when what it holds does not follow from the log: it is ahead of
 * it (an older backup of the log has been put in place; from its end on the two tell different stories), or of another
 * log. All of it is made again from the log then.
 *
 * To be called after the migrations and before anything reads a position.
 *
 * @param options.isShared whether other instances can reach the database. One that belongs to another instance is left
 *   alone then; else that instance is an earlier self, before `instance.id` was lost.
 * @throws Error, one line, when a shared database belongs to another instance; nothing is changed then
 */
export async function matchDerivedState(
  database: DataSource,
  { instanceId, head }: EventLog,
  options: { readonly isShared: boolean },
  log: Log,
): Promise<void> {
  const emptied = await database.transaction(async (transaction) => {
    const owner = await claim(transaction, instanceId);
    if (owner !== instanceId && options.isShared)
      throw new Error(
        `DATABASE_URL: this database holds the read models of another Waybill (instance ${owner}); give each its own`,
      );
    const reached = await newestPosition(transaction);
    if (owner === instanceId && reached <= head) return undefined;
    await transaction.query(`truncate ${DERIVED_TABLES.join(', ')}`);
    await claim(transaction, instanceId);
    return { owner, reached: reached.toString(), head: head.toString() };
  });
  if (!emptied) return;
  const why = emptied.owner === instanceId ? 'has seen more than this event log holds' : 'was filled from another log';
  log.warn(emptied, `the database ${why}: all read models are emptied and made again from the log`);
}

/**
 * The engine's partitions say whose the database is. The first is taken at once, and expired, so that it keeps nobody
 * waiting: of two instances that are given the same new database, the second finds the first one's name.
 *
 * @returns the owner, this instance unless another one was there before
 */
async function claim(transaction: EntityManager, instanceId: string): Promise<string> {
  await transaction.query(
    `insert into engine_partitions (partition, owner, epoch, expires_at, position)
     values (0, $1, 0, now(), 0) on conflict do nothing`,
    [instanceId],
  );
  const [other] = await transaction.query<{ owner: string }[]>(
    'select owner from engine_partitions where owner <> $1 limit 1',
    [instanceId],
  );
  return other?.owner ?? instanceId;
}

async function newestPosition(transaction: EntityManager): Promise<bigint> {
  const [row] = await transaction.query<{ position: string }[]>(
    `select coalesce(max(position), 0) as position from (
       select position from projection_checkpoints union all select position from engine_partitions) as reached`,
  );
  return BigInt(row?.position ?? 0);
}
