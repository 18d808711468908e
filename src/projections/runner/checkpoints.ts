import type { Statement } from '../columns.js';
import type { Connection, StatementFailed } from './connection.js';
import type { Member } from './member.js';

/** Somebody else has moved a checkpoint: what is known here of the read models is out of date. */
export class CheckpointMoved extends Error {
  override name = 'CheckpointMoved';
}

/** This instance is not the writer of the read models any more. */
export class Superseded extends Error {
  override name = 'Superseded';

  constructor() {
    super('another instance writes the read models now');
  }
}

/** One event that is kept aside for one projection. */
export interface Parked {
  readonly projection: string;
  readonly position: bigint;
  readonly stream: string;
  readonly type: string;
  readonly error: string;
}

/** Live projections that are new here begin at 0n. */
export async function insertCheckpoints(
  connection: Connection,
  members: readonly Member[],
  epoch: bigint,
): Promise<void> {
  await connection.execute(
    `insert into projection_checkpoints (name, version, position, epoch)
     select name, version, 0, $3 from unnest($1::text[], $2::integer[]) as u(name, version) on conflict do nothing`,
    [members.map(({ key }) => key), members.map(({ projection }) => projection.version), String(epoch)],
  );
}

/** What is not live may have been begun by an instance that was not the writer, or for the one before this. */
export async function adoptCheckpoint(
  connection: Connection,
  { key, projection }: Member,
  epoch: bigint,
): Promise<void> {
  await connection.execute(
    `update projection_checkpoints set epoch = $3 where name = $1 and epoch <> $3
       and exists (select from projection_checkpoints where name = $2 and epoch = $3)`,
    [key, projection.name, String(epoch)],
  );
}

/**
 * Reads where the projections are.
 *
 * @returns those whose rows an older version of the program has made
 * @throws Superseded when they are another epoch's
 */
export async function loadCheckpoints(
  connection: Connection,
  members: readonly Member[],
  epoch: bigint,
): Promise<Member[]> {
  const keys = members.map(({ key }) => key);
  const rows = await connection.query<{ name: string; version: number; position: string; epoch: string }>(
    'select name, version, position, epoch from projection_checkpoints where name = any($1)',
    [keys],
  );
  const parked = await connection.query<{ projection: string; stream: string; events: string }>(
    `select projection, stream, count(*) as events from parked_events
     where projection = any($1) and skipped_at is null group by projection, stream`,
    [keys],
  );
  const skips = await connection.query<{ projection: string; stream: string; position: string }>(
    'select projection, stream, position from parked_events where projection = any($1) and skipped_at is not null',
    [members.map(({ projection }) => projection.name)],
  );
  const outdated: Member[] = [];
  for (const member of members) {
    const { name, version } = member.projection;
    const row = rows.find((candidate) => candidate.name === member.key);
    if (!row) throw new Error(`the checkpoint of ${member.key} has disappeared`);
    if (BigInt(row.epoch) !== epoch) throw new Superseded();
    if (row.version > version) throw new Error(`${name} was made by a newer version of this program`);
    if (row.version < version) outdated.push(member);
    member.position = BigInt(row.position);
    member.parkedStreams.clear();
    member.parked = 0;
    member.skips.clear();
    for (const { projection, stream, position } of skips)
      if (projection === name) member.skips.set(stream, (member.skips.get(stream) ?? new Set()).add(BigInt(position)));
    for (const { projection, stream, events } of parked) {
      if (projection !== member.key) continue;
      member.park(stream);
      member.parked += Number(events);
    }
  }
  return outdated;
}

const DIVISION_BY_ZERO = '22012';

/**
 * Moves the checkpoints of all these projections from exactly `from`, in this program's version and the writer's epoch.
 * If they are not all there, it fails by dividing by zero, because the transaction it is part of has been sent to its
 * end already.
 */
export const moveCheckpoints = (members: readonly Member[], epoch: bigint, from: bigint, to: bigint): Statement => ({
  name: 'move_checkpoints',
  text: `with moved as (
           update projection_checkpoints as c set position = $4 from unnest($1::text[], $2::integer[]) as u(name, version)
           where c.name = u.name and c.version = u.version and c.position = $3 and c.epoch = $5
           returning 1)
         select 1 / (count(*) = cardinality($1::text[]))::integer from moved`,
  values: [
    members.map(({ key }) => key),
    members.map(({ projection }) => projection.version),
    String(from),
    String(to),
    String(epoch),
  ],
});

export const haveMoved = ({ statement, code }: StatementFailed): boolean =>
  statement?.name === 'move_checkpoints' && code === DIVISION_BY_ZERO;

export const storeParked = (parked: readonly Parked[]): Statement => ({
  name: 'store_parked',
  text: `insert into parked_events (projection, position, stream, type, error)
         select * from unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[])`,
  values: [
    parked.map(({ projection }) => projection),
    parked.map(({ position }) => String(position)),
    parked.map(({ stream }) => stream),
    parked.map(({ type }) => type),
    parked.map(({ error }) => error),
  ],
});
