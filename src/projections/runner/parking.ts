import { haveMoved, moveCheckpoints } from './checkpoints.js';
import { type Connection, isAboutData, StatementFailed } from './connection.js';
import type { Folder } from './fold.js';
import type { Member } from './member.js';

/** There is no such parked event. */
export class NotParked extends Error {
  override name = 'NotParked';
}

/** Why an event is passed over, and who says so. */
export interface Skip {
  readonly position: bigint;
  readonly by: string;
  readonly reason: string;
}

/**
 * Parked events are events of a projection's past that its rows lack. What takes them up again is stored first, so that
 * it is carried out by whoever is the writer, also after a crash.
 */

/** Has what is parked tried again. @returns how many events */
export async function wantParked(connection: Connection, name: string): Promise<number> {
  return await connection.execute(
    'update parked_events set is_wanted = true where projection = $1 and skipped_at is null',
    [name],
  );
}

/** Has the projection pass over one event for ever, and what follows it in its stream tried again. @throws NotParked */
export async function skipParked(connection: Connection, name: string, { position, by, reason }: Skip): Promise<void> {
  const [skipped] = await connection.query<{ stream: string }>(
    `update parked_events set skipped_at = now(), skipped_by = $3, skip_reason = $4
     where projection = $1 and position = $2 and skipped_at is null returning stream`,
    [name, String(position), by, reason],
  );
  if (!skipped) throw new NotParked(`no event at position ${position} is parked for ${name}`);
  await connection.execute(
    'update parked_events set is_wanted = true where projection = $1 and stream = $2 and skipped_at is null',
    [name, skipped.stream],
  );
}

export interface TakeUp {
  readonly connection: Connection;
  readonly folder: Folder;
  readonly epoch: bigint;
}

interface Wanted {
  readonly stream: string;
  readonly first: string;
}

/**
 * Applies what is parked of streams that are to be tried again: as one more batch, of one stream, at the position where
 * the projection is. What still cannot be applied stays parked, and counts one more attempt.
 *
 * @returns whether the projection has to be rebuilt instead, because its rows depend on the order of events over streams
 */
export async function takeUpParked(member: Member, { connection, folder, epoch }: TakeUp): Promise<boolean> {
  const { key, projection, position } = member;
  const wanted = await connection.query<Wanted>(
    `select stream, min(position)::text as first from parked_events where projection = $1 and skipped_at is null
     group by stream having bool_or(is_wanted) or bool_or(type = 'EventSkipped')`,
    [key],
  );
  if (wanted.length === 0) return false;
  if (projection.isOrdered) {
    await connection.execute('update parked_events set is_wanted = false where projection = $1', [key]);
    return true;
  }
  for (const { stream, first } of wanted) {
    const without = member.skips.get(stream) ?? new Set<bigint>();
    try {
      const changes = await folder.refold(stream, { after: BigInt(first) - 1n, upTo: position, without });
      await connection.batch([
        moveCheckpoints([member], epoch, position, position),
        {
          name: 'take_up_parked',
          text: 'delete from parked_events where projection = $1 and stream = $2 and skipped_at is null',
          values: [key, stream],
        },
        ...projection.statements(changes),
      ]);
      member.parkedStreams.delete(stream);
    } catch (error) {
      if (error instanceof StatementFailed && (haveMoved(error) || !isAboutData(error))) throw error;
      await connection.execute(
        `update parked_events set attempts = attempts + 1, is_wanted = false,
           error = case when position = $3 then $4 else error end
         where projection = $1 and stream = $2 and skipped_at is null`,
        [key, stream, first, (error as Error).message],
      );
    }
  }
  const [left] = await connection.query<{ events: string }>(
    'select count(*) as events from parked_events where projection = $1 and skipped_at is null',
    [key],
  );
  member.parked = Number(left?.events ?? 0);
  return false;
}
