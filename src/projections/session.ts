import type pg from 'pg';
import { CheckpointMoved } from './checkpoints.js';
import { Connection } from './connection.js';
import { RowsRefused, type Track } from './track.js';

/** One connection's life. */
export interface Session {
  readonly connection: Connection;
  /** Aborts when the session is to end or has failed. */
  readonly signal: AbortSignal;
  /** Ends it with an error, which the next session is to mend. */
  readonly fail: (error: Error) => void;
}

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2_000;
/** A batch that is not stored so long after it was asked to be the last one is given up; it is applied again later. */
const STOP_PATIENCE_MS = 5_000;
/** Instances that take turns at the same checkpoints this often in a row are a mistake somebody should see. */
const PATIENCE = 20;

/**
 * Does a track's work in one session after another until it ends by itself or `signal` aborts. Whatever goes wrong,
 * the way back is the same: a new connection, the checkpoints read anew, on from there. Between two sessions it pauses,
 * longer from failure to failure, unless a smaller batch is to be tried, which is expected to work.
 *
 * @param changed is called when the track has failed
 */
export async function keepTrying(
  track: Track,
  postgres: pg.ClientConfig,
  signal: AbortSignal,
  work: (session: Session) => Promise<void>,
  changed: () => void,
): Promise<void> {
  for (let failures = 0; !signal.aborted; ) {
    const before = track.position;
    const cause = await oneSession(postgres, signal, work);
    if (!cause || signal.aborted) return;
    track.caughtUp = false;
    failures = track.position > before ? 1 : failures + 1;
    // Neither says that anything is broken: another instance was faster, or Postgres has refused some rows.
    const isExpected = cause instanceof CheckpointMoved || cause instanceof RowsRefused;
    if (!isExpected || failures > PATIENCE) track.error = cause.message;
    changed();
    if (!(cause instanceof RowsRefused) || failures > PATIENCE) await pause(pauseMs(failures), signal);
  }
}

/** @returns what went wrong, if something did */
async function oneSession(
  postgres: pg.ClientConfig,
  signal: AbortSignal,
  work: (session: Session) => Promise<void>,
): Promise<Error | undefined> {
  const session = new AbortController();
  let connection: Connection | undefined;
  let patience: NodeJS.Timeout | undefined;
  const end = () => {
    session.abort();
    patience = setTimeout(() => connection?.sever(), STOP_PATIENCE_MS);
  };
  signal.addEventListener('abort', end, { once: true });
  let cause: Error | undefined;
  const fail = (error: Error) => {
    cause ??= error;
    session.abort();
  };
  try {
    connection = await Connection.open(postgres, fail);
    await work({ connection, signal: session.signal, fail });
  } catch (error) {
    cause ??= error as Error;
  } finally {
    session.abort();
    signal.removeEventListener('abort', end);
    await connection?.close();
    clearTimeout(patience);
  }
  return cause;
}

/** Doubling from 50 ms to 2 s, half of it by chance so that instances do not come back all at once. */
const pauseMs = (failures: number): number =>
  Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures - 1, 10)) * (0.5 + Math.random() / 2);

/** Ends early, without an error, when `signal` aborts. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
  });
}
