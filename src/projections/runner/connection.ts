import { Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import pg from 'pg';
import type { Statement } from '../columns.js';

export interface ConnectionSettings {
  /** What an operator sees in pg_stat_activity. Default `waybill-projections`. */
  readonly name?: string;
  /** Default 60 s for a statement; what hangs longer (a dead network, a forgotten lock) is given up and tried again. */
  readonly statementMs?: number;
  /** Default none. */
  readonly transactionMs?: number;
  /** Default none. Where tables are looked for before they are looked for where they live. */
  readonly schema?: string;
  /** Default false. What is written can be made again from the log: a crash of Postgres may take back the last of it. */
  readonly isRepeatable?: boolean;
}

/** A process that is stopped in the middle of a transaction keeps its locks no longer than this. */
const IDLE_IN_TRANSACTION_MS = 10_000;

export class StatementFailed extends Error {
  override name = 'StatementFailed';
  /** SQLSTATE, if Postgres has answered. */
  readonly code: string;

  /** @param statement undefined when the transaction could not begin or end */
  constructor(
    readonly statement: Statement | undefined,
    override readonly cause: Error,
  ) {
    super(cause.message);
    this.code = (cause as { code?: string }).code ?? '';
  }
}

/** SQLSTATE classes 22 (data exception), 23 (integrity) and 54 (limit exceeded, e.g. an index entry that is too long). */
export const isAboutData = ({ code }: StatementFailed): boolean => /^(22|23|54)/.test(code);

/**
 * `copy … from stdin` whose rows are sent with it, without waiting for Postgres to ask for them: where it refuses the
 * statement it passes over them (https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-COPY).
 */
class Copy extends pg.Query {
  readonly #text: string;
  readonly #rows: Buffer;

  constructor(text: string, rows: Buffer, done: (error: Error | undefined) => void) {
    super(text, done);
    this.#text = text;
    this.#rows = rows;
  }

  override submit = (connection: pg.Connection): void => {
    const { stream } = connection;
    const to = connection as pg.Connection & CopyIn;
    stream.cork();
    to.query(this.#text);
    for (let at = 0; at < this.#rows.length; at += CHUNK_BYTES)
      to.sendCopyFromChunk(this.#rows.subarray(at, at + CHUNK_BYTES));
    to.endCopyFrom();
    stream.uncork();
  };

  /** They are on their way. */
  handleCopyInResponse(): void {}
}

interface CopyIn {
  query(text: string): void;
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
}

const CHUNK_BYTES = 65_536;

/** One connection to Postgres for one writer of read models. */
export class Connection {
  readonly #client: pg.Client;
  readonly #socket: Socket;

  private constructor(client: pg.Client, socket: Socket) {
    this.#client = client;
    this.#socket = socket;
  }

  /** @param lost is called when the connection breaks, whether or not it is in use */
  static async open(
    options: pg.ClientConfig,
    lost: (error: Error) => void,
    {
      name = 'waybill-projections',
      statementMs = 60_000,
      transactionMs = 0,
      schema,
      isRepeatable = false,
    }: ConnectionSettings = {},
  ): Promise<Connection> {
    const socket = new Socket();
    const client = new pg.Client({
      ...options,
      stream: () => socket,
      application_name: name,
      keepAlive: true,
      pipeline: true,
      connectionTimeoutMillis: 10_000,
      statement_timeout: statementMs,
      query_timeout: statementMs + 5_000,
      idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
    });
    let opened = false;
    client.on('error', (error) => opened && lost(error));
    client.on('end', () => opened && lost(new Error('the connection to Postgres was closed')));
    try {
      await client.connect();
      await client.query(`set timezone = 'UTC'`);
      // What a crash of Postgres takes back is a whole number of batches with their checkpoints: they are applied again.
      if (isRepeatable) await client.query('set synchronous_commit = off');
      // It also ends the transaction of a process that was stopped in the middle of a statement, unless that is a copy.
      // Postgres has it from version 17 on. Where it does not help, the next writer does (see Lease).
      await client.query(`select set_config(name, $1, false) from pg_settings where name = 'transaction_timeout'`, [
        String(transactionMs),
      ]);
      if (schema !== undefined)
        await client.query(`select set_config('search_path', $1 || ', ' || current_setting('search_path'), false)`, [
          schema,
        ]);
    } catch (error) {
      await client.end().catch(() => {});
      throw error;
    }
    opened = true;
    return new Connection(client, socket);
  }

  /** From now on, as long as the connection lives. @param hear must not throw */
  async listen(channel: string, hear: (payload: string) => void): Promise<void> {
    this.#client.on('notification', ({ payload }) => hear(payload ?? ''));
    await this.#client.query(`listen ${channel}`);
  }

  async query<Row extends pg.QueryResultRow>(query: string | Statement, values?: unknown[]): Promise<Row[]> {
    return (await this.#client.query<Row>(query as string, values)).rows;
  }

  /** @returns how many rows the statement has changed */
  async execute(query: string | Statement, values?: unknown[]): Promise<number> {
    return (await this.#client.query(query as string, values)).rowCount ?? 0;
  }

  async transaction<T>(work: () => Promise<T>, mode = ''): Promise<T> {
    await this.#client.query(`begin ${mode}`);
    try {
      const result = await work();
      await this.#client.query('commit');
      return result;
    } catch (error) {
      // Fails only together with the connection, which undoes the transaction as well.
      await this.#client.query('rollback').catch(() => {});
      throw error;
    }
  }

  /**
   * Runs statements in one transaction, all sent at once: Postgres never waits between them for this thread, which
   * prepares the next batch meanwhile. After one fails Postgres refuses the rest and turns the commit into a rollback.
   * That holds only because nothing can fail on this side, where the commit would go out all the same: parameters are
   * buffers, strings and arrays of strings, and a statement's name stands for one text.
   *
   * @throws StatementFailed for the first that fails
   */
  async batch(statements: readonly Statement[]): Promise<void> {
    const all = ['begin', ...statements, 'commit'].map((statement) => this.#send(statement));
    const failed = (await Promise.allSettled(all)).findIndex(({ status }) => status === 'rejected');
    if (failed < 0) return;
    const cause = await all[failed]?.catch((error: Error) => error);
    throw new StatementFailed(statements[failed - 1], cause as unknown as Error);
  }

  #send(statement: string | Statement): Promise<unknown> {
    if (typeof statement === 'string' || !statement.rows) return this.#client.query(statement as string);
    const { text, rows } = statement;
    return new Promise((resolve, reject) => {
      this.#client.query(new Copy(text, rows, (error) => (error ? reject(error) : resolve(undefined))));
    });
  }

  /**
   * When what was sent is on its way. A large batch leaves in pieces, each in a turn of the event loop: whoever goes on
   * preparing the next one before that makes Postgres wait for it.
   */
  async flushed(): Promise<void> {
    await nextTurn();
    const socket = this.#socket;
    if (!socket.writableNeedDrain) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        socket.off('drain', done);
        socket.off('close', done);
        resolve();
      };
      socket.on('drain', done);
      socket.on('close', done);
    });
  }

  /** Ends it at once, whatever it waits for; Postgres undoes a transaction that is not committed. */
  sever(): void {
    this.#socket.destroy();
  }

  async close(): Promise<void> {
    this.#client.removeAllListeners('end');
    await this.#client.end().catch(() => {});
  }
}
