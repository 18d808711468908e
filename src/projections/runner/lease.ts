import type { Projection } from '../projection.js';
import { announce } from './announcements.js';
import type { Connection } from './connection.js';
import type { Rebuild } from './member.js';
import { REBUILD_COLUMNS, type RebuildColumns, rebuildOf } from './rebuild.js';

export interface LeaseOptions {
  /** This instance; the same after a restart. */
  readonly owner: string;
  /** A lock has proved that no other instance can be alive: the lease is this one's whoever has it. */
  readonly isAlone: boolean;
  readonly leaseMs: number;
  readonly projections: readonly Projection[];
}

/** What the writer says of one projection, beyond where it is. */
export interface Health {
  readonly name: string;
  readonly state: string;
  readonly parked: number;
  readonly lastError?: string;
  /** When it last got on, or found that there was nothing to do. */
  readonly progressAt?: string;
}

/** What Postgres knows of the read models, at one moment. */
export interface Look {
  readonly owner: string | undefined;
  /** Whether another instance is the writer. */
  readonly isHeld: boolean;
  /** Projections whose rows a newer version of the program has made. */
  readonly newer: readonly string[];
  readonly health: readonly Health[];
  readonly checkpoints: ReadonlyMap<string, bigint>;
  /** The newest of each projection that ever had one. */
  readonly rebuilds: readonly Rebuild[];
}

interface Found {
  readonly writer: { readonly owner: string; readonly isFree: boolean; readonly health: readonly Health[] } | null;
  readonly checkpoints: readonly { name: string; version: number; position: string }[] | null;
  readonly rebuilds: readonly RebuildColumns[] | null;
}

/** Free when it has expired by the database's clock, or its holder's connection is gone, as it is after a kill -9. */
const IS_FREE = `(held.expires_at <= clock_timestamp()
  or not exists (select from pg_stat_activity where pid = held.backend))`;

/** What the sessions of the writer of an epoch are called, by which the next one finds them. */
export const sessionsOf = (epoch: bigint): string => `waybill-projections/${epoch}`;

/** SQLSTATE insufficient_privilege. */
const NOT_ALLOWED = '42501';

const REBUILDS = `
  select distinct on (name) ${REBUILD_COLUMNS} from projection_rebuilds order by name, started_at desc`;

/**
 * Which of several instances writes the read models: a row in Postgres, held for a while by the database's clock and
 * renewed in good time. Its epoch is one more for each holder and stands in every checkpoint, so whoever held the lease
 * before finds, in the very transaction that would store something, that it does no more.
 */
export class Lease {
  readonly #options: LeaseOptions;
  /** Until the first look: what an earlier run of this instance held is taken back at once. */
  #mayResume = true;

  constructor(options: LeaseOptions) {
    this.#options = options;
  }

  async look(connection: Connection): Promise<Look> {
    const { owner, isAlone, projections } = this.#options;
    const [found] = await connection.query<Found>({
      name: 'look',
      text: `select
          (select to_jsonb(w) from (
             select owner, $2 or ($3 and owner = $1) or ${IS_FREE} as "isFree", health from projection_writer held) w
          ) as writer,
          (select jsonb_agg(c) from (select name, version, position::text from projection_checkpoints) c) as checkpoints,
          (select jsonb_agg(r) from (${REBUILDS}) r) as rebuilds`,
      values: [owner, isAlone, this.#mayResume],
    });
    const { writer, checkpoints, rebuilds } = found as Found;
    const newer = (checkpoints ?? []).filter(({ name, version }) =>
      projections.some((projection) => projection.name === name && projection.version < version),
    );
    return {
      owner: writer?.owner,
      isHeld: writer !== null && !writer.isFree,
      newer: newer.map(({ name }) => name),
      health: writer?.health ?? [],
      checkpoints: new Map((checkpoints ?? []).map(({ name, position }) => [name, BigInt(position)])),
      rebuilds: (rebuilds ?? []).map(rebuildOf),
    };
  }

  /**
   * Takes the lease if it is free. The last holder's transactions that are under way are undone, or waited for where its
   * sessions belong to another user; none that begins later can store anything.
   *
   * @returns the epoch; undefined when another instance was faster
   */
  async claim(connection: Connection): Promise<bigint | undefined> {
    const { owner, isAlone, leaseMs } = this.#options;
    await this.#endSessions(connection);
    const [claimed] = await connection.query<{ epoch: string }>(
      `with claimed as (
         insert into projection_writer as held (owner, epoch, backend, expires_at)
         values ($1, 1, pg_backend_pid(), clock_timestamp() + $2 * interval '1 ms')
         on conflict (only_one) do update
           set owner = excluded.owner, epoch = held.epoch + 1, backend = excluded.backend,
             expires_at = excluded.expires_at, health = '[]'
           where $3 or ($4 and held.owner = $1) or ${IS_FREE}
         returning epoch),
       fenced as (update projection_checkpoints set epoch = claimed.epoch from claimed)
       select epoch::text from claimed`,
      [owner, leaseMs, isAlone, this.#mayResume],
    );
    this.#mayResume = false;
    return claimed && BigInt(claimed.epoch);
  }

  /**
   * One that hangs in the middle of a transaction keeps its locks: no timeout ends a session that waits for the rest of a
   * `copy`.
   */
  async #endSessions(connection: Connection): Promise<void> {
    const { owner, isAlone } = this.#options;
    try {
      await connection.query(
        `select pg_terminate_backend(session.pid) from pg_stat_activity as session, projection_writer as held
         where session.datname = current_database()
           and substring(session.application_name from $1)::bigint <= held.epoch
           and ($2 or ($3 and held.owner = $4) or ${IS_FREE})`,
        ['^waybill-projections/(\\d+)$', isAlone, this.#mayResume, owner],
      );
    } catch (error) {
      if ((error as { code?: string }).code !== NOT_ALLOWED) throw error;
    }
  }

  /** Another instance was the writer when this one looked: what is free from now on is so for everybody. */
  passed(): void {
    this.#mayResume = false;
  }

  /** @returns the rebuilds that are going on; undefined when the lease is lost */
  async renew(
    connection: Connection,
    epoch: bigint,
    health: readonly Health[],
  ): Promise<readonly Pick<Rebuild, 'id' | 'name'>[] | undefined> {
    const { owner, leaseMs } = this.#options;
    const [renewed] = await connection.query<{ rebuilds: { id: string; name: string }[] | null }>({
      name: 'renew',
      text: `update projection_writer
             set expires_at = clock_timestamp() + $2 * interval '1 ms', backend = pg_backend_pid(), health = $3
             where epoch = $1 and owner = $4
             returning (
               select jsonb_agg(jsonb_build_object('id', id, 'name', name)) from projection_rebuilds
               where state = 'running') as rebuilds`,
      values: [String(epoch), leaseMs, JSON.stringify(health), owner],
    });
    return renewed && (renewed.rebuilds ?? []);
  }

  /** Another instance may have it at once. */
  async release(connection: Connection, epoch: bigint): Promise<void> {
    await connection.batch([
      {
        name: 'release',
        text: 'update projection_writer set expires_at = clock_timestamp() where epoch = $1',
        values: [String(epoch)],
      },
      announce({ look: true }),
    ]);
  }
}
