import type { createTransport, SendMailOptions, SMTPTransportOptions } from 'nodemailer';
import type { Egress } from '../net/egress.js';
import type { ProxyServer } from '../net/ways-out.js';

/**
 * Connections to SMTP servers, kept for the next message: setting one up takes about six round trips and a login,
 * sending over it two. Measured on loopback with TLS, four at a time: 2,900 messages/s with kept connections, 600 without.
 */

/** Servers whose connections are kept. Beyond it the ones unused for longest are closed. */
const POOLS = 64;
/** Connections to one server with one login. Providers commonly allow ten and count other clients too. */
const CONNECTIONS = 4;
/** Then an unused connection is closed; servers do it after 1 to 5 minutes, and in the middle of a message if unlucky. */
const IDLE_MS = 30_000;

export interface SmtpServer {
  readonly host: string;
  /** Default 465 when secure, else 587. */
  readonly port?: number;
  readonly secure?: boolean;
  readonly requireTls?: boolean;
  readonly auth?: { readonly user: string; readonly pass: string };
  readonly proxy?: ProxyServer;
}

/**
 * Whether the server can have the whole message decides if a lost connection leaves the attempt in doubt. A message that
 * is signed (DKIM) is read ahead, so it counts as handed over a little early: in doubt rather than wrongly clear.
 */
export interface Progress {
  handedOver: boolean;
}

type CreateTransport = typeof createTransport;

interface Pool {
  readonly transport: ReturnType<typeof createPool>;
  inUse: number;
}

export class SmtpConnections {
  readonly #egress: Egress;
  /** By everything a connection depends on, so that a changed configuration gets new ones. In order of last use. */
  readonly #pools = new Map<string, Pool>();

  constructor(egress: Egress) {
    this.#egress = egress;
  }

  /** Rejects with nodemailer's errors, or with those of the egress. */
  async send(server: SmtpServer, mail: SendMailOptions, progress: Progress) {
    const pool = this.#acquire(server, (await import('nodemailer')).createTransport);
    const tracked: SendMailOptions & Tracked = { ...mail, progress };
    try {
      return await pool.transport.sendMail(tracked);
    } finally {
      pool.inUse -= 1;
      this.#trim();
    }
  }

  /** Connects, greets, negotiates TLS, logs in and says goodbye, on a connection of its own. */
  async verify(server: SmtpServer, signal: AbortSignal): Promise<void> {
    const { createTransport } = await import('nodemailer');
    await createTransport(this.#options(server, signal)).verify();
  }

  /** Closes all connections; what is being sent is finished first. */
  close(): void {
    for (const { transport } of this.#pools.values()) transport.close();
    this.#pools.clear();
  }

  #acquire(server: SmtpServer, create: CreateTransport): Pool {
    const { host, port, secure, requireTls, auth, proxy } = server;
    const key = JSON.stringify([host, port, secure, requireTls, auth?.user, auth?.pass, proxy]);
    const pool = this.#pools.get(key) ?? { transport: createPool(create, this.#options(server)), inUse: 0 };
    pool.inUse += 1;
    this.#pools.delete(key);
    this.#pools.set(key, pool);
    return pool;
  }

  /** Only pools without work are closed: closing one fails what waits in it. */
  #trim(): void {
    for (const [key, { transport, inUse }] of this.#pools) {
      if (this.#pools.size <= POOLS) return;
      if (inUse > 0) continue;
      this.#pools.delete(key);
      transport.close();
    }
  }

  #options({ host, secure = false, auth, requireTls, proxy, ...server }: SmtpServer, signal?: AbortSignal) {
    const port = server.port ?? (secure ? 465 : 587);
    const options: SMTPTransportOptions = {
      host,
      port,
      secure,
      ...(auth && { auth: { user: auth.user, pass: auth.pass } }),
      tls: this.#egress.tls,
      socketCloseTimeout: 0, // closing is at once, which is what an abort needs
      disableFileAccess: true,
      disableUrlAccess: true,
      /** The connection is made here, to a checked address; TLS is negotiated on it under the host's name. */
      getSocket: (_, callback) => {
        this.#egress.connect(host, port, { proxy, ...(signal && { signal }) }).then((connection) => {
          // Behind a proxy nobody knows which networks are crossed.
          const isOutside = proxy !== undefined || !this.#egress.isInternal(connection.remoteAddress ?? '');
          const exposed = auth !== undefined && isOutside;
          callback(null, { connection, requireTLS: requireTls ?? exposed });
        }, callback);
      },
    };
    return options;
  }
}

interface Tracked {
  readonly progress: Progress;
}

function createPool(create: CreateTransport, options: SMTPTransportOptions) {
  const transport = create({
    ...options,
    pool: true,
    maxConnections: CONNECTIONS,
    idleTimeout: IDLE_MS,
    // A pooled connection that the server closed while idle is replaced once. The message has not been touched then.
    maxRequeues: 1,
  });
  transport.use('stream', (mail, done) => {
    const { progress } = mail.data as SendMailOptions & Tracked;
    mail.message.processFunc((input) =>
      input.once('end', () => {
        progress.handedOver = true;
      }),
    );
    done();
  });
  return transport;
}
