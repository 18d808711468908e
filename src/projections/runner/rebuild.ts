import { randomUUID } from 'node:crypto';
import type { Projection } from '../projection.js';
import { announce } from './announcements.js';
import { Superseded } from './checkpoints.js';
import type { Connection } from './connection.js';
import { keyOf, type Member, type Rebuild } from './member.js';
import { createTables, dropBuilding, isAlike } from './versions.js';

/** This projection is being rebuilt already, or what is asked for makes no sense now. */
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

export interface RebuildOptions {
  /** Default: a rebuild. */
  readonly kind?: Rebuild['kind'];
  /** Default null: as fast as it can. */
  readonly eventsPerSecond?: number | null;
}

export interface RebuildOrder extends RebuildOptions {
  readonly projections: readonly Projection[];
  /** How many events there are. */
  readonly total: number;
  /** The writer's. Another instance has none: the writer finds out because it is told. */
  readonly epoch?: bigint;
}

const UNIQUE_VIOLATION = '23505';

/**
 * Stores that read models are to be made anew, and makes their empty tables, in one transaction: all of them or none. The
 * live ones stay as they are, and go on.
 *
 * @throws RebuildConflict when one is going on, or there is nothing to go back to
 * @throws RebuildUnavailable when no writer has ever begun with the projection
 * @throws Superseded when the epoch is over
 */
export async function beginRebuilds(connection: Connection, order: RebuildOrder): Promise<Rebuild[]> {
  const rebuilds: Rebuild[] = [];
  await connection.transaction(async () => {
    // Always in the same order, so that two who ask for the same never wait for each other.
    const sorted = [...order.projections].sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const projection of sorted) rebuilds.push(await begin(connection, projection, order));
    for (const rebuild of rebuilds) await connection.execute(announce({ rebuild }));
  });
  return rebuilds;
}

/** Part of the caller's transaction. */
async function begin(connection: Connection, projection: Projection, order: RebuildOrder): Promise<Rebuild> {
  const { total, epoch, kind = 'rebuild', eventsPerSecond = null } = order;
  const { name, version } = projection;
  const rebuild: Rebuild = {
    ...{ id: randomUUID(), name, kind, state: 'running', phase: 'building', comparison: null, reason: null },
    ...{ processed: 0, total, eventsPerSecond, startedAt: new Date().toISOString(), finishedAt: null },
  };
  const [live] = await connection.query(
    'select from projection_checkpoints where name = $1 and epoch = coalesce($2, epoch) for share',
    [name, epoch === undefined ? null : String(epoch)],
  );
  if (!live) throw epoch === undefined ? new RebuildUnavailable(`${name} has not begun yet`) : new Superseded();
  try {
    await connection.execute(
      `insert into projection_rebuilds (id, name, kind, state, processed, total, events_per_second, started_at)
       values ($1, $2, $3, 'running', 0, $4, $5, $6)`,
      [rebuild.id, name, kind, total, eventsPerSecond, rebuild.startedAt],
    );
  } catch (error) {
    if ((error as { code?: string }).code !== UNIQUE_VIOLATION) throw error;
    throw new RebuildConflict(`${name} is being rebuilt already`);
  }
  if (kind === 'rollback') await checkKept(connection, projection);
  else {
    await dropBuilding(connection, name);
    await createTables(connection, projection);
    await connection.execute(
      `insert into projection_checkpoints (name, version, position, epoch)
       select $2, $3, 0, epoch from projection_checkpoints where name = $1`,
      [name, keyOf(name, 'building'), version],
    );
  }
  return rebuild;
}

async function checkKept(connection: Connection, projection: Projection): Promise<void> {
  const { name, version } = projection;
  const [kept] = await connection.query<{ version: number }>(
    'select version from projection_checkpoints c join projection_kept k on k.name = $1 where c.name = $2',
    [name, keyOf(name, 'kept')],
  );
  if (!kept) throw new RebuildConflict(`no earlier version of ${name} is kept`);
  if (kept.version !== version)
    throw new RebuildConflict(
      `the kept version of ${name} was made by another version of this program (${kept.version}, not ${version})`,
    );
  if (!(await isAlike(connection, projection, 'kept')))
    throw new RebuildConflict(`the kept version of ${name} has other columns: this program cannot use it`);
}

/** How often it is said how far a rebuild is. */
const PROGRESS_MS = 250;

/** The row of a rebuild that is going on, kept up to date by the one that carries it out. */
export class RebuildRow {
  readonly #live: Member;
  readonly #id: string;
  readonly #epoch: bigint;
  #toldAt = Number.NEGATIVE_INFINITY;

  constructor(live: Member, id: string, epoch: bigint) {
    this.#live = live;
    this.#id = id;
    this.#epoch = epoch;
  }

  get now(): Rebuild {
    const { rebuild } = this.#live;
    if (rebuild?.id !== this.#id) throw new Error('another rebuild has begun');
    return rebuild;
  }

  /** Now and then. @returns whether it is to go on */
  async progress(connection: Connection, processed: number, total: number): Promise<boolean> {
    if (performance.now() - this.#toldAt < PROGRESS_MS) return true;
    this.#toldAt = performance.now();
    return await this.change(connection, { processed, total: Math.max(processed, total) });
  }

  /** In a transaction of its own. @returns whether it was still going on. @throws Superseded */
  async change(connection: Connection, news: Partial<Rebuild>): Promise<boolean> {
    return await connection.transaction(async () => {
      const changed = await this.store(connection, news);
      if (changed) this.#live.tell(changed);
      return changed !== undefined;
    });
  }

  /** Part of the caller's transaction. @returns what is to be told when it is committed; undefined when it was cancelled */
  async store(connection: Connection, news: Partial<Rebuild>): Promise<Rebuild | undefined> {
    const rebuild: Rebuild = { ...this.now, ...news };
    const { id, name, state, phase, comparison, reason, processed, total, finishedAt } = rebuild;
    const [mine] = await connection.query(
      'select from projection_checkpoints where name = $1 and epoch = $2 for share',
      [name, String(this.#epoch)],
    );
    if (!mine) throw new Superseded();
    const count = await connection.execute(
      `update projection_rebuilds set state = $2, phase = $3, comparison = $4, reason = $5, processed = $6, total = $7,
         finished_at = $8 where id = $1 and state = 'running'`,
      [id, state, phase, comparison, reason, processed, total, finishedAt],
    );
    if (count === 0) return undefined;
    await connection.execute(announce({ rebuild }));
    return rebuild;
  }
}

/**
 * Ends a rebuild that is going on, whoever carries it out; what it has made so far is dropped.
 *
 * @param end `failed` when it cannot go on, else `cancelled`
 * @throws RebuildConflict when none is going on
 */
export async function endRebuild(
  connection: Connection,
  name: string,
  end: Pick<Rebuild, 'reason'> & { readonly state: 'cancelled' | 'failed' },
): Promise<Rebuild> {
  return await connection.transaction(async () => {
    // First what every batch takes first.
    await connection.execute('select from projection_checkpoints where name = $1 for update', [
      keyOf(name, 'building'),
    ]);
    const [row] = await connection.query<RebuildColumns>(
      `update projection_rebuilds set state = $2, reason = $3, finished_at = now()
       where name = $1 and state = 'running' returning ${REBUILD_COLUMNS}`,
      [name, end.state, end.reason],
    );
    if (!row) throw new RebuildConflict(`${name} is not being rebuilt`);
    const rebuild = rebuildOf(row);
    if (rebuild.kind !== 'rollback') await dropBuilding(connection, name);
    await connection.execute(announce({ rebuild }));
    return rebuild;
  });
}

export const REBUILD_COLUMNS = `id, name, kind, state, phase, comparison, reason, processed, total,
  events_per_second as "eventsPerSecond", started_at as "startedAt", finished_at as "finishedAt"`;

/** As Postgres gives them, or JSON made by it. */
export interface RebuildColumns extends Omit<Rebuild, 'processed' | 'total' | 'startedAt' | 'finishedAt'> {
  readonly processed: string | number;
  readonly total: string | number;
  readonly startedAt: Date | string;
  readonly finishedAt: Date | string | null;
}

export const rebuildOf = (row: RebuildColumns): Rebuild => ({
  ...row,
  processed: Number(row.processed),
  total: Number(row.total),
  startedAt: new Date(row.startedAt).toISOString(),
  finishedAt: row.finishedAt && new Date(row.finishedAt).toISOString(),
});

/** Reads the newest rebuild of each of these projections: another instance may have begun it. */
export async function recallRebuilds(connection: Connection, members: readonly Member[]): Promise<void> {
  const rows = await connection.query<RebuildColumns>(
    `select distinct on (name) ${REBUILD_COLUMNS} from projection_rebuilds where name = any($1)
     order by name, started_at desc`,
    [members.map(({ projection }) => projection.name)],
  );
  for (const row of rows) members.find(({ projection }) => projection.name === row.name)?.recall(rebuildOf(row));
}
