import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import pg from 'pg';

/** Stands between an instance and Postgres, which in tests may have no port, and does what networks do. */
export interface PostgresProxy {
  readonly connection: pg.ClientConfig;
  /** Nothing goes through, and nothing is lost, until `heal`. */
  stall(): void;
  heal(): void;
  /** Ends all connections; there are no new ones. */
  close(): Promise<void>;
}

export async function startPostgresProxy(url: string): Promise<PostgresProxy> {
  const { host, port, user, password, database } = new pg.Client({ connectionString: url });
  const sockets = new Set<Socket>();
  let isStalled = false;
  const listener = createServer((client) => {
    const server = host.startsWith('/') ? connect(`${host}/.s.PGSQL.${port}`) : connect(port, host);
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      sockets.add(from);
      if (isStalled) from.pause();
      from.on('data', (bytes) => {
        if (!to.write(bytes)) from.pause();
      });
      to.on('drain', () => isStalled || from.resume());
      from.on('error', () => from.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  return {
    connection: {
      ...{ host: '127.0.0.1', port: (listener.address() as AddressInfo).port },
      ...{ user, password: password ?? undefined, database },
    } as pg.ClientConfig,
    stall() {
      isStalled = true;
      for (const socket of sockets) socket.pause();
    },
    heal() {
      isStalled = false;
      for (const socket of sockets) socket.resume();
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      listener.close();
      await once(listener, 'close');
    },
  };
}
