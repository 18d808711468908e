import type pg from 'pg';
import type { Case, Reads } from './query-cases.js';

/** A part of the program as it is built, which starting Waybill has done: entities need decorators. */
async function built<Module>(path: string): Promise<Module> {
  return (await import(new URL(`../../dist/${path}`, import.meta.url).href)) as Module;
}

/** The statements that the queries really make, explained with their own parameters, as the role that readers are. */
export async function plansOf(url: string, sql: pg.Client, cases: readonly Case[]): Promise<string> {
  const { openDatabase } = await built<typeof import('../../src/platform/database.js')>('platform/database.js');
  const { entities } = await built<typeof import('../../src/projections/entities.js')>('projections/entities.js');
  const { TenantReads } =
    await built<typeof import('../../src/projections/tenant-reads.js')>('projections/tenant-reads.js');
  const database = await openDatabase({ connection: { connectionString: url }, entities });
  const asked: { query: string; parameters: unknown[] }[] = [];
  const remember = (query: string, parameters: unknown[] = []) => void asked.push({ query, parameters });
  const silent = () => undefined;
  Object.assign(database, { logger: { logQuery: remember, logQueryError: silent, logQuerySlow: silent, log: silent } });
  const reads = await readsOf(new TenantReads(database));
  const told: string[] = [];
  try {
    for (const { title, statements } of cases) {
      asked.length = 0;
      await statements(reads);
      const made = asked.filter(({ query }) => /^\s*select/i.test(query));
      const begin = asked.find(({ query }) => query.startsWith('begin'))?.query;
      // What is asked before the count is the page it belongs to.
      const own = title.endsWith('counted') ? made.slice(1) : made;
      if (own.length === 0 || !begin) throw new Error(`${title} asked nothing`);
      told.push(`\n## ${title}\n`);
      for (const { query, parameters } of own) told.push(await explained(sql, begin, query, parameters));
    }
  } finally {
    await database.destroy();
  }
  return `${told.join('\n')}\n`;
}

async function explained(sql: pg.Client, begin: string, query: string, parameters: unknown[]): Promise<string> {
  await sql.query(begin);
  try {
    const explain = `explain (analyze, buffers, costs off, timing off) ${query}`;
    await sql.query(explain, parameters);
    // The second time what it needs is in memory.
    const { rows } = await sql.query(explain, parameters);
    return rows.map((row) => String(row['QUERY PLAN'])).join('\n');
  } finally {
    await sql.query('rollback');
  }
}

async function readsOf(reads: InstanceType<typeof import('../../src/projections/tenant-reads.js').TenantReads>) {
  type Modules = [
    typeof import('../../src/projections/deliveries-query.js'),
    typeof import('../../src/projections/legs-query.js'),
    typeof import('../../src/projections/attempts-query.js'),
    typeof import('../../src/projections/dashboard-query.js'),
    typeof import('../../src/projections/performance-query.js'),
  ];
  const [{ DeliveryQueries }, { LegQueries }, { AttemptQueries }, { DashboardQueries }, { PerformanceQueries }] =
    (await Promise.all(
      ['deliveries', 'legs', 'attempts', 'dashboard', 'performance'].map((name) =>
        built(`projections/${name}-query.js`),
      ),
    )) as Modules;
  return {
    deliveries: new DeliveryQueries(reads),
    legs: new LegQueries(reads),
    attempts: new AttemptQueries(reads),
    dashboard: new DashboardQueries(reads),
    performance: new PerformanceQueries(reads),
  } satisfies Reads;
}
