import { randomUUID } from 'node:crypto';
import type { EventReader } from '../event-store/event-store.js';
import { announce } from './announcements.js';
import { Superseded } from './checkpoints.js';
import type { Connection } from './connection.js';
import type { Member, Rebuild } from './member.js';
import type { Projection } from './projection.js';

/** This projection is being rebuilt already. */
export class RebuildConflict extends Error {
  override name = 'RebuildConflict';
}

/** Nobody is there to do it at this moment; asked again a little later it will begin. */
export class RebuildUnavailable extends Error {
  override name = 'RebuildUnavailable';
}

export class UnknownProjection extends Error {
  override name = 'UnknownProjection';
}

export interface RebuildOrder {
  readonly projection: Projection;
  /** How many events there are. */
  readonly total: number;
  /** The writer's. Another instance has none: the writer finds out, at its next batch or because it is told. */
  readonly epoch?: bigint;
  /** Ends one that is going on as failed: it was making the rows of another version. */
  readonly supersede?: boolean;
}

const UNIQUE_VIOLATION = '23505';
/** How often it is said how far a rebuild is. */
const PROGRESS_MS = 250;

/**
 * Empties a projection and sets it back to the beginning of the log, in one transaction with the row that says so.
 *
 * @throws RebuildConflict when one is going on, and is not to be superseded
 * @throws RebuildUnavailable when no writer has ever begun with the projection
 * @throws Superseded when the epoch is over
 */
export async function beginRebuild(connection: Connection, order: RebuildOrder): Promise<Rebuild> {
  const { projection, total, epoch, supersede = false } = order;
  const { name, tables } = projection;
  const startedAt = new Date().toISOString();
  const rebuild: Rebuild = {
    id: randomUUID(),
    name,
    state: 'running',
    processed: 0,
    total,
    startedAt,
    finishedAt: null,
  };
  try {
    await connection.transaction(async () => {
      // First what every batch takes first, so that nobody waits for each other.
      const isMine = await connection.execute(
        `update projection_checkpoints set position = 0, version = coalesce($2, version)
         where name = $1 and epoch = coalesce($3, epoch)`,
        [name, epoch === undefined ? null : projection.version, epoch === undefined ? null : String(epoch)],
      );
      if (isMine === 0)
        throw epoch === undefined ? new RebuildUnavailable(`${name} has not begun yet`) : new Superseded();
      if (supersede)
        await connection.execute(
          `update projection_rebuilds set state = 'failed', finished_at = $2 where name = $1 and state = 'running'`,
          [name, startedAt],
        );
      await connection.execute(
        `insert into projection_rebuilds (id, name, state, processed, total, started_at)
         values ($1, $2, 'running', 0, $3, $4)`,
        [rebuild.id, name, total, startedAt],
      );
      await connection.execute(`truncate ${tables.join(', ')}`);
      await connection.execute('delete from parked_events where projection = $1', [name]);
      await connection.execute(announce({ rebuild }));
    });
  } catch (error) {
    if ((error as { code?: string }).code !== UNIQUE_VIOLATION) throw error;
    throw new RebuildConflict(`${name} is being rebuilt already`);
  }
  return rebuild;
}

type Counter = Pick<EventReader, 'eventsBetween'>;

/** @param head where the projection has to go; may move on while it is on its way. @throws Superseded */
export async function storeRebuildProgress(
  connection: Connection,
  member: Member,
  epoch: bigint,
  reader: Counter,
  head: bigint,
): Promise<void> {
  if (member.rebuild?.state !== 'running' || performance.now() - member.rebuildToldAt < PROGRESS_MS) return;
  member.rebuildToldAt = performance.now();
  const processed = reader.eventsBetween(0n, member.position);
  const total = Math.max(processed, reader.eventsBetween(0n, head));
  await store(connection, member, epoch, { ...member.rebuild, processed, total });
}

/** To be called when the projection has, as a part of the group, what the log has. @throws Superseded */
export async function finishRebuild(
  connection: Connection,
  member: Member,
  epoch: bigint,
  reader: Counter,
): Promise<void> {
  if (member.rebuild?.state !== 'running') return;
  const total = reader.eventsBetween(0n, member.position);
  const finishedAt = new Date().toISOString();
  await store(connection, member, epoch, { ...member.rebuild, state: 'done', processed: total, total, finishedAt });
}

async function store(connection: Connection, member: Member, epoch: bigint, rebuild: Rebuild): Promise<void> {
  await connection.transaction(async () => {
    const count = await connection.execute(
      `with mine as (select from projection_checkpoints where name = $6 and epoch = $7 for share)
       update projection_rebuilds set state = $2, processed = $3, total = $4, finished_at = $5
       where id = $1 and exists (select from mine)`,
      [rebuild.id, rebuild.state, rebuild.processed, rebuild.total, rebuild.finishedAt, rebuild.name, String(epoch)],
    );
    if (count === 0) throw new Superseded();
    await connection.execute(announce({ rebuild }));
  });
  member.tell(rebuild);
}

/** Reads the newest rebuild of each of these projections: another instance may have begun it. */
export async function recallRebuilds(connection: Connection, members: readonly Member[]): Promise<void> {
  const rows = await connection.query<{
    id: string;
    name: string;
    state: Rebuild['state'];
    processed: string;
    total: string;
    started_at: Date;
    finished_at: Date | null;
  }>('select distinct on (name) * from projection_rebuilds where name = any($1) order by name, started_at desc', [
    members.map(({ projection }) => projection.name),
  ]);
  for (const { id, name, state, processed, total, started_at, finished_at } of rows)
    members
      .find(({ projection }) => projection.name === name)
      ?.recall({
        ...{ id, name, state, processed: Number(processed), total: Number(total) },
        startedAt: started_at.toISOString(),
        finishedAt: finished_at?.toISOString() ?? null,
      });
}
