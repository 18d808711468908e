import { randomUUID } from 'node:crypto';
import PgBoss from 'pg-boss';
import type { OpenPeer } from './peer.js';

/**
 * The newest pg-boss that supports Node 20. Its workers sleep out their polling interval even after a full batch, so they
 * are woken by `notifyWorker` (https://timgit.github.io/pg-boss/#/./api/workers): after a full batch, and one of them
 * after each insert, which works because they share a process with the API.
 */
const QUEUE = 'deliveries';
/** Each fetch sorts all that waits, so few and large ones: with 500 PostgreSQL needs half as much CPU again. */
const WORKERS = 2;
const BATCH = 2_000;

export const openPeer: OpenPeer = async (store, post) => {
  const boss = new PgBoss({ connectionString: store, schedule: false });
  boss.on('error', (error) => console.error(error));
  await boss.start();
  await boss.createQueue(QUEUE);

  const options = { batchSize: BATCH, pollingIntervalSeconds: 0.5, priority: false };
  const startWorker = async () => {
    const id: string = await boss.work<object>(QUEUE, options, async (jobs) => {
      if (jobs.length === BATCH) boss.notifyWorker(id);
      await Promise.all(jobs.map(post));
    });
    return id;
  };
  const workers = await Promise.all(Array.from({ length: WORKERS }, startWorker));

  let turn = 0;
  return {
    async accept(data) {
      const jobs = data.map((each) => ({ name: QUEUE, id: randomUUID(), data: each }));
      await boss.insert(jobs);
      turn = (turn + 1) % WORKERS;
      boss.notifyWorker(workers[turn] as string);
      return jobs.map(({ id }) => id);
    },
    async settled() {
      const count = 'select count(*)::int as count from pgboss.job where name = $1 and state = $2';
      const { rows } = await boss.getDb().executeSql(count, [QUEUE, 'completed']);
      return rows[0].count;
    },
  };
};
