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
  /** What the server answers is thrown away, on the connections there are and on new ones, until `cut` or `heal`. */
  dropReplies(): void;
  /** Nothing goes through in either direction, and nothing is lost, until `heal`; new connections are taken and silent. */
  stall(): void;
  /** Everything goes through again. Where replies were dropped, the connection is of no use any more: `cut` it. */
  heal(): void;
  close(): Promise<void>;
}

/** Stands between a client and a server on 127.0.0.1 and does to their connections what networks do. */
export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const pairs = new Set<readonly [client: Socket, server: Socket]>();
  let accepted = 0;
  let bytesToClients = 0;
  let dropsReplies = false;
  let isStalled = false;

  const listener = createServer((client) => {
    accepted++;
    const server = connect(targetPort, '127.0.0.1');
    const pair = [client, server] as const;
    pairs.add(pair);
    for (const [from, to] of [pair, [server, client] as const]) {
      from.setNoDelay(true);
      from.on('data', (bytes) => {
        if (from === server && dropsReplies) return;
        if (from === server) bytesToClients += bytes.length;
        // A slow reader on one side slows the other side down, as it would without a proxy.
        if (!to.write(bytes)) from.pause();
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
