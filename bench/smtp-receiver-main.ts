import type { AddressInfo } from 'node:net';
import { SMTPServer } from 'smtp-server';
import { monotonicMs } from './clock.js';

/**
 * The server of all mail, a program of its own so that Waybill shares no thread with it. It reads each message, notes when
 * its Message-ID came first, and keeps nothing.
 */

let arrivals = new Map<string, number>();
let requests = 0;

const server = new SMTPServer({
  ...{ authOptional: true, disabledCommands: ['STARTTLS'], disableReverseLookup: true, logger: false },
  onData: (stream, _, callback) => {
    let head = '';
    stream.on('data', (chunk: Buffer) => {
      if (head.length < 4_096) head += chunk.toString('latin1');
    });
    stream.on('end', () => {
      requests += 1;
      const id = /^message-id: <([^>]*)>/im.exec(head)?.[1] ?? `unknown ${requests}`;
      if (!arrivals.has(id)) arrivals.set(id, monotonicMs());
      callback();
    });
  },
});
server.on('error', () => undefined);
server.listen(0, '127.0.0.1', () => process.send?.((server.server.address() as AddressInfo).port));

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
process.on('SIGINT', () => undefined);
