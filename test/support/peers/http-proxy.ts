import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';

/** An HTTP proxy on 127.0.0.1 that makes tunnels (CONNECT), for one login where it is given one. */

export interface HttpProxy {
  readonly url: string;
  readonly port: number;
  /** What tunnels were asked for, each with the login. */
  readonly asked: { readonly authority: string; readonly authorization: string | undefined }[];
  close(): Promise<void>;
}

export interface HttpProxyOptions {
  readonly login?: string;
  /** What every request for a tunnel is answered with. Default: 200, and the tunnel. */
  readonly status?: number;
  /** Speaks TLS with this certificate. */
  readonly tls?: { readonly key: string; readonly cert: string };
  /** Answers when the server behind the tunnel has begun to talk, and both in one packet. */
  readonly isLate?: boolean;
}

export async function startHttpProxy(options: HttpProxyOptions = {}): Promise<HttpProxy> {
  const asked: HttpProxy['asked'] = [];
  const sockets = new Set<Socket>();
  const keep = (socket: Socket) => {
    sockets.add(socket);
    return socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
  };
  const refuse = (_: IncomingMessage, response: ServerResponse) => void response.writeHead(405).end();
  const server = options.tls ? createSecureServer(options.tls, refuse) : createServer(refuse);
  server.on('connection', keep);
  server.on('connect', ({ url: authority = '', headers }: IncomingMessage, client: Socket) => {
    const authorization = headers['proxy-authorization'];
    asked.push({ authority, authorization });
    const expected = options.login && `Basic ${Buffer.from(options.login).toString('base64')}`;
    if (authorization !== expected) return client.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n');
    if (options.status) return client.end(`HTTP/1.1 ${options.status} No\r\n\r\n`);
    const { hostname, port } = new URL(`http://${authority}`);
    const target = keep(connect(Number(port || 80), hostname));
    target.once(options.isLate ? 'data' : 'connect', (first = Buffer.alloc(0)) => {
      client.write(Buffer.concat([Buffer.from('HTTP/1.1 200 Connection established\r\n\r\n'), first]));
      target.pipe(client).pipe(target);
    });
    target.once('close', () => client.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    ...{ url: `${options.tls ? 'https' : 'http'}://127.0.0.1:${port}`, port, asked },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}
