import { createPrivateKey } from 'node:crypto';
import { z } from 'zod';
import type { ErrorCategory } from '../../domain/vocabulary.js';
import { Adapter, type ConfigOf, type Declaration, NO_MESSAGE, problemAt } from '../adapter.js';
import type { OutgoingMessage, SendOptions, SendOutcome } from '../channel.js';
import { checked, inDoubt } from '../config.js';
import { withDeadline } from '../deadline.js';
import { type ComposedEmail, compose, emailFields, recipient } from '../email/compose.js';
import { unsubscribeHeaders } from '../email/headers.js';
import { mimeOf } from '../email/mime.js';
import { SmtpConnections } from '../email/smtp-connections.js';
import {
  type TrackingLinks,
  type TrackingWishes,
  trackingWishes,
  withOpenPicture,
  withTrackedLinks,
} from '../email/tracking.js';
import { outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { ProxyRefusal } from '../net/http-proxy.js';
import { abortReason, accepted, presentable, rejected, unanswered } from '../outcome.js';

/** E-mail through the customer's own SMTP server (RFC 5321). */
const DECLARATION: Declaration = {
  channel: 'EMAIL',
  provider: 'smtp',
  configKey: 'email',
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'resend',
  tested: 'Connects, greets, negotiates TLS, logs in and says goodbye.',
  limits: { maxBytes: 25 * 1_024 * 1_024, timeoutMs: 30_000 },
};

const HOST = /^[\p{L}\p{N}:.-]{1,253}$/u;

const schema = (egress: Egress, links: TrackingLinks | undefined) =>
  z.strictObject({
    service: z.literal('smtp').describe('Chooses this provider.'),
    host: checked((host) =>
      HOST.test(host) ? egress.problemWithHost(host) : 'must be a host name or an address',
    ).describe('The server: a host name or an address.'),
    port: z
      .int()
      .min(1)
      .max(65_535)
      .optional()
      .describe('Its port. Where `secure` is set, 465 unless said otherwise.')
      .meta({ default: 587 }),
    secure: z
      .boolean()
      .optional()
      .describe('TLS from the first byte. Without it STARTTLS is taken where the server offers it.')
      .meta({ default: false }),
    requireTls: z
      .boolean()
      .optional()
      .describe(
        'Refuse to go on without TLS. Default: true with a login and a server outside the allowed networks or behind a proxy.',
      ),
    auth: z
      .strictObject({
        user: z.string().min(1).describe('Name of the account.'),
        pass: z.string().min(1).describe('Its password.').meta({ secret: true }),
      })
      .optional()
      .describe('Login at the server. Without it mail is handed in anonymously.'),
    dkim: z
      .strictObject({
        domain: z.string().regex(HOST, 'must be a domain name').describe('The domain that signs.'),
        selector: z
          .string()
          .regex(/^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/, 'must be a DNS label')
          .describe('Names the key: `<selector>._domainkey.<domain>` in DNS has the public one.'),
        privateKey: checked((key) =>
          isPrivateKey(key) ? undefined : 'must be a PEM private key, RSA of 1024 bits or more',
        )
          .describe('The private key, PEM.')
          .meta({ secret: true }),
      })
      .optional()
      .describe('Signs every message (DKIM, RFC 6376).'),
    tracking: trackingWishes(links)
      .optional()
      .describe('What recipients do with a message comes back to Waybill (docs/tracking.md). Default: nothing does.'),
    ...outbound(egress, DECLARATION.limits.timeoutMs),
    inDoubt: inDoubt('resend'),
    ...emailFields,
  });

type SmtpConfig = ConfigOf<typeof schema>;

/** Signed beside what RFC 6376, 5.4.1 recommends: RFC 8058, 4 demands it of the fields for unsubscribing. */
const SIGNED_HEADERS =
  'from:sender:reply-to:subject:date:message-id:to:cc:mime-version:content-type:content-transfer-encoding:list-unsubscribe:list-unsubscribe-post';

/** Those that servers answer most, as they are taken below. */
const REPLIES = Object.fromEntries(
  [421, 450, 451, 452, 454, 500, 501, 503, 523, 530, 534, 535, 538, 550, 551, 552, 553, 554, 555].map((reply) => [
    reply,
    categoryOf(reply, '', undefined),
  ]),
);

export class SmtpAdapter extends Adapter<SmtpConfig> {
  readonly errors = { source: 'https://www.rfc-editor.org/rfc/rfc5321#section-4.2.3', categories: REPLIES };
  readonly #connections: SmtpConnections;
  readonly #links: TrackingLinks | undefined;

  /** @param links without them nothing can be tracked */
  constructor(egress: Egress, links?: TrackingLinks) {
    super(DECLARATION, schema(egress, links), recipient);
    this.#connections = new SmtpConnections(egress);
    this.#links = links;
  }

  protected probe(config: SmtpConfig, signal: AbortSignal) {
    return withDeadline(timeoutOf(config), signal, async (deadline) => {
      try {
        await this.#connections.verify(config, deadline);
        return undefined;
      } catch (error) {
        const refusal = refused(deadline.aborted ? abortReason(deadline) : error, config, NO_MESSAGE, false);
        return problemAt(refusal.category === 'AUTHENTICATION' ? 'auth' : 'host', refusal);
      }
    });
  }

  protected async deliver(
    config: SmtpConfig,
    message: OutgoingMessage,
    { attemptKey, now, signal }: SendOptions,
  ): Promise<SendOutcome> {
    if (signal.aborted) return unanswered(abortReason(signal), config.host, false);
    const { maxBytes } = DECLARATION.limits;
    const composed = await compose(message, { attemptKey, maxBytes });
    if (composed.kind === 'rejected') return composed;
    const mail = this.#links ? withTracking(composed, config.tracking ?? {}, this.#links, attemptKey) : composed;
    return await withDeadline(timeoutOf(config), signal, (deadline) =>
      this.#send(config, message, mail, now, deadline),
    );
  }

  async #send(
    config: SmtpConfig,
    message: OutgoingMessage,
    mail: ComposedEmail,
    now: Date,
    deadline: AbortSignal,
  ): Promise<SendOutcome> {
    const progress = { handedOver: false };
    try {
      const mime = { ...mimeOf(mail), ...signatureOf(config), date: now, signal: deadline };
      const info = await this.#connections.send(config, mime, progress);
      const refusals = info.rejectedErrors ?? [];
      const taken = accepted(mail.messageId);
      if (refusals.length === 0) return taken;
      const codes = [...new Set(refusals.map(({ responseCode }) => responseCode ?? 'unknown'))].join(', ');
      const all = mail.to.length + mail.cc.length + mail.bcc.length;
      return { ...taken, warning: `${refusals.length} of ${all} recipients refused (SMTP ${codes})` };
    } catch (error) {
      return refused(deadline.aborted ? abortReason(deadline) : error, config, message, progress.handedOver);
    }
  }

  /** Closes all connections; what is being sent is finished first. */
  close(): void {
    this.#connections.close();
  }
}

function withTracking(
  mail: ComposedEmail,
  { opens, clicks, unsubscribe }: TrackingWishes,
  links: TrackingLinks,
  attemptKey: string,
): ComposedEmail {
  const [only, ...others] = [...mail.to, ...mail.cc, ...mail.bcc];
  const hasOwn = mail.headers.some(([name]) => name.toLowerCase() === 'list-unsubscribe');
  const url = unsubscribe && only && others.length === 0 && !hasOwn && links.unsubscribe(attemptKey, only);
  const wayOut = url ? (unsubscribeHeaders({ url }) ?? []) : [];
  const { html } = mail;
  if (html === undefined) return { ...mail, headers: [...mail.headers, ...wayOut] };
  const linked = clicks ? withTrackedLinks(html, links, attemptKey) : html;
  const pictured = opens ? withOpenPicture(linked, links, attemptKey) : linked;
  return { ...mail, html: pictured, headers: [...mail.headers, ...wayOut] };
}

const timeoutOf = ({ timeout }: SmtpConfig): number => timeout ?? DECLARATION.limits.timeoutMs;

function signatureOf({ dkim }: SmtpConfig) {
  if (!dkim) return {};
  const { domain: domainName, selector: keySelector, privateKey } = dkim;
  return { dkim: { domainName, keySelector, privateKey, headerFieldNames: SIGNED_HEADERS } };
}

function isPrivateKey(pem: string): boolean {
  try {
    const { asymmetricKeyType, asymmetricKeyDetails } = createPrivateKey(pem);
    return asymmetricKeyType === 'rsa' && (asymmetricKeyDetails?.modulusLength ?? 0) >= 1_024;
  } catch {
    return false;
  }
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
  if (cause instanceof ProxyRefusal) return unanswered(cause, config.host, false);
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
  if (error.code === 'EAUTH') {
    return rejected('AUTHENTICATION', 'SMTP_AUTH', `${config.host} takes no login of this kind`);
  }
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
