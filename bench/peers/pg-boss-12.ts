import { randomUUID } from 'node:crypto';
import { PgBoss } from 'pg-boss-12';
import type { OpenPeer } from './peer.js';

/**
 * The pg-boss of today. It asks for Node 22.12 and was seen to run on 20.20, too; who cannot accept
 * that has pg-boss-10.ts. Workers are woken by LISTEN/NOTIFY and fetch again at once after a full batch.
 * Source of the options: https://github.com/timgit/pg-boss/blob/master/docs/api/workers.md
 */
const QUEUE = 'deliveries';
/** Three of 500 and four of 250 need more CPU for the same. */
const OPTIONS = {
  batchSize: 1_000,
  localConcurrency: 2,
  burstWhenBatchFull: true,
  pollingIntervalSeconds: 0.5,
};

export const openPeer: OpenPeer = async (store, post) => {
  const boss = new PgBoss({ connectionString: store, schedule: false, useListenNotify: true });
  boss.on('error', (error) => console.error(error));
  await boss.start();
  await boss.createQueue(QUEUE, { notify: true });
  await boss.work<object>(QUEUE, OPTIONS, async (jobs) => {
    await Promise.all(jobs.map(post));
  });
  return {
    async accept(data) {
      const jobs = data.map((each) => ({ id: randomUUID(), data: each }));
      await boss.insert(QUEUE, jobs);
      return jobs.map(({ id }) => id);
    },
    async settled() {
      const count = 'select count(*)::int as count from pgboss.job where name = $1 and state = $2';
      const { rows } = await boss.getDb().executeSql(count, [QUEUE, 'completed']);
      return rows[0].count;
    },
  };
};
