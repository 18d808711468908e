import type { KeyObject } from 'node:crypto';
import { createSecureServer, createServer, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { jwtVerify } from 'jose';

export interface ApnsNotification {
  readonly device: string;
  readonly headers: IncomingHttpHeaders;
  readonly payload: Readonly<Record<string, unknown>>;
}

export interface ApnsAnswer {
  readonly status: number;
  readonly reason?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface ApnsRecorder {
  readonly url: string;
  readonly port: number;
  /** All requests, also the refused ones. */
  readonly requests: ApnsNotification[];
  readonly received: ApnsNotification[];
  /** Answers instead of Apple; undefined lets the request through. */
  respond: (request: ApnsNotification) => ApnsAnswer | 'drop' | 'silence' | 'refuse' | undefined;
  /** Connections opened so far. */
  connections(): number;
  /** Tells every connection that it is to be used no more, as Apple does before maintenance. */
  goAway(): void;
  close(): Promise<void>;
}

/**
 * Answers as Apple's documentation says (https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns):
 * HTTP/2, in clear text or over TLS, with a token that `publicKey` verifies.
 */
export async function startApnsRecorder(
  publicKey: KeyObject,
  { teamId, keyId, topic }: { readonly teamId: string; readonly keyId: string; readonly topic: string },
  tls?: { readonly key: string; readonly cert: string },
): Promise<ApnsRecorder> {
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = tls ? createSecureServer(tls) : createServer();
  const sessions = new Set<{ goaway(): void }>();
  server.on('session', (session) => sessions.add(session));
  server.on(tls ? 'secureConnection' : 'connection', (socket: Socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  server.on('sessionError', () => undefined);
  server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const chunks: Buffer[] = [];
    stream.on('error', () => undefined);
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', async () => {
      const device = String(headers[':path']).replace('/3/device/', '');
      const request = { device, headers, payload: JSON.parse(Buffer.concat(chunks).toString()) };
      recorder.requests.push(request);
      const reaction = recorder.respond(request) ?? (await answer(request));
      if (reaction === 'silence' || stream.destroyed) return;
      if (reaction === 'drop') {
        for (const socket of sockets) socket.destroy();
        return;
      }
      if (reaction === 'refuse') return stream.close(0x7); // REFUSED_STREAM
      const { status, reason, headers: more } = reaction;
      stream.respond({ ':status': status, 'apns-id': headers['apns-id'] ?? crypto.randomUUID(), ...more });
      stream.end(reason === undefined ? undefined : JSON.stringify({ reason }));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const recorder: ApnsRecorder = {
    url: `${tls ? 'https' : 'http'}://127.0.0.1:${port}`,
    port,
    requests: [],
    received: [],
    respond: () => undefined,
    connections: () => connections,
    goAway: () => {
      for (const session of sessions) session.goaway();
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };

  async function answer(request: ApnsNotification): Promise<ApnsAnswer> {
    const { headers, device, payload } = request;
    const [, token = ''] = /^bearer (.+)$/.exec(headers.authorization ?? '') ?? [];
    if (token === '') return { status: 403, reason: 'MissingProviderToken' };
    const verified = await jwtVerify(token, publicKey, { issuer: teamId, maxTokenAge: '1h' }).catch(() => undefined);
    if (verified?.protectedHeader.kid !== keyId) return { status: 403, reason: 'InvalidProviderToken' };
    if (headers['apns-topic'] !== topic) return { status: 400, reason: 'TopicDisallowed' };
    if (!/^[0-9a-f]{64,200}$/i.test(device) || /^0+$/.test(device)) return { status: 400, reason: 'BadDeviceToken' };
    if (Buffer.byteLength(JSON.stringify(payload)) > 4_096) return { status: 413, reason: 'PayloadTooLarge' };
    if (headers['apns-push-type'] === 'background' && headers['apns-priority'] === '10')
      return { status: 400, reason: 'BadPriority' };
    recorder.received.push(request);
    return { status: 200 };
  }
  return recorder;
}
