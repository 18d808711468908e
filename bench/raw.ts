import { createHmac, randomBytes, randomUUID } from 'node:crypto';
import { Pool } from 'undici';
import type { BenchReceiver } from './receiver.js';
import { payload } from './workload.js';

/** As many as Waybill opens to one receiver, and as many posts at once. */
const CONNECTIONS = 128;

const SECRET = randomBytes(32);

/**
 * The same posts alone, in a loop: made and signed, but nothing is accepted, stored or shown. No delivery service on this machine and this
 * HTTP client can be faster, so it is what the others are compared with.
 *
 * @returns posts per second
 */
export async function rawLoop(receiver: BenchReceiver, posts: number): Promise<number> {
  await receiver.forget();
  const pool = new Pool(receiver.origin, { connections: CONNECTIONS });
  const startedAt = performance.now();
  let next = 0;
  const poster = async () => {
    while (next < posts) {
      const number = next++;
      const id = randomUUID();
      const body = JSON.stringify({
        type: 'bench.event',
        timestamp: new Date().toISOString(),
        data: { deliveryId: id, data: payload(number) },
      });
      const webhookId = `${id}_1`;
      const seconds = String(Math.floor(Date.now() / 1_000));
      const signature = createHmac('sha256', SECRET).update(`${webhookId}.${seconds}.${body}`).digest('base64');
      const headers = {
        'content-type': 'application/json',
        'webhook-id': webhookId,
        'webhook-timestamp': seconds,
        'webhook-signature': `v1,${signature}`,
      };
      const answer = await pool.request({ path: '/hook', method: 'POST', headers, body });
      await answer.body.dump();
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, poster));
  const seconds = (performance.now() - startedAt) / 1_000;
  await pool.close();
  return posts / seconds;
}
