import type { MailDataRequired, MailService as MailServiceClass } from '@sendgrid/mail';
import { z } from 'zod';
import type { FieldProblem, JsonObject } from '../../domain/vocabulary.js';
import { isSendGridKey, parseSendGridCallback } from '../callbacks/sendgrid.js';
import type {
  CallbackRequest,
  ChannelAdapter,
  ChannelDescription,
  ConnectionTest,
  OutgoingMessage,
  SendOptions,
  SendOutcome,
} from '../channel.js';
import { checked, endpoint, inDoubt, problemsOf, timeout } from '../config.js';
import type { Egress } from '../egress.js';
import {
  type ComposedEmail,
  compose,
  type EmailConfig,
  emailFields,
  emailSecrets,
  problemWithAddress,
  withRecipient,
} from '../email.js';
import { exchange, type HttpAnswer, type HttpResult, refusedByHttp } from '../http.js';
import { presentable, type Rejected, rejected, unanswered } from '../outcome.js';

/** E-mail through SendGrid's v3 API (https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send). */
const DESCRIPTION: ChannelDescription = {
  channel: 'EMAIL',
  provider: 'sendgrid',
  configKey: 'email',
  secretFields: ['apiKey', ...emailSecrets],
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'resend',
  limits: { maxBytes: 30 * 1_024 * 1_024, timeoutMs: 30_000 },
};

const ENDPOINT = 'https://api.sendgrid.com';
/** Labels that SendGrid takes for one message. */
const CATEGORIES = 10;

interface SendGridConfig extends EmailConfig {
  readonly apiKey: string;
  readonly endpoint?: string;
  readonly timeout?: number;
}

/** What `@sendgrid/mail` asks of its client. */
interface SdkRequest {
  readonly method: 'GET' | 'POST';
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: object;
}

/**
 * Has no `lookup`: SendGrid's records are read through the Email Activity API, which has to be bought in addition and
 * takes six requests a minute (https://www.twilio.com/docs/sendgrid/api-reference/email-activity). It cannot be relied on.
 */
export class SendGridAdapter implements ChannelAdapter {
  readonly #egress: Egress;
  readonly #userAgent: string;
  readonly schema: z.ZodType;

  constructor(egress: Egress, userAgent: string) {
    this.#egress = egress;
    this.#userAgent = userAgent;
    this.schema = z.strictObject({
      service: z.literal('sendgrid').describe('Chooses this provider.'),
      apiKey: z
        .string()
        .regex(/^[\x21-\x7e]{1,200}$/, 'must be printable and without spaces')
        .describe('An API key with the permission mail.send.')
        .meta({ secret: true }),
      endpoint: endpoint(egress, ENDPOINT).describe(
        "Base URL of the provider's API; https://api.eu.sendgrid.com keeps the data in the European Union.",
      ),
      webhookPublicKey: checked((key) =>
        isSendGridKey(key) ? undefined : 'must be the verification key of the Event Webhook, in base64',
      )
        .optional()
        .describe('Verification key of the signed Event Webhook. Without it callbacks are refused.'),
      timeout: timeout(DESCRIPTION.limits.timeoutMs),
      inDoubt: inDoubt('resend'),
      ...emailFields,
    });
  }

  describe(): ChannelDescription {
    return DESCRIPTION;
  }

  validate(config: JsonObject): FieldProblem[] {
    return problemsOf(this.schema, config);
  }

  withAddress(config: JsonObject, address: string): JsonObject {
    return withRecipient(config, address);
  }

  validateAddress(address: string): string | undefined {
    return problemWithAddress(address);
  }

  parseCallback(request: CallbackRequest, config: JsonObject) {
    return parseSendGridCallback(request, config);
  }

  /** Asks what the key may do: `mail.send` has to be among it. */
  async test(config: JsonObject, { signal }: { readonly signal: AbortSignal }): Promise<ConnectionTest> {
    const startedAt = performance.now();
    const result = await this.#request(
      config as unknown as SendGridConfig,
      { method: 'GET', url: '/v3/scopes' },
      signal,
    );
    const latencyMs = performance.now() - startedAt;
    const problem = problemOfTest(result);
    const path = result.kind === 'answer' ? 'apiKey' : 'endpoint';
    return { ok: problem === undefined, latencyMs, problems: problem === undefined ? [] : [{ path, problem }] };
  }

  async send(message: OutgoingMessage, { attemptKey, now, signal }: SendOptions): Promise<SendOutcome> {
    const config = message.config as unknown as SendGridConfig;
    const mail = await compose(message, { attemptKey, maxBytes: DESCRIPTION.limits.maxBytes });
    if (mail.kind === 'rejected') return mail;
    let result: HttpResult | undefined;
    // Loaded when the first message is sent, as are all SDKs: most installations never need most of them.
    const { MailService } = (await import('@sendgrid/mail')) as unknown as { MailService: typeof MailServiceClass };
    const service = new MailService();
    // The SDK checks and writes the request. Its own client would send it through axios, which follows redirects, obeys
    // proxy variables and connects to any address; so the request leaves through the guard instead.
    const client = {
      request: async (request: SdkRequest) => {
        result = await this.#request(config, request, signal);
        return [{}, {}];
      },
    };
    service.setClient(client as unknown as Parameters<typeof service.setClient>[0]);
    try {
      await service.send(requestOf(mail, message.deliveryId, attemptKey));
    } catch (error) {
      const words = presentable(error instanceof Error ? error.message : 'refused', message, [config.apiKey]);
      return rejected('VALIDATION', 'INVALID_MESSAGE', words);
    }
    if (!result) throw new Error('@sendgrid/mail sent nothing');
    if (result.kind === 'silence') return unanswered(result.error, hostOf(config), result.sent);
    if (result.status < 200 || result.status > 299) return refused(result, config, message, now);
    const id = result.headers['x-message-id'];
    return { kind: 'accepted', delivered: false, ...(typeof id === 'string' && { providerMessageId: id }) };
  }

  #request(
    config: SendGridConfig,
    { method, url, headers, body }: SdkRequest,
    signal: AbortSignal,
  ): Promise<HttpResult> {
    const { origin, pathname } = new URL(config.endpoint ?? ENDPOINT);
    return exchange(this.#egress.dispatcher, {
      origin,
      path: pathname.replace(/\/$/, '') + url,
      method,
      headers: Object.entries({
        ...headers,
        accept: 'application/json',
        authorization: `Bearer ${config.apiKey}`,
        'user-agent': this.#userAgent,
        ...(body && { 'content-type': 'application/json' }),
      }).flat(),
      ...(body && { body: JSON.stringify(body) }),
      timeoutMs: config.timeout ?? DESCRIPTION.limits.timeoutMs,
      signal,
      keepBytes: 16_384,
    });
  }
}

function requestOf(mail: ComposedEmail, deliveryId: string, attemptKey: string): MailDataRequired {
  const { from, to, cc, bcc, replyTo, subject, text, html, attachments, headers, messageId, tags } = mail;
  return {
    from: { email: from.address, ...(from.name !== undefined && { name: from.name }) },
    to: [...to],
    ...(cc.length > 0 && { cc: [...cc] }),
    ...(bcc.length > 0 && { bcc: [...bcc] }),
    ...(replyTo !== undefined && { replyTo }),
    subject,
    headers: { 'Message-ID': `<${messageId}>`, ...Object.fromEntries(headers) },
    ...(tags.length > 0 && { categories: tags.slice(0, CATEGORIES) }),
    // Content is required and may not be empty: a message that is only its attachments repeats its subject.
    ...(html === undefined ? { text: text ?? (subject || ' ') } : { html, ...(text !== undefined && { text }) }),
    ...(attachments.length > 0 && {
      attachments: attachments.map(({ filename, contentType, base64, contentId }) => ({
        filename,
        type: contentType,
        content: base64,
        ...(contentId === undefined ? { disposition: 'attachment' } : { disposition: 'inline', contentId }),
      })),
    }),
    // Come back with every event about the message.
    customArgs: { deliveryId, attemptKey },
  };
}

function hostOf(config: SendGridConfig): string {
  return new URL(config.endpoint ?? ENDPOINT).host;
}

function problemOfTest(result: HttpResult): string | undefined {
  if (result.kind === 'silence') return unanswered(result.error, 'SendGrid', false).detail;
  if (result.status !== 200) return `SendGrid answered ${result.status}: ${errorsIn(result.body)}`;
  return result.body.includes('"mail.send"') ? undefined : 'the key lacks the permission mail.send';
}

function refused(answer: HttpAnswer, config: SendGridConfig, message: OutgoingMessage, now: Date): Rejected {
  const words = presentable(errorsIn(answer.body), message, [config.apiKey]);
  const outcome = refusedByHttp(answer, `SendGrid answered ${answer.status}${words && `: ${words}`}`, now);
  // https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/rate-limits: seconds since 1970
  const reset = Number(answer.headers['x-ratelimit-reset'] ?? Number.NaN);
  if (answer.status !== 429 || outcome.retryAfterMs !== undefined || Number.isNaN(reset)) return outcome;
  return { ...outcome, retryAfterMs: Math.max(reset * 1_000 - now.getTime(), 0) };
}

/** `{"errors":[{"message":"…","field":"from.email","help":"…"}]}` as one line. */
function errorsIn(body: string): string {
  try {
    const { errors } = JSON.parse(body) as { errors?: { message?: string; field?: string | null }[] };
    return (errors ?? []).map(({ message, field }) => (field ? `${field}: ${message}` : `${message}`)).join('; ');
  } catch {
    return '';
  }
}
