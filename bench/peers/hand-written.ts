import pg from 'pg';
import type { OpenPeer } from './peer.js';

/**
 * What one would write for nothing but this: no framework, no retry, no attempts, no history. A worker locks a batch,
 * posts it, marks it and commits, so the rows of one that crashes are free again by themselves.
 */

/** While one waits for its commit or its slowest post, the other posts. Four of 100 are not faster. */
const WORKERS = 2;
const BATCH = 250;
/** For as many requests at once; the workers have a connection each besides. */
const INSERT_CONNECTIONS = 8;

const SCHEMA = `
  create table delivery (
    id bigint generated always as identity primary key,
    status smallint not null default 0,
    body text not null,
    accepted_at timestamptz not null default now(),
    delivered_at timestamptz
  );
  create index delivery_waiting on delivery (id) where status = 0;`;

// Named, so that PostgreSQL parses each once for a connection.
const INSERT = { name: 'insert', text: 'insert into delivery (body) select unnest($1::text[]) returning id' };
const CLAIM = {
  name: 'claim',
  text: 'select id, body from delivery where status = 0 order by id limit $1 for update skip locked',
};
const SETTLE = {
  name: 'settle',
  text: 'update delivery set status = 1, delivered_at = now() where id = any($1::bigint[])',
};

export const openPeer: OpenPeer = async (store, post) => {
  const pool = new pg.Pool({ connectionString: store, max: INSERT_CONNECTIONS });
  await pool.query(SCHEMA);
  const bell = new Bell();

  const work = async () => {
    const client = new pg.Client({ connectionString: store });
    await client.connect();
    for (;;) {
      const rung = bell.rung;
      await client.query('begin');
      const { rows } = await client.query<{ id: string; body: string }>({ ...CLAIM, values: [BATCH] });
      await Promise.all(rows.map(({ id, body }) => post({ id, data: JSON.parse(body) })));
      if (rows.length > 0) await client.query({ ...SETTLE, values: [rows.map(({ id }) => id)] });
      await client.query('commit');
      if (rows.length === 0) await bell.after(rung);
    }
  };
  for (let worker = 0; worker < WORKERS; worker++) void work(); // a failure ends the process, and the bench says so

  return {
    async accept(data) {
      const bodies = data.map((each) => JSON.stringify(each));
      const { rows } = await pool.query<{ id: string }>({ ...INSERT, values: [bodies] });
      bell.ring();
      return rows.map(({ id }) => id);
    },
    async settled() {
      const { rows } = await pool.query('select count(*)::int as count from delivery where status = 1');
      return rows[0].count;
    },
  };
};

/** Wakes workers that found nothing. API and workers share a process here, so it need not go through the database. */
class Bell {
  #rung = 0;
  #waiting: (() => void)[] = [];

  get rung(): number {
    return this.#rung;
  }

  ring(): void {
    this.#rung += 1;
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** At once when it has rung since. */
  async after(rung: number): Promise<void> {
    if (this.#rung === rung) await new Promise<void>((wake) => this.#waiting.push(wake));
  }
}
