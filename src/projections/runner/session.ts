import type pg from 'pg';
import { CheckpointMoved, Superseded } from './checkpoints.js';
import { Connection, type ConnectionSettings } from './connection.js';
import { sessionsOf } from './lease.js';
import { pause, pauseMs } from './pause.js';
import { type Patience, watchOver } from './stall.js';
import { RowsRefused, type Track } from './track.js';

/** One connection's life. */
export interface Session {
  readonly connection: Connection;
  /** Aborts when the session is to end or has failed. */
  readonly signal: AbortSignal;
  /** Ends it with an error, which the next session is to mend. */
  readonly fail: (error: Error) => void;
}

/** What has not ended so long after it was asked to, is given up: a batch is applied again later. */
const STOP_PATIENCE_MS = 5_000;
/** Somebody who moves the same checkpoints this often in a row is a mistake that has to be seen. */
const PATIENCE = 20;
/** Longer than any batch takes, shorter than a lease: a writer that was stopped in the middle of one is not waited for. */
const TRANSACTION_MS = 8_000;

export interface Trials {
  readonly postgres: pg.ClientConfig;
  readonly epoch: bigint;
  /** Default: the live tables. Where tables are looked for first. */
  readonly schema?: string;
  /** Absent for work whose steps may take long without getting on through the log. */
  readonly patience?: Patience;
  readonly signal: AbortSignal;
  /** The track has failed. */
  changed(): void;
  /** Another instance is the writer now, so there is nothing more to do here. */
  superseded(): void;
}

/**
 * Does a track's work in one session after another until it ends by itself, the instance is superseded or `signal`
 * aborts. Whatever else goes wrong, the way back is the same: a new connection, the checkpoints read anew, on from
 * there. Between two sessions it pauses, longer from failure to failure, unless a smaller batch is to be tried, which is
 * expected to work.
 */
export async function keepTrying(
  track: Track,
  { postgres, epoch, schema, patience, signal, changed, superseded }: Trials,
  work: (session: Session) => Promise<void>,
): Promise<void> {
  const watched = (session: Session) => {
    if (patience) void watchOver(track, patience, session, changed);
    return work(session);
  };
  for (let failures = 0; !signal.aborted; ) {
    const before = track.position;
    const cause = await oneSession(postgres, signal, watched, {
      name: sessionsOf(epoch),
      transactionMs: TRANSACTION_MS,
      isRepeatable: true,
      ...(schema && { schema }),
    });
    if (!cause || signal.aborted) return;
    if (cause instanceof Superseded) return superseded();
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
export async function oneSession(
  postgres: pg.ClientConfig,
  signal: AbortSignal,
  work: (session: Session) => Promise<void>,
  settings?: ConnectionSettings,
): Promise<Error | undefined> {
  const session = new AbortController();
  let connection: Connection | undefined;
  let patience: NodeJS.Timeout | undefined;
  let giveUp = () => {};
  const givenUp = new Promise<void>((resolve) => {
    giveUp = resolve;
  });
  const end = () => {
    session.abort();
    patience = setTimeout(() => {
      connection?.sever();
      giveUp();
    }, STOP_PATIENCE_MS);
  };
  signal.addEventListener('abort', end, { once: true });
  let cause: Error | undefined;
  const fail = (error: Error) => {
    cause ??= error;
    session.abort();
  };
  try {
    connection = await Connection.open(postgres, fail, settings);
    // It may wait for the log, which does not end with the connection.
    await Promise.race([work({ connection, signal: session.signal, fail }), givenUp]);
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
