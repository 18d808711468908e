import { createHash } from 'node:crypto';
import { isIP, type LookupFunction, type Socket } from 'node:net';
import { createSecureContext, rootCertificates, type SecureContext, connect as startTls } from 'node:tls';
import { Agent, buildConnector, type Dispatcher } from 'undici';
import { type ProxyAccess, tunnel } from './http-proxy.js';

/** Pools of connections that are not like all others: with a client certificate, with other authorities, through a proxy. */

export interface ClientTls {
  /** PEM: the client's certificate, with those between it and the root after it. */
  readonly cert?: string;
  readonly key?: string;
  readonly passphrase?: string;
  /** PEM: who may vouch for the server, instead of the public authorities. */
  readonly ca?: string;
}

export interface ProxyServer extends ProxyAccess {
  /** Of scheme http or https. */
  readonly url: string;
}

/** What a configuration says of its connections; without any of it they are like all others. */
export interface Way {
  readonly tls?: ClientTls | undefined;
  readonly proxy?: ProxyServer | undefined;
}

interface Bounds {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** What judges addresses: the pools of this file reach no more than all others. */
export interface Guard {
  readonly lookup: LookupFunction;
  readonly trusted: readonly string[];
  readonly tls: { readonly secureContext?: SecureContext };
  blocked(host: string): Error | undefined;
  connect(host: string, port: number, bounds: Bounds): Promise<Socket>;
}

type Connector = buildConnector.connector;
type Options = buildConnector.Options;

/** Pools at once; the one unused for longest is closed for another. */
const WAYS = 200;
/** Bound on the connection to a proxy, its answer and the TLS handshake behind it. */
const CONNECT_TIMEOUT_MS = 10_000;

export class WaysOut {
  readonly #guard: Guard;
  readonly #connections: number;
  /** By a digest of all that makes them different, in order of last use. */
  readonly #agents = new Map<string, Agent>();
  readonly #keys = new WeakMap<Way, string>();

  constructor(guard: Guard, connections: number) {
    this.#guard = guard;
    this.#connections = connections;
  }

  get(way: Way): Dispatcher {
    const key = this.#keyOf(way);
    const agent = this.#agents.get(key) ?? this.#agent(way);
    this.#agents.delete(key);
    this.#agents.set(key, agent);
    if (this.#agents.size > WAYS) {
      const [oldest, unused] = this.#agents.entries().next().value as [string, Agent];
      this.#agents.delete(oldest);
      // Requests under way come to their end first.
      void unused.close();
    }
    return agent;
  }

  async close(): Promise<void> {
    await Promise.all(this.#taken().map((agent) => agent.close()));
  }

  async destroy(): Promise<void> {
    await Promise.all(this.#taken().map((agent) => agent.destroy()));
  }

  /**
   * A connection to `host` through a proxy. The name is resolved and judged here, and the proxy is told the address: told the
   * name, it would resolve it once more, and might reach what nobody has judged. Rejects with ProxyRefusal, or with the
   * error of the resolver or the connection.
   */
  async connect(proxy: ProxyServer, host: string, port: number, bounds: Bounds): Promise<Socket> {
    const address = await this.#address(host);
    const { protocol, hostname, port: ownPort } = new URL(proxy.url);
    const isSecured = protocol === 'https:';
    const raw = await this.#guard.connect(bare(hostname), Number(ownPort) || (isSecured ? 443 : 80), bounds);
    const socket = isSecured ? this.#secured(raw, bare(hostname)) : raw;
    const timeout = Object.assign(new Error('connect timed out'), { code: 'CONNECT_TIMEOUT' });
    const timer = setTimeout(() => socket.destroy(timeout), bounds.timeoutMs);
    try {
      await tunnel(socket, `${address.includes(':') ? `[${address}]` : address}:${port}`, proxy);
      return socket;
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  #taken(): Agent[] {
    const agents = [...this.#agents.values()];
    this.#agents.clear();
    return agents;
  }

  /** A way is a configuration: what else there is in it makes no difference. */
  #keyOf(way: Way): string {
    const known = this.#keys.get(way);
    const { tls, proxy } = way;
    const key = known ?? createHash('sha256').update(JSON.stringify({ tls, proxy })).digest('base64');
    if (known === undefined) this.#keys.set(way, key);
    return key;
  }

  #agent({ tls = {}, proxy }: Way): Agent {
    const { cert, key, passphrase, ca } = tls;
    const secureContext = createSecureContext({
      ca: ca === undefined ? [...rootCertificates, ...this.#guard.trusted] : ca,
      ...(cert !== undefined && { cert }),
      ...(key !== undefined && { key }),
      ...(passphrase !== undefined && { passphrase }),
    });
    const direct = buildConnector({ lookup: this.#guard.lookup, timeout: CONNECT_TIMEOUT_MS, secureContext });
    const guarded: Connector = (options, callback) => {
      const blocked = this.#guard.blocked(options.hostname);
      if (blocked) callback(blocked, null);
      else if (proxy) this.#through(proxy, direct, options, callback);
      else direct(options, callback);
    };
    return new Agent({ connections: this.#connections, pipelining: 1, connect: guarded });
  }

  #through(proxy: ProxyServer, direct: Connector, options: Options, callback: buildConnector.Callback): void {
    const port = Number(options.port) || (options.protocol === 'https:' ? 443 : 80);
    this.connect(proxy, options.hostname, port, { timeoutMs: CONNECT_TIMEOUT_MS }).then(
      (socket) =>
        options.protocol === 'https:' ? direct({ ...options, httpSocket: socket }, callback) : callback(null, socket),
      (error: Error) => callback(error, null),
    );
  }

  #address(hostname: string): Promise<string> {
    const host = bare(hostname);
    if (isIP(host) !== 0) return Promise.resolve(host);
    return new Promise((resolve, reject) => {
      this.#guard.lookup(host, {}, (error, address) => (error ? reject(error) : resolve(address as string)));
    });
  }

  #secured(socket: Socket, host: string): Socket {
    const secured = startTls({ socket, host, servername: isIP(host) === 0 ? host : '', ...this.#guard.tls });
    // An error that nobody listens to would end the process.
    return secured.on('error', () => undefined);
  }
}

const bare = (hostname: string): string => hostname.replace(/^\[(.*)\]$/, '$1');
