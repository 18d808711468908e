import type { EventReader } from '../../event-store/event-store.js';
import type { Connection } from './connection.js';
import type { Member } from './member.js';
import type { Track } from './track.js';

/** As often as this something may be begun that never comes back: then it is done with more care, then not any more. */
const MOST_TRIES = 3;

/**
 * Events that do not throw but take the whole process with them (out of memory, a loop without end) cannot be parked by
 * whoever handles them. So each start counts itself, in Postgres, before anything is handled. Where several in a row
 * have not got on, the next one counts each event before it is handled; and an event that was begun three times is
 * parked unread.
 *
 * What fails and can be caught has come back, and does not count.
 */
export class Caution {
  readonly #reader: EventReader;
  #hasStarted = false;
  /** The event that has failed here, and was caught. */
  #cameBack: bigint | undefined;

  constructor(reader: EventReader) {
    this.#reader = reader;
  }

  /** Counts a start, once for each runner, however many sessions it has. @returns whether care is called for */
  async isDue(connection: Connection, members: readonly Member[]): Promise<boolean> {
    const rows = await connection.query<{ tries: number; isAmidst: boolean }>(
      `update projection_checkpoints
       set tries = case when tried = position then tries + $2 else $2 end, tried = position
       where name = any($1) returning tries, coalesce(suspect > position, false) as "isAmidst"`,
      [members.map(({ key }) => key), this.#hasStarted ? 0 : 1],
    );
    this.#hasStarted = true;
    return rows.some(({ tries, isAmidst }) => isAmidst || tries > MOST_TRIES);
  }

  /** The next events, one by one. The caller holds the track's turn. */
  async goOn(track: Track, connection: Connection, signal: AbortSignal): Promise<void> {
    for (const event of await this.#reader.readAll(track.position, track.limit)) {
      if (signal.aborted) return;
      const tries = await this.#count(connection, track, event.position);
      if (tries > MOST_TRIES)
        await track.parkUnread(
          event,
          `the program has died ${MOST_TRIES} times while it handled this event`,
          connection,
        );
      else {
        try {
          await track.apply({ events: [event], position: event.position, caughtUp: false }, connection);
        } catch (error) {
          this.#cameBack = event.position;
          throw error;
        }
      }
    }
  }

  async #count(connection: Connection, { members }: Track, position: bigint): Promise<number> {
    const rows = await connection.query<{ tries: number }>(
      `update projection_checkpoints
       set suspect_tries = case when suspect = $2 then suspect_tries + $3 else 1 end, suspect = $2
       where name = any($1) returning suspect_tries as tries`,
      [[...members].map(({ key }) => key), String(position), this.#cameBack === position ? 0 : 1],
    );
    return Math.max(0, ...rows.map(({ tries }) => tries));
  }
}
