import { type Reaction, type RecordedRequest, startHttpPeer } from './http-peer.js';

export interface ReceivedWebhook extends RecordedRequest {
  /** The body as JSON, undefined when it is none. */
  readonly body: unknown;
}

export interface WebhookReceiver {
  readonly url: string;
  readonly port: number;
  readonly received: ReceivedWebhook[];
  /** What to answer; assign another one at any time. Default: 204 without a body. */
  respond: (webhook: ReceivedWebhook) => Reaction | Promise<Reaction>;
  /** Connections opened so far. */
  connections(): number;
  close(): Promise<void>;
}

/** A receiver of webhooks on 127.0.0.1. `record: false` for load, where keeping every body would be measured too. */
export async function startWebhookReceiver(
  options: { readonly port?: number; readonly record?: boolean; readonly respond?: WebhookReceiver['respond'] } = {},
): Promise<WebhookReceiver> {
  const received: ReceivedWebhook[] = [];
  const peer = await startHttpPeer(
    (request) => {
      const webhook = { ...request, body: parsed(request.raw) };
      if (options.record !== false) received.push(webhook);
      return receiver.respond(webhook);
    },
    { ...options, record: false },
  );
  const receiver: WebhookReceiver = {
    url: `${peer.origin}/hook`,
    port: peer.port,
    received,
    respond: options.respond ?? (() => ({ status: 204 })),
    connections: peer.connections,
    close: peer.close,
  };
  return receiver;
}

function parsed(raw: string): unknown {
  try {
    return JSON.parse(raw);
  } catch {
    return undefined;
  }
}
