import { once } from 'node:events';
import { PushApiModel } from 'web-push-testing/src/PushApiModel.js';
import WebPushTestingServer from 'web-push-testing/src/server.js';
import { unusedPort } from './http-peer.js';

export interface PushService {
  /** As a browser gives it to a page. */
  readonly subscription: {
    readonly endpoint: string;
    readonly keys: { readonly p256dh: string; readonly auth: string };
  };
  /** What the browser has decrypted. */
  messages(): string[];
  unsubscribe(): void;
  close(): Promise<void>;
}

/** A push service with a browser that has subscribed (web-push-testing): it verifies VAPID and decrypts. */
export async function startPushService(applicationServerKey: string): Promise<PushService> {
  const model = new PushApiModel();
  const port = await unusedPort();
  const server = new WebPushTestingServer(model, port);
  const { log } = console; // it says where it listens
  console.log = () => undefined;
  server.startServer();
  await once(server._server, 'listening');
  console.log = log;
  const { endpoint, keys, clientHash } = await model.subscribe({ userVisibleOnly: 'true', applicationServerKey });
  return {
    subscription: { endpoint: `http://127.0.0.1:${port}${new URL(endpoint).pathname}`, keys },
    messages: () => model.getNotifications({ clientHash }).messages,
    unsubscribe: () => model.expireSubscription(clientHash),
    close: () =>
      new Promise((resolve) => {
        server._server.close(() => resolve());
        server._server.closeAllConnections();
      }),
  };
}
