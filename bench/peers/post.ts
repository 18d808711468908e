import { createHmac, randomBytes } from 'node:crypto';
import { Pool } from 'undici';
import { POSTS_AT_ONCE, type Post } from './peer.js';

const SECRET = randomBytes(32);

/** The post that the raw loop makes (../raw.ts), signed as https://www.standardwebhooks.com says. No code of Waybill. */
export function postTo(origin: string): Post {
  const pool = new Pool(origin, { connections: POSTS_AT_ONCE });
  return async ({ id, data }) => {
    const body = JSON.stringify({
      type: 'bench.event',
      timestamp: new Date().toISOString(),
      data: { deliveryId: id, data },
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
    if (answer.statusCode > 299) throw new Error(`the receiver answered ${answer.statusCode}`);
  };
}
