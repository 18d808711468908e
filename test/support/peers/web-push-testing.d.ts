declare module 'web-push-testing/src/server.js' {
  export default class WebPushTestingServer {
    constructor(model: object, port: number);
    startServer(): void;
    readonly _server: import('node:http').Server;
  }
}
declare module 'web-push-testing/src/PushApiModel.js' {
  export class PushApiModel {
    subscribe(options: object): Promise<{
      endpoint: string;
      clientHash: string;
      keys: { p256dh: string; auth: string };
    }>;
    expireSubscription(clientHash: string): void;
    getNotifications(query: { clientHash: string }): { messages: string[] };
  }
}
