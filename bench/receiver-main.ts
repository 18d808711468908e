import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { monotonicMs } from './clock.js';

/**
 * The receiver of all posts, a program of its own so that Waybill shares no thread with it. It does as little as a
 * receiver can: reads the request, notes when its id came first, answers 204.
 */

/** When each webhook-id came first. The time is taken when the headers are read, a moment after the first byte. */
let arrivals = new Map<string, number>();
let requests = 0;

const server = createServer((request, response) => {
  requests += 1;
  const id = request.headers['webhook-id'] as string;
  if (!arrivals.has(id)) arrivals.set(id, monotonicMs());
  request.on('end', () => response.writeHead(204).end());
  request.resume();
});
// A connection that is closed while a post is on its way would be measured as a retry.
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port));

process.on('message', (question: 'count' | 'arrivals' | 'forget') => {
  if (question === 'count') process.send?.({ requests, distinct: arrivals.size });
  else if (question === 'arrivals') process.send?.([...arrivals]);
  else {
    arrivals = new Map();
    requests = 0;
    process.send?.('forgotten');
  }
});
process.on('disconnect', () => process.exit());
// Ctrl-C is for the bench, which stops what posts here before it lets go of this.
process.on('SIGINT', () => undefined);
