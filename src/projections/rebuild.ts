import { randomUUID } from 'node:crypto';
import type { Connection } from './connection.js';
import type { Member, Rebuild } from './member.js';

/** This projection is being rebuilt already. */
export class RebuildConflict extends Error {
  override name = 'RebuildConflict';
}

export class UnknownProjection extends Error {
  override name = 'UnknownProjection';
}

const UNIQUE_VIOLATION = '23505';

/**
 * Empties a projection and sets it back to the beginning of the log, in one transaction with the row that says so.
 *
 * @param options.supersede ends one that is going on as failed: it was making the rows of another version
 * @throws RebuildConflict when one is going on, and is not to be superseded
 */
export async function beginRebuild(
  connection: Connection,
  member: Member,
  head: bigint,
  { supersede = false } = {},
): Promise<Rebuild> {
  const { projection } = member;
  const rebuild: Rebuild = {
    id: randomUUID(),
    name: projection.name,
    state: 'running',
    processed: 0,
    total: Number(head),
    startedAt: new Date().toISOString(),
    finishedAt: null,
  };
  try {
    await connection.transaction(async () => {
      if (supersede)
        await connection.execute(
          `update projection_rebuilds set state = 'failed', finished_at = $2 where name = $1 and state = 'running'`,
          [rebuild.name, rebuild.startedAt],
        );
      await connection.execute(
        `insert into projection_rebuilds (id, name, state, processed, total, started_at)
         values ($1, $2, 'running', 0, $3, $4)`,
        [rebuild.id, rebuild.name, rebuild.total, rebuild.startedAt],
      );
      await connection.execute(`truncate ${projection.tables.join(', ')}`);
      await connection.execute('delete from parked_events where projection = $1', [projection.name]);
      await connection.execute('update projection_checkpoints set position = 0, version = $2 where name = $1', [
        projection.name,
        projection.version,
      ]);
    });
  } catch (error) {
    if ((error as { code?: string }).code !== UNIQUE_VIOLATION) throw error;
    throw new RebuildConflict(`${projection.name} is being rebuilt already`);
  }
  member.position = 0n;
  member.tell(rebuild);
  return rebuild;
}

/** @param head where the projection has to go; moves on while it is on its way */
export async function storeRebuildProgress(connection: Connection, member: Member, head: bigint): Promise<void> {
  if (member.rebuild?.state !== 'running') return;
  const processed = Number(member.position);
  await store(connection, member, { ...member.rebuild, processed, total: Math.max(Number(head), processed) });
}

/** To be called when the projection has become part of the group. */
export async function finishRebuild(connection: Connection, member: Member): Promise<void> {
  if (member.rebuild?.state !== 'running') return;
  const total = Number(member.position);
  const finishedAt = new Date().toISOString();
  await store(connection, member, { ...member.rebuild, state: 'done', processed: total, total, finishedAt });
}

async function store(connection: Connection, member: Member, rebuild: Rebuild): Promise<void> {
  await connection.execute(
    'update projection_rebuilds set state = $2, processed = $3, total = $4, finished_at = $5 where id = $1',
    [rebuild.id, rebuild.state, rebuild.processed, rebuild.total, rebuild.finishedAt],
  );
  member.tell(rebuild);
}

/** The newest rebuild of each projection that ever had one. */
export async function loadRebuilds(connection: Connection): Promise<Rebuild[]> {
  const rows = await connection.query<{
    id: string;
    name: string;
    state: Rebuild['state'];
    processed: string;
    total: string;
    started_at: Date;
    finished_at: Date | null;
  }>('select distinct on (name) * from projection_rebuilds order by name, started_at desc');
  return rows.map(({ id, name, state, processed, total, started_at, finished_at }) => ({
    id,
    name,
    state,
    processed: Number(processed),
    total: Number(total),
    startedAt: started_at.toISOString(),
    finishedAt: finished_at?.toISOString() ?? null,
  }));
}
