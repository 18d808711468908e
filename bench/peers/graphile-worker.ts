import { randomUUID } from 'node:crypto';
import { Logger, makeWorkerUtils, run } from 'graphile-worker';
import pg from 'pg';
import { type Delivery, type OpenPeer, POSTS_AT_ONCE } from './peer.js';

/**
 * Graphile Worker with the batching of https://worker.graphile.org/docs/performance#batching. It deletes a job that is
 * done, so "delivered" is: stored once and gone. There is no status to ask for afterwards, which saves it a write.
 */
const WORKER = {
  concurrentJobs: POSTS_AT_ONCE,
  // As on that page. 129 (jobs at once + 1, its other advice) was slower, 1,000 not faster.
  localQueue: { size: 500 },
  // Milliseconds. That page has 0 and the reference 250: at 0 every job of a quiet time is a transaction of its own.
  completeJobBatchDelay: 20,
  failJobBatchDelay: 20,
};
/** The page has one more than jobs at once; with batches a few are ever busy, and the server has 50. */
const CONNECTIONS = 25;

const logger = new Logger(() => (level, message) => {
  if (level === 'error') console.error(message);
});

export const openPeer: OpenPeer = async (store, post) => {
  const pgPool = new pg.Pool({ connectionString: store, max: CONNECTIONS });
  pgPool.on('error', (error) => console.error(error));
  pgPool.on('connect', (client) => client.on('error', (error) => console.error(error)));
  const utils = await makeWorkerUtils({ pgPool, logger });
  await utils.migrate();
  await run({
    ...{ pgPool, logger, noHandleSignals: true },
    preset: { worker: WORKER },
    taskList: { post: (payload) => post(payload as Delivery) },
  });
  let accepted = 0;
  return {
    async accept(data) {
      const deliveries = data.map((each) => ({ id: randomUUID(), data: each }));
      await utils.addJobs(deliveries.map((payload) => ({ identifier: 'post', payload })));
      accepted += deliveries.length;
      return deliveries.map(({ id }) => id);
    },
    async settled() {
      const { rows } = await pgPool.query('select count(*)::int as count from graphile_worker.jobs');
      return accepted - rows[0].count;
    },
  };
};
