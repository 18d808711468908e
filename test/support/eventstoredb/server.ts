import { randomUUID } from 'node:crypto';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { featuresDefinition, featuresOf } from './features.js';
import { gossipDefinition, gossipOf } from './gossip.js';
import { Store } from './store.js';
import { streamsDefinition, streamsOf } from './streams.js';
import { recordUsers, Users } from './users.js';

export interface ServerOptions {
  /** Folder of the log. */
  readonly path: string;
  /** 0: any that is free. */
  readonly port: number;
  readonly host: string;
  /** The host that the cluster's members are told under; they are this server alone. */
  readonly publicHost: string;
  /** PEM; without it there is no TLS. */
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer };
  readonly maxAppendSize: number;
}

export interface EventStoreServer {
  readonly port: number;
  /** Ends what is open, and closes the log. */
  stop(): Promise<void>;
}

/** How long calls that are not subscriptions may take to end by themselves. */
const GRACE_MS = 2_000;
/** How much more may come than is taken, so that an append that is too large is told so. */
const MESSAGE_OVERHEAD = 17 * 1024 * 1024;

/** @throws Error when the port is taken or the log cannot be opened */
export async function startServer(options: ServerOptions): Promise<EventStoreServer> {
  const { host, publicHost, tls, maxAppendSize } = options;
  const stopping = new AbortController();
  const store = await Store.open(options.path);
  await recordUsers(store);
  const server = new Server({
    'grpc.max_receive_message_length': maxAppendSize + MESSAGE_OVERHEAD,
    'grpc.max_send_message_length': -1,
  });
  let port = options.port;
  const instanceId = randomUUID();
  const users = new Users(store, tls !== undefined);
  server.addService(streamsDefinition, streamsOf({ store, users, maxAppendSize, stopping: stopping.signal }));
  server.addService(
    gossipDefinition,
    gossipOf(() => ({ instanceId, host: publicHost, port })),
  );
  server.addService(featuresDefinition, featuresOf([streamsDefinition, gossipDefinition, featuresDefinition]));
  const credentials = tls
    ? ServerCredentials.createSsl(null, [{ cert_chain: tls.cert, private_key: tls.key }])
    : ServerCredentials.createInsecure();
  try {
    port = await new Promise<number>((resolve, reject) => {
      server.bindAsync(`${host}:${options.port}`, credentials, (error, bound) =>
        error ? reject(error) : resolve(bound),
      );
    });
  } catch (error) {
    await store.close();
    throw error;
  }
  return {
    port,
    async stop() {
      stopping.abort();
      const force = setTimeout(() => server.forceShutdown(), GRACE_MS);
      await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      clearTimeout(force);
      await store.close();
    },
  };
}
