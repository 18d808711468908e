/** `npm run bench:queries`: how long the queries of the API take on many deliveries, and by which plans. */
import { writeFile } from 'node:fs/promises';
import pg from 'pg';
import { testDatabase } from '../../test/support/postgres.js';
import { startWaybill } from '../../test/support/waybill-process.js';
import { command, type Figure, say } from './command.js';
import { deliveryCases, otherCases } from './query-cases.js';
import { fillReadModels } from './query-data.js';
import { plansOf } from './query-plans.js';

const BUDGET = 'p99 ≤ 100 ms';
const PLANS = 'docs/query-plans.txt';

await command({
  name: 'queries',
  about: `Fills the read models with deliveries by SQL, asks each query of the API for pages of 50 with their attempts, for a page in the
middle of the list and for the count, one after the other, and writes the plans to ${PLANS} when --plans is 1.`,
  options: {
    deliveries: { default: 1_000_000, least: 1_000, most: 100_000_000, says: 'rows' },
    rounds: { default: 100, least: 0, most: 100_000, says: 'how often each query is asked' },
    plans: { default: 0, least: 0, most: 1, says: '1: write the plans' },
  },
  async run({ deliveries, rounds, plans }, cleanUp) {
    const database = await cleanUp.opened(testDatabase(), (open) => open.close());
    const waybill = await cleanUp.opened(startWaybill({ env: { DATABASE_URL: database.url } }), (open) => open.stop());
    const sql = await cleanUp.opened(connected(database.url), (open) => open.end());
    say(`filling ${deliveries} deliveries`);
    await fillReadModels(sql, deliveries);
    const cases = [...deliveryCases(deliveries), ...otherCases()];
    if (plans === 1) {
      const title = `Plans on ${deliveries} deliveries, half of them of one organization (npm run bench:queries -- --plans 1).\n`;
      await writeFile(PLANS, title + (await plansOf(database.url, sql, cases)));
      say(`plans are in ${PLANS}`);
    }
    const figures: Figure[] = [];
    for (const { title, query, variables } of rounds > 0 ? cases : []) {
      const times: number[] = [];
      for (let round = -3; round < rounds; round++) {
        const start = performance.now();
        await waybill.ask(query, variables);
        if (round >= 0) times.push(performance.now() - start);
      }
      times.sort((a, b) => a - b);
      const at = (share: number) => Math.round((times[Math.ceil(share * rounds) - 1] as number) * 10) / 10;
      const value = `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`;
      figures.push({ key: title, title, value, ...(title.startsWith('deliveries') && { budget: BUDGET }) });
      say(`${title}: ${value}`);
    }
    return figures;
  },
});

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client(url);
  await client.connect();
  return client;
}
