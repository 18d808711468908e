import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface TcpProxy {
  readonly port: number;
  /** Connections that were accepted so far. */
  readonly accepted: number;
  /** What all clients together were sent. */
  readonly bytesToClients: number;
  /** Cuts all connections; new ones are taken. */
  cut(): void;
  /** Each piece of what the server sends comes so much later; 0 ends it. */
  slow(ms: number): void;
  /** What the server answers is thrown away, on the connections there are and on new ones, until `cut` or `heal`. */
  dropReplies(): void;
  /** Nothing goes through in either direction, and nothing is lost, until `heal`; new connections are taken and silent. */
  stall(): void;
  /** Everything goes through again. Where replies were dropped, the connection is of no use any more: `cut` it. */
  heal(): void;
  close(): Promise<void>;
}

/**
 * Stands between a client and a server and does to their connections what networks do.
 *
 * @param target the server's port on 127.0.0.1, or the path of its socket
 */
export async function startTcpProxy(target: number | string): Promise<TcpProxy> {
  const pairs = new Set<readonly [client: Socket, server: Socket]>();
  let accepted = 0;
  let bytesToClients = 0;
  let dropsReplies = false;
  let isStalled = false;
  let delayMs = 0;

  const listener = createServer((client) => {
    accepted++;
    const server = typeof target === 'string' ? connect(target) : connect(target, '127.0.0.1');
    const pair = [client, server] as const;
    pairs.add(pair);
    for (const [from, to] of [pair, [server, client] as const]) {
      from.setNoDelay(true);
      from.on('data', (bytes) => {
        if (from === server && dropsReplies) return;
        if (from === server) bytesToClients += bytes.length;
        // A slow reader on one side slows the other side down, as it would without a proxy.
        const pass = () => {
          if (!to.destroyed && !to.write(bytes)) from.pause();
        };
        // Timers of the same length go off in the order in which they were set, so the order of bytes is kept.
        if (from === server && delayMs > 0) setTimeout(pass, delayMs);
        else pass();
      });
      to.on('drain', () => {
        if (!isStalled) from.resume();
      });
      from.on('error', () => from.destroy());
      from.on('close', () => {
        to.destroy();
        pairs.delete(pair);
      });
    }
    if (isStalled) for (const socket of pair) socket.pause();
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');

  const cut = () => {
    dropsReplies = false;
    for (const [client] of pairs) client.resetAndDestroy();
  };
  return {
    port: (listener.address() as AddressInfo).port,
    get accepted() {
      return accepted;
    },
    get bytesToClients() {
      return bytesToClients;
    },
    cut,
    slow(ms) {
      delayMs = ms;
    },
    dropReplies() {
      dropsReplies = true;
    },
    stall() {
      isStalled = true;
      for (const pair of pairs) for (const socket of pair) socket.pause();
    },
    heal() {
      isStalled = false;
      dropsReplies = false;
      for (const pair of pairs) for (const socket of pair) socket.resume();
    },
    async close() {
      cut();
      listener.close();
      await once(listener, 'close');
    },
  };
}
