import type { DataSource, QueryRunner } from 'typeorm';
import type { Organizations } from '../domain/vocabulary.js';

/**
 * The only way queries reach the read models: each in a transaction that sees the rows of the caller's organizations and
 * no others. A condition that a query forgets is then a slow query, not a leak.
 */
export class TenantReads {
  readonly #database: DataSource;

  constructor(database: DataSource) {
    this.#database = database;
  }

  /**
   * Runs one query. Nothing waits for the beginning and the end of the transaction: with the client's pipelining the
   * beginning is on its way when the query is sent, and the end is of no interest to whoever has the answer.
   */
  async as<Result>(organizations: Organizations, query: (runner: QueryRunner) => Promise<Result>): Promise<Result> {
    const runner = this.#database.createQueryRunner();
    let begun: Promise<unknown> | undefined;
    try {
      await runner.connect();
      begun = runner.query(beginAs(organizations));
      // It is awaited below, whatever comes first.
      begun.catch(() => undefined);
      const result = await query(runner);
      await begun;
      return result;
    } finally {
      void end(runner, begun);
    }
  }
}

/** Leaves the transaction before the connection goes back to the others; one that cannot is not given back. */
async function end(runner: QueryRunner, begun: Promise<unknown> | undefined): Promise<void> {
  try {
    await begun?.catch(() => undefined);
    if (begun) await runner.query('rollback');
  } catch {
    // The connection is broken: the pool finds that out by itself.
  } finally {
    await runner.release().catch(() => undefined);
  }
}

/** What an organization is called; nothing else gets into the statement, and neither `*` nor `,` is among it. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;

/** Begins a transaction that sees these organizations only: one message, without parameters. */
export function beginAs(organizations: Organizations): string {
  const names = organizations === 'all' ? '*' : organizations.filter((name) => NAME.test(name)).join(',');
  return `begin read only; set local role waybill_reader; set local waybill.organizations = '${names}'`;
}
