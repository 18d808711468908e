import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createNetServer, type Socket } from 'node:net';

/** What the HTTP peers have in common: they record each request, answer it, and close without waiting for anyone. */

export interface RecordedRequest {
  readonly method: string;
  /** Path with query. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** The body as it came, and the same as text. */
  readonly bytes: Buffer;
  readonly raw: string;
  readonly at: Date;
}

export interface Answer {
  readonly status?: number; // default 200
  readonly headers?: Record<string, string>;
  /** An object goes out as JSON. */
  readonly body?: string | object;
  readonly delayMs?: number;
}

/** `drop` closes the connection unanswered, `silence` leaves it open and unanswered. */
export type Reaction = Answer | 'drop' | 'silence';

export interface HttpPeer {
  /** `http://127.0.0.1:<port>` */
  readonly origin: string;
  readonly port: number;
  readonly received: RecordedRequest[];
  /** Connections opened so far. */
  connections(): number;
  close(): Promise<void>;
}

export async function startHttpPeer(
  react: (request: RecordedRequest) => Reaction | Promise<Reaction>,
  { port = 0, record = true }: { readonly port?: number; readonly record?: boolean } = {},
): Promise<HttpPeer> {
  const received: RecordedRequest[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer((incoming, response) => {
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', async () => {
      const { method = '', url: path = '/', headers } = incoming;
      const bytes = Buffer.concat(chunks);
      const request = { method, path, headers, bytes, raw: bytes.toString('utf8'), at: new Date() };
      if (record) received.push(request);
      const reaction = await react(request);
      if (reaction === 'silence') return;
      if (reaction === 'drop') return void incoming.socket.destroy();
      if (reaction.delayMs) setTimeout(() => answer(response, reaction), reaction.delayMs);
      else answer(response, reaction);
    });
  });
  server.on('connection', (socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const actual = (server.address() as AddressInfo).port;
  return {
    origin: `http://127.0.0.1:${actual}`,
    port: actual,
    received,
    connections: () => connections,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

function answer(response: ServerResponse, { status = 200, headers = {}, body = '' }: Answer): void {
  const json = typeof body !== 'string';
  response.writeHead(status, { ...(json && { 'content-type': 'application/json' }), ...headers });
  response.end(json ? JSON.stringify(body) : body);
}

/** A port of 127.0.0.1 on which nobody listens, of those that the system gives to nobody by itself. */
export async function unusedPort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 32_000);
    const server = createNetServer().listen(port, '127.0.0.1');
    const isFree = await Promise.race([
      once(server, 'listening').then(() => true),
      once(server, 'error').then(() => false),
    ]);
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}
