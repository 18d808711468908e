import type { Socket } from 'node:net';
import { createTransport, type SendMailOptions, type SMTPTransportOptions } from 'nodemailer';
import { z } from 'zod';
import type { ErrorCategory, FieldProblem, JsonObject } from '../domain/vocabulary.js';
import type {
  ChannelAdapter,
  ChannelDescription,
  ConnectionTest,
  OutgoingMessage,
  SendOptions,
  SendOutcome,
} from './channel.js';
import { checked, problemsOf, timeout } from './config.js';
import type { Egress } from './egress.js';
import {
  type ComposedEmail,
  compose,
  type EmailConfig,
  emailFields,
  problemWithAddress,
  withRecipient,
} from './email.js';
import { abortReason, presentable, rejected, unanswered } from './outcome.js';

/** E-mail through the customer's own SMTP server (RFC 5321). */
const DESCRIPTION: ChannelDescription = {
  channel: 'EMAIL',
  provider: 'smtp',
  configKey: 'email',
  secretFields: ['auth.pass'],
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'resend',
  limits: { maxBytes: 25 * 1_024 * 1_024, timeoutMs: 30_000 },
};

/** Servers whose connections are kept. Beyond it the ones unused for longest are closed. */
const POOLS = 64;
/** Connections to one server with one login. Providers commonly allow ten and count other clients too. */
const CONNECTIONS = 4;
/** Then an unused connection is closed; servers do it after 1 to 5 minutes, and in the middle of a message if unlucky. */
const IDLE_MS = 30_000;

const HOST = /^[\p{L}\p{N}:.-]{1,253}$/u;

interface SmtpConfig extends EmailConfig {
  readonly host: string;
  readonly port?: number;
  readonly secure?: boolean;
  readonly requireTls?: boolean;
  readonly auth?: { readonly user: string; readonly pass: string };
  readonly timeout?: number;
}

interface Tracked {
  readonly progress: { handedOver: boolean };
}

interface Pool {
  readonly transport: ReturnType<typeof createPool>;
  inUse: number;
}

export class SmtpAdapter implements ChannelAdapter {
  readonly #egress: Egress;
  readonly #schema: z.ZodType;
  /** By everything a connection depends on, so that a changed configuration gets new ones. In order of last use. */
  readonly #pools = new Map<string, Pool>();

  constructor(egress: Egress) {
    this.#egress = egress;
    this.#schema = z.strictObject({
      service: z.literal('smtp'),
      host: checked((host) => (HOST.test(host) ? egress.problemWithHost(host) : 'must be a host name or an address')),
      port: z.int().min(1).max(65_535).optional(), // default 465 when secure, else 587
      secure: z.boolean().optional(), // TLS from the first byte; default false, which still takes STARTTLS if offered
      /** Refuse to go on without TLS. Default: true when there is a login and the server is not in an allowed network. */
      requireTls: z.boolean().optional(),
      auth: z.strictObject({ user: z.string().min(1), pass: z.string().min(1) }).optional(),
      timeout: timeout.optional(), // milliseconds, default 30,000
      ...emailFields,
    });
  }

  describe(): ChannelDescription {
    return DESCRIPTION;
  }

  validate(config: JsonObject): FieldProblem[] {
    return problemsOf(this.#schema, config);
  }

  withAddress(config: JsonObject, address: string): JsonObject {
    return withRecipient(config, address);
  }

  validateAddress(address: string): string | undefined {
    return problemWithAddress(address);
  }

  /** Connects, greets, negotiates TLS, logs in and says goodbye. */
  async test(config: JsonObject, { signal }: { readonly signal: AbortSignal }): Promise<ConnectionTest> {
    const smtp = config as unknown as SmtpConfig;
    const deadline = deadlineOf(smtp, signal);
    const sockets: Socket[] = [];
    const destroy = () => sockets.forEach((socket) => void socket.destroy());
    const startedAt = performance.now();
    deadline.addEventListener('abort', destroy);
    try {
      await createTransport(this.#options(smtp, sockets)).verify();
      return { ok: true, latencyMs: performance.now() - startedAt, problems: [] };
    } catch (error) {
      const message = { config, content: {}, deliveryId: '', organizationId: '', requestedAt: '' };
      const { code, detail } = refused(deadline.aborted ? abortReason(deadline) : error, smtp, message, false);
      const path = code === 'SMTP_535' || code === 'SMTP_AUTH' ? 'auth' : 'host';
      return {
        ok: false,
        latencyMs: performance.now() - startedAt,
        problems: [{ path, problem: `${code}: ${detail}` }],
      };
    } finally {
      deadline.removeEventListener('abort', destroy);
      destroy();
    }
  }

  async send(message: OutgoingMessage, { attemptKey, now, signal }: SendOptions): Promise<SendOutcome> {
    const config = message.config as unknown as SmtpConfig;
    const mail = compose(message);
    if (mail.kind === 'rejected') return mail;
    const deadline = deadlineOf(config, signal);
    const progress = { handedOver: false };
    const messageId = messageIdOf(attemptKey, mail.from.address);
    const pool = this.#acquire(config);
    try {
      const tracked: SendMailOptions & Tracked = { ...mimeOf(mail), messageId, date: now, signal: deadline, progress };
      const info = await pool.transport.sendMail(tracked);
      const refusals = info.rejectedErrors ?? [];
      const accepted = { kind: 'accepted', delivered: false, providerMessageId: messageId.slice(1, -1) } as const;
      if (refusals.length === 0) return accepted;
      const codes = [...new Set(refusals.map(({ responseCode }) => responseCode ?? 'unknown'))].join(', ');
      return { ...accepted, warning: `${refusals.length} of ${mail.to.length} recipients refused (SMTP ${codes})` };
    } catch (error) {
      return refused(deadline.aborted ? abortReason(deadline) : error, config, message, progress.handedOver);
    } finally {
      pool.inUse -= 1;
      this.#trim();
    }
  }

  /** Closes all connections; what is being sent is finished first. */
  close(): void {
    for (const { transport } of this.#pools.values()) transport.close();
    this.#pools.clear();
  }

  #acquire(config: SmtpConfig): Pool {
    const { host, port, secure, requireTls, auth } = config;
    const key = JSON.stringify([host, port, secure, requireTls, auth?.user, auth?.pass]);
    const pool = this.#pools.get(key) ?? { transport: createPool(this.#options(config)), inUse: 0 };
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

  #options(config: SmtpConfig, opened?: Socket[]): SMTPTransportOptions {
    const { host, secure = false, auth } = config;
    const port = config.port ?? (secure ? 465 : 587);
    return {
      host,
      port,
      secure,
      ...(auth && { auth: { user: auth.user, pass: auth.pass } }),
      tls: { minVersion: 'TLSv1.2', ...(this.#egress.ca && { ca: this.#egress.ca }) },
      socketCloseTimeout: 0, // closing is at once, which is what an abort needs
      disableFileAccess: true,
      disableUrlAccess: true,
      /** The connection is made here, to a checked address; TLS is negotiated on it under the host's name. */
      getSocket: (_, callback) => {
        this.#egress.connect(host, port).then((connection) => {
          opened?.push(connection);
          const guarded = auth !== undefined && !this.#egress.isInternal(connection.remoteAddress ?? '');
          callback(null, { connection, requireTLS: config.requireTls ?? guarded });
        }, callback);
      },
    };
  }
}

function createPool(options: SMTPTransportOptions) {
  const transport = createTransport({
    ...options,
    pool: true,
    maxConnections: CONNECTIONS,
    idleTimeout: IDLE_MS,
    // A pooled connection that the server closed while idle is replaced once. The message has not been touched then.
    maxRequeues: 1,
  });
  // Whether the server can have the whole message decides if a lost connection leaves the attempt in doubt.
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

function deadlineOf(config: SmtpConfig, signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(config.timeout ?? DESCRIPTION.limits.timeoutMs)]);
}

function mimeOf({ from, to, subject, text, html, attachments }: ComposedEmail) {
  return {
    from: { name: from.name ?? '', address: from.address },
    to: [...to],
    subject,
    ...(text !== undefined && { text }),
    ...(html !== undefined && { html }),
    attachments: attachments.map(({ filename, contentType, base64 }) => ({
      filename,
      contentType,
      content: base64,
      encoding: 'base64',
    })),
  };
}

/** The same for every attempt, so that mailboxes which remove duplicates can (RFC 5322, 3.6.4). */
function messageIdOf(attemptKey: string, from: string): string {
  return `<${attemptKey.replace(/[^A-Za-z0-9._-]/g, '-')}@${from.slice(from.lastIndexOf('@') + 1)}>`;
}

interface SmtpError {
  readonly name: string;
  readonly code?: string;
  readonly originalCode?: string;
  readonly responseCode?: number;
  readonly response?: string;
  readonly message: string;
  readonly rejectedErrors?: readonly SmtpError[];
}

function refused(cause: unknown, config: SmtpConfig, message: OutgoingMessage, handedOver: boolean) {
  const error = cause as SmtpError;
  // All recipients were refused: as long as one of them may be taken later, it is worth trying again.
  const decisive =
    error.rejectedErrors?.find(({ responseCode = 0 }) => responseCode < 500) ?? error.rejectedErrors?.[0];
  const { responseCode, response = '' } = decisive ?? error;
  if (responseCode && error.code !== 'ETLS') {
    const secrets = config.auth ? [config.auth.pass, config.auth.user] : [];
    const detail = `${config.host} answered ${presentable(response, message, secrets)}`;
    return rejected(categoryOf(responseCode, response, error.code), `SMTP_${responseCode}`, detail);
  }
  if (error.code === 'EAUTH')
    return rejected('AUTHENTICATION', 'SMTP_AUTH', `${config.host} takes no login of this kind`);
  if (error.code === 'EMESSAGE') {
    return rejected('VALIDATION', 'SMTP_552', `the message is larger than ${config.host} takes`);
  }
  const code = error.originalCode ?? (error.code === 'ECONNECTION' ? 'CONNECTION_CLOSED' : error.code);
  return unanswered({ name: error.name, message: error.message, code }, config.host, handedOver);
}

/** Reply codes: RFC 5321, 4.2.3; those of authentication: RFC 4954, 6; enhanced codes: RFC 3463. */
function categoryOf(reply: number, text: string, code: string | undefined): ErrorCategory {
  if (reply >= 400 && reply < 500) return 'TEMPORARY';
  if (code === 'EAUTH' || [530, 534, 535, 538].includes(reply)) return 'AUTHENTICATION';
  if (reply === 552 && / 5\.2\.\d /.test(text)) return 'PERMANENT'; // the mailbox is full, not the message too big
  return reply === 552 || reply === 523 ? 'VALIDATION' : 'PERMANENT';
}
