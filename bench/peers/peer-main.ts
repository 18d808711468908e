import type { AddressInfo } from 'node:net';
import fastify from 'fastify';
import { monotonicMs } from '../clock.js';
import type { OpenPeer } from './peer.js';
import { postTo } from './post.js';

/**
 * The process of one peer: a small API, the queue behind it, its workers.
 *
 *     node … peer-main.ts <file that exports openPeer> <store> <origin of the receiver>
 *
 * Tells its port when it is ready, and how many deliveries are settled whenever it is asked.
 */
const [file, store, origin] = process.argv.slice(2) as [string, string, string];

const { openPeer } = (await import(new URL(file, import.meta.url).href)) as { openPeer: OpenPeer };
const peer = await openPeer(store, postTo(origin));

/** For 1,000 deliveries at once, and then some. */
const app = fastify({ bodyLimit: 4 * 1024 * 1024 });
app.post<{ Body: object[] }>('/deliveries', async ({ body }, reply) => {
  const acceptedAt = monotonicMs();
  const ids = await peer.accept(body);
  reply.code(202);
  return { ids, acceptedAt };
});
await app.listen({ host: '127.0.0.1', port: 0 });

process.on('message', async () => process.send?.(await peer.settled()));
process.on('disconnect', () => process.exit());
// Ctrl-C is for the bench, which lets go of this when the time has come.
process.on('SIGINT', () => undefined);
process.send?.((app.server.address() as AddressInfo).port);
