import { randomUUID } from 'node:crypto';
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { type Delivery, type OpenPeer, POSTS_AT_ONCE } from './peer.js';

/**
 * BullMQ as https://docs.bullmq.io/guide/workers/concurrency and …/guide/queues/adding-bulks advise for work that waits
 * for others: one worker with many jobs at once, jobs added in bulk. Its batches are in the paid edition only. Completed
 * jobs stay, which is the default and what makes their status durable.
 *
 * 64 jobs at once were slower, 256 and 512 not faster; ioredis' automatic pipelining cost a third of the rate.
 */
export const openPeer: OpenPeer = async (store, post) => {
  // Null: as workers must have it. Source: https://docs.bullmq.io/guide/connections
  const connect = () => new Redis(store, { maxRetriesPerRequest: null });
  const queue = new Queue<Delivery>('deliveries', { connection: connect() });
  const worker = new Worker<Delivery>('deliveries', ({ data }) => post(data), {
    connection: connect(),
    concurrency: POSTS_AT_ONCE,
  });
  worker.on('error', (error) => console.error(error));
  await worker.waitUntilReady();
  return {
    async accept(data) {
      const jobs = data.map((each) => ({ name: 'post', data: { id: randomUUID(), data: each } }));
      await queue.addBulk(jobs);
      return jobs.map((job) => job.data.id);
    },
    settled: () => queue.getCompletedCount(),
  };
};
