import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import { isIP, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { withDeadline } from '../deadline.js';
import { abortReason } from '../outcome.js';
import type { Egress } from './egress.js';
import type { HttpRequest, HttpResult } from './http.js';
import type { ProxyServer } from './ways-out.js';

/** HTTP/2 (RFC 9113) for providers that speak nothing else: one connection for many requests at once. */

export interface Http2Request extends Omit<HttpRequest, 'headers' | 'keepBytes' | 'signal'> {
  readonly signal: AbortSignal;
  readonly headers: Readonly<Record<string, string>>;
  /** Requests share a connection when they have this, the origin and the proxy in common. */
  readonly connectionKey: string;
  readonly proxy: ProxyServer | undefined;
}

/** Connections kept open; beyond it the one unused for longest is closed once it is done. */
const CONNECTIONS = 100;
/** Closed after so long without a request. Apple wants connections to be kept, and drops idle ones itself after an hour. */
const IDLE_MS = 15 * 60_000;
/** Bound on TCP connect, TLS handshake and the first frame of the other side together. */
const OPEN_TIMEOUT_MS = 10_000;
/** Answers are short reasons. */
const KEEP_BYTES = 4_096;

export class Http2Connections {
  readonly #egress: Egress;
  /** In order of last use. */
  readonly #sessions = new Map<string, Promise<ClientHttp2Session>>();

  constructor(egress: Egress) {
    this.#egress = egress;
  }

  /** Never rejects. */
  request(request: Http2Request): Promise<HttpResult> {
    return withDeadline(request.timeoutMs, request.signal, (signal) => this.#request(request, signal));
  }

  async #request(request: Http2Request, signal: AbortSignal): Promise<HttpResult> {
    const { origin, connectionKey, proxy } = request;
    const key = JSON.stringify([origin, connectionKey, proxy]);
    try {
      signal.throwIfAborted();
      const session = await Promise.race([this.#session(key, origin, proxy), aborted(signal)]);
      const result = await exchange(session, request, signal);
      // A connection that left a request unanswered may be half open: the next request gets another one.
      if (result.kind === 'silence' && signal.aborted && !request.signal.aborted) this.#drop(key, session);
      return result;
    } catch (error) {
      return { kind: 'silence', error: signal.aborted ? abortReason(signal) : error, sent: false };
    }
  }

  /** Resolves when every connection is closed. Requests under way are finished first. */
  async close(): Promise<void> {
    const open = await Promise.allSettled(this.#sessions.values());
    await Promise.all(
      open.map((each) => each.status === 'fulfilled' && new Promise<void>((done) => closed(each.value, done))),
    );
  }

  #session(key: string, origin: string, proxy: ProxyServer | undefined): Promise<ClientHttp2Session> {
    const known = this.#sessions.get(key);
    this.#sessions.delete(key);
    const session = known ?? this.#open(key, origin, proxy);
    this.#sessions.set(key, session);
    if (this.#sessions.size > CONNECTIONS) {
      const [oldest, unused] = this.#sessions.entries().next().value as [string, Promise<ClientHttp2Session>];
      this.#sessions.delete(oldest);
      unused.then((each) => each.close()).catch(() => undefined);
    }
    return session;
  }

  #open(key: string, origin: string, proxy: ProxyServer | undefined): Promise<ClientHttp2Session> {
    const opening = openSession(this.#egress, new URL(origin), proxy).then((session) => {
      const forget = () => this.#sessions.get(key) === opening && this.#sessions.delete(key);
      // After GOAWAY the requests that were taken are answered, and new ones need another connection.
      session.on('goaway', forget).on('close', forget).on('error', forget);
      if (session.closed) forget();
      session.setTimeout(IDLE_MS, () => session.close());
      return session;
    });
    opening.catch(() => this.#sessions.get(key) === opening && this.#sessions.delete(key));
    return opening;
  }

  #drop(key: string, session: ClientHttp2Session): void {
    this.#sessions.delete(key);
    session.close();
  }
}

/** Resolves when the other side has sent its settings, so that a port on which something else listens is found out. */
async function openSession(
  egress: Egress,
  { protocol, hostname, port, origin }: URL,
  proxy: ProxyServer | undefined,
): Promise<ClientHttp2Session> {
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  const isSecure = protocol === 'https:';
  const deadline = AbortSignal.timeout(OPEN_TIMEOUT_MS);
  const socket = await egress.connect(host, Number(port) || (isSecure ? 443 : 80), {
    timeoutMs: OPEN_TIMEOUT_MS,
    proxy,
  });
  try {
    const transport = isSecure ? await secured(egress, socket, host, deadline) : socket;
    const session = connect(origin, { createConnection: () => transport, settings: { enablePush: false } });
    // The listener stays: an error that nobody listens to would end the process.
    const failed = new Promise<never>((_, reject) => {
      session.on('error', reject).once('close', () => reject(closedEarly()));
      deadline.addEventListener('abort', () => reject(timedOut()), { once: true });
    });
    const ready = new Promise<void>((resolve) => session.once('remoteSettings', () => resolve()));
    await Promise.race([ready, failed]).catch((error: unknown) => {
      session.destroy();
      throw error;
    });
    failed.catch(() => undefined);
    return session;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

function secured(egress: Egress, socket: Socket, host: string, deadline: AbortSignal): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const secure = connectTls({
      socket,
      host,
      ...(isIP(host) === 0 && { servername: host }), // RFC 6066, 3: an address is no name
      ALPNProtocols: ['h2'],
      minVersion: 'TLSv1.2',
      ...egress.tls,
    });
    deadline.addEventListener('abort', () => reject(timedOut()), { once: true });
    secure.on('error', reject).once('close', () => reject(closedEarly()));
    secure.once('secureConnect', () => {
      if (secure.alpnProtocol === 'h2') resolve(secure);
      else reject(Object.assign(new Error('the server does not speak HTTP/2'), { code: 'NO_HTTP2' }));
    });
  });
}

/** One request and what came of it. Once the status is known it is the result, whatever happens to the rest. */
function exchange(session: ClientHttp2Session, request: Http2Request, signal: AbortSignal): Promise<HttpResult> {
  return new Promise((resolve) => {
    const { path, method, headers, body } = request;
    let stream: ClientHttp2Stream;
    try {
      stream = session.request({ ':method': method, ':path': path, ...headers });
    } catch (error) {
      resolve({ kind: 'silence', error, sent: false }); // closed meanwhile
      return;
    }
    let failure: unknown;
    let answer:
      | { readonly status: number; readonly headers: Record<string, string | string[] | undefined> }
      | undefined;
    const kept: Buffer[] = [];
    let size = 0;
    const stop = () => {
      failure = abortReason(signal);
      stream.close(constants.NGHTTP2_CANCEL);
    };
    signal.addEventListener('abort', stop);
    stream.on('response', ({ ':status': status = 0, ...fields }) => {
      answer = { status, headers: fields };
    });
    stream.on('data', (chunk: Buffer) => {
      if (size < KEEP_BYTES) kept.push(chunk);
      size += chunk.length;
    });
    stream.on('error', (error) => {
      failure ??= error;
    });
    stream.once('close', () => {
      signal.removeEventListener('abort', stop);
      if (answer) {
        const text = Buffer.concat(kept).subarray(0, KEEP_BYTES).toString('utf8');
        resolve({ kind: 'answer', ...answer, body: text });
        return;
      }
      // RFC 9113, 8.7: a refused stream was not processed at all. One without a number never left.
      const sent = stream.id !== undefined && stream.rstCode !== constants.NGHTTP2_REFUSED_STREAM;
      resolve({ kind: 'silence', error: failure ?? closedEarly(), sent });
    });
    stream.end(body);
  });
}

function closed(session: ClientHttp2Session, done: () => void): void {
  if (session.destroyed) done();
  else session.once('close', done).close();
}

const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(abortReason(signal)), { once: true }));

const closedEarly = (): Error => Object.assign(new Error('the connection was closed'), { code: 'CONNECTION_CLOSED' });
const timedOut = (): Error => Object.assign(new Error('connecting took too long'), { code: 'CONNECT_TIMEOUT' });
