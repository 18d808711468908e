/** `npm run bench:queries`: how long the queries of the API take on many deliveries, and by which plans. */
import { writeFile } from 'node:fs/promises';
import pg from 'pg';
import type { DeliveryFilter } from '../../src/projections/deliveries-query.js';
import { testDatabase } from '../../test/support/postgres.js';
import { startWaybill } from '../../test/support/waybill-process.js';
import { command, type Figure, say } from './command.js';
import { DESTINATIONS, fillReadModels, ORGANIZATIONS, TAGS } from './query-data.js';

const random = (most: number): number => Math.floor(Math.random() * most);
const organizationId = (): string => `bench-${random(ORGANIZATIONS)}`;
const destinationId = (): string => `d0000000-0000-4000-8000-${String(random(DESTINATIONS)).padStart(12, '0')}`;
const daysAgo = (days: number): string => new Date(Date.now() - days * 86_400_000).toISOString();
const BUDGET = 'p99 ≤ 100 ms';

/** The filters of `deliveries`, each as clients use it. */
const FILTERS: Readonly<Record<string, (deliveries: number) => DeliveryFilter>> = {
  'the newest of an organization': () => ({ organizationId: organizationId() }),
  'the newest of all': () => ({}),
  'of a day': () => ({ organizationId: organizationId(), requestedAfter: daysAgo(20), requestedBefore: daysAgo(19) }),
  failed: () => ({ organizationId: organizationId(), status: ['FAILED'] }),
  'held, of all': () => ({ status: ['HELD'] }),
  'by tag': () => ({ organizationId: organizationId(), tag: `tag-${random(TAGS)}` }),
  'by destination': () => ({ organizationId: organizationId(), destinationId: destinationId() }),
  'by correlation': (deliveries) => ({ correlationId: `order-${1 + random(deliveries)}` }),
  'dead letters': () => ({ organizationId: organizationId(), deadLettered: true }),
  'that wait for an approval': () => ({ organizationId: organizationId(), awaitingApproval: true }),
  'that wait for ada': () => ({ approver: 'ada' }),
};

const LIST = `query ($filter: DeliveryFilter, $after: String) { deliveries(filter: $filter, after: $after, first: 50) {
  edges { node { id status requestedAt legs { channel status } attempts { number status } } } pageInfo { endCursor } } }`;
type Listed = { deliveries: { pageInfo: { endCursor: string | null } } };

await command({
  name: 'queries',
  about: `Fills the read models with deliveries by SQL, asks for pages of 50 of them with their attempts through GraphQL, one after the
other, and writes the plan of each query to docs/query-plans.txt when --plans is 1.`,
  options: {
    deliveries: { default: 1_000_000, least: 1_000, most: 100_000_000, says: 'rows' },
    rounds: { default: 200, least: 10, most: 100_000, says: 'how often each query is asked' },
    plans: { default: 0, least: 0, most: 1, says: '1: write the plans' },
  },
  async run({ deliveries, rounds, plans }, cleanUp) {
    const database = await cleanUp.opened(testDatabase(), (open) => open.close());
    const waybill = await cleanUp.opened(startWaybill({ env: { DATABASE_URL: database.url } }), (open) => open.stop());
    const sql = await cleanUp.opened(connected(database.url), (open) => open.end());
    say(`filling ${deliveries} deliveries`);
    await fillReadModels(sql, deliveries);
    const figures: Figure[] = [];
    const measure = async (title: string, once: () => Promise<unknown>) => {
      for (let warm = 0; warm < 5; warm++) await once();
      const times: number[] = [];
      for (let round = 0; round < rounds; round++) {
        const start = performance.now();
        await once();
        times.push(performance.now() - start);
      }
      times.sort((a, b) => a - b);
      const at = (share: number) => Math.round((times[Math.ceil(share * rounds) - 1] as number) * 10) / 10;
      figures.push({ key: title, title, value: `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`, budget: BUDGET });
      say(`${title}: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`);
    };
    for (const [title, filterOf] of Object.entries(FILTERS))
      await measure(`deliveries ${title}`, () => waybill.ask(LIST, { filter: filterOf(deliveries) }));
    const deep = Buffer.from(`${daysAgo(15)} ffffffff-ffff-4fff-bfff-ffffffffffff bench-0`).toString('base64url');
    await measure('deliveries, deep in the list', () =>
      waybill.ask<Listed>(LIST, { filter: { organizationId: 'bench-0' }, after: deep }),
    );
    const lists = [
      ['legs', 'legs(filter: { organizationId: $o }, first: 50)'],
      ['dead letters', 'deadLetters(filter: { organizationId: $o }, first: 50)'],
      ['legs at risk', 'slaLegs(what: AT_RISK, organizationId: $o, first: 50)'],
    ] as const;
    for (const [title, call] of lists)
      await measure(title, () =>
        waybill.ask(`query ($o: ID!) { ${call} { edges { node { deliveryId status } } } }`, { o: organizationId() }),
      );
    if (plans === 1) await writeFile('docs/query-plans.txt', await plansOf(database.url, sql, deliveries));
    return figures;
  },
});

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client(url);
  await client.connect();
  return client;
}

/** A part of the program as it is built, which starting Waybill has done: entities need decorators. */
async function built<Module>(path: string): Promise<Module> {
  return (await import(new URL(`../../dist/${path}`, import.meta.url).href)) as Module;
}

/** The statements that the queries really make, explained with their own parameters, as the role that readers are. */
async function plansOf(url: string, sql: pg.Client, deliveries: number): Promise<string> {
  const { openDatabase } = await built<typeof import('../../src/platform/database.js')>('platform/database.js');
  const { entities } = await built<typeof import('../../src/projections/entities.js')>('projections/entities.js');
  const { AttemptQueries } = await built<typeof import('../../src/projections/attempts-query.js')>(
    'projections/attempts-query.js',
  );
  const { DeliveryQueries } = await built<typeof import('../../src/projections/deliveries-query.js')>(
    'projections/deliveries-query.js',
  );
  const { LegQueries } = await built<typeof import('../../src/projections/legs-query.js')>('projections/legs-query.js');
  const { beginAs, TenantReads } =
    await built<typeof import('../../src/projections/tenant-reads.js')>('projections/tenant-reads.js');
  const database = await openDatabase({ connection: { connectionString: url }, entities });
  const asked: { query: string; parameters: unknown[] }[] = [];
  const remember = (query: string, parameters: unknown[] = []) => void asked.push({ query, parameters });
  const silent = () => undefined;
  Object.assign(database, { logger: { logQuery: remember, logQueryError: silent, logQuerySlow: silent, log: silent } });
  const reads = new TenantReads(database);
  const [lists, legs, attempts] = [new DeliveryQueries(reads), new LegQueries(reads), new AttemptQueries(reads)];
  const scope = ['bench-0'];
  const questions: [string, () => Promise<unknown>][] = [
    ...Object.entries(FILTERS).map(([title, filterOf]): [string, () => Promise<unknown>] => [
      `deliveries ${title}`,
      () => lists.list({ ...filterOf(deliveries), organizationId: null }, scope),
    ]),
    ['legs', () => legs.list({}, scope)],
    ['dead letters', () => legs.list({ deadLettered: true }, scope)],
    ['legs at risk', () => legs.sla({ what: 'at-risk', withinSeconds: 300 }, scope)],
    ['legs that broke their service level', () => legs.sla({ what: 'breached', withinSeconds: 0 }, scope)],
    ['attempts', () => attempts.list({}, scope)],
  ];
  const told: string[] = [`Plans on ${deliveries} deliveries, as an organization with half of them asks.`];
  try {
    for (const [title, ask] of questions) {
      asked.length = 0;
      await ask();
      const made = asked.find(({ query }) => /^\s*select/i.test(query));
      if (!made) throw new Error(`${title} asked nothing`);
      await sql.query(beginAs(scope));
      const { rows } = await sql.query(
        `explain (analyze, buffers, costs off, timing off) ${made.query}`,
        made.parameters,
      );
      await sql.query('rollback');
      told.push(`\n## ${title}\n`, ...rows.map((row) => String(row['QUERY PLAN'])));
    }
  } finally {
    await database.destroy();
  }
  return `${told.join('\n')}\n`;
}
