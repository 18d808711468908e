import { type AddressInfo, createServer, type Socket } from 'node:net';
import { monotonicMs } from './clock.js';

/**
 * The receiver of all posts, a program of its own so that Waybill shares no thread with it. It stands for machines of other
 * people, so it takes as little as it can of the one that is measured: node's own server takes twice as much. Of HTTP it knows
 * posts that say how long they are, on connections that stay; it notes when the id of each came first, and answers 204.
 */

/** When each webhook-id came first: when all of its post was there. */
let arrivals = new Map<string, number>();
let requests = 0;

/** A connection that is closed while a post is on its way would be measured as a retry. */
const ANSWER = 'HTTP/1.1 204 No Content\r\nconnection: keep-alive\r\nkeep-alive: timeout=60\r\n\r\n';
const NO_LENGTH = 'HTTP/1.1 411 Length Required\r\nconnection: close\r\n\r\n';
const HEAD_ENDS = '\r\n\r\n';
const LENGTH = /\r\ncontent-length: *(\d+)\r\n/i;
const ID = /\r\nwebhook-id: *([^\r]*)\r\n/i;

function receive(socket: Socket): void {
  // A unit for each byte, so that lengths are those of the wire.
  socket.setEncoding('latin1');
  socket.on('error', () => undefined); // whoever posts has gone
  let held = '';
  socket.on('data', (text: string) => {
    held = held === '' ? text : held + text;
    for (let ends = held.indexOf(HEAD_ENDS); ends >= 0; ends = held.indexOf(HEAD_ENDS)) {
      const head = held.slice(0, ends + 2);
      const length = LENGTH.exec(head)?.[1];
      if (length === undefined) return void socket.end(NO_LENGTH);
      const next = ends + HEAD_ENDS.length + Number(length);
      if (held.length < next) return;
      requests += 1;
      const id = ID.exec(head)?.[1] ?? '';
      if (!arrivals.has(id)) arrivals.set(id, monotonicMs());
      socket.write(ANSWER, 'latin1');
      held = held.slice(next);
    }
  });
}

const server = createServer({ noDelay: true }, receive);
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
