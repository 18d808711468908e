import type { MailDataRequired, MailService as MailServiceClass } from '@sendgrid/mail';
import { isSendGridKey, parseSendGridCallback } from '../callbacks/sendgrid.js';
import { checked } from '../config.js';
import type { EmailInMemory } from '../email/compose.js';
import {
  type ApiRequest,
  apiKey,
  type EmailApi,
  HttpEmail,
  type HttpEmailConfig,
  jsonRequest,
} from '../email/http-email.js';
import type { Egress } from '../net/egress.js';
import { objectIn } from '../net/json.js';
import { presentable, rejected } from '../outcome.js';

/** E-mail through SendGrid's v3 API (https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send). */
interface SendGridConfig extends HttpEmailConfig {
  readonly apiKey: string;
}

/** Labels that SendGrid takes for one message. */
const CATEGORIES = 10;

const API: EmailApi<SendGridConfig> = {
  name: 'SendGrid',
  declaration: {
    channel: 'EMAIL',
    provider: 'sendgrid',
    configKey: 'email',
    idempotency: 'none',
    acceptanceIsDelivery: false,
    inDoubt: 'resend',
    tested: 'Asks what the key may do: `mail.send` has to be among it.',
    limits: { maxBytes: 30 * 1_024 * 1_024, timeoutMs: 30_000 },
  },
  endpoint: 'https://api.sendgrid.com',
  elsewhere: 'https://api.eu.sendgrid.com keeps the data in the European Union.',
  fields: {
    apiKey: apiKey.describe('An API key with the permission mail.send.').meta({ secret: true }),
    webhookPublicKey: checked((key) =>
      isSendGridKey(key) ? undefined : 'must be the verification key of the Event Webhook, in base64',
    )
      .optional()
      .describe('Verification key of the signed Event Webhook. Without it callbacks are refused.'),
  },
  authorization: (config) => ({ authorization: `Bearer ${config.apiKey}` }),
  secrets: (config) => [config.apiKey],
  probe: () => ({ path: '/v3/scopes', method: 'GET' }),
  problemOfProbe: ({ status, body }) => {
    if (status !== 200) return `SendGrid answered ${status}: ${errorsIn(body)}`;
    return body.includes('"mail.send"') ? undefined : 'the key lacks the permission mail.send';
  },
  request: async (mail, { config, message, attemptKey }) => {
    try {
      return await written(mailOf(mail, message.deliveryId, attemptKey));
    } catch (error) {
      const words = presentable(error instanceof Error ? error.message : 'refused', message, [config.apiKey]);
      return rejected('VALIDATION', 'INVALID_MESSAGE', words);
    }
  },
  messageId: ({ headers }) => headers['x-message-id'],
  refusal: ({ status, headers, body }, now) => {
    // https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/rate-limits: seconds since 1970
    const reset = Number(headers['x-ratelimit-reset'] ?? Number.NaN);
    const isReset = status === 429 && headers['retry-after'] === undefined && !Number.isNaN(reset);
    return { words: errorsIn(body), ...(isReset && { retryAfterMs: Math.max(reset * 1_000 - now.getTime(), 0) }) };
  },
};

/**
 * Has no `lookup`: SendGrid's records are read through the Email Activity API, which has to be bought in addition and
 * takes six requests a minute (https://www.twilio.com/docs/sendgrid/api-reference/email-activity). It cannot be relied on.
 */
export class SendGridAdapter extends HttpEmail<SendGridConfig> {
  readonly parseCallback = parseSendGridCallback;

  constructor(egress: Egress, userAgent: string) {
    super(API, egress, userAgent);
  }
}

/**
 * The request as the SDK checks and writes it. Its own client would send it through axios, which follows redirects, obeys
 * proxy variables and connects to any address; so it leaves through the guard instead.
 *
 * @throws what the SDK has against the message
 */
async function written(mail: MailDataRequired): Promise<ApiRequest> {
  // Loaded when the first message is sent, as are all SDKs: most installations never need most of them.
  const { MailService } = (await import('@sendgrid/mail')) as unknown as { MailService: typeof MailServiceClass };
  const service = new MailService();
  let request: ApiRequest | undefined;
  const client = {
    request: async ({ url, body }: { readonly url: string; readonly body: object }) => {
      request = jsonRequest(url, body);
      return [{}, {}];
    },
  };
  service.setClient(client as unknown as Parameters<typeof service.setClient>[0]);
  await service.send(mail);
  if (!request) throw new Error('@sendgrid/mail wrote nothing');
  return request;
}

function mailOf(mail: EmailInMemory, deliveryId: string, attemptKey: string): MailDataRequired {
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

/** `{"errors":[{"message":"…","field":"from.email","help":"…"}]}` as one line. */
function errorsIn(body: string): string {
  const { errors } = objectIn(body) as { errors?: { message?: string; field?: string | null }[] };
  return (Array.isArray(errors) ? errors : [])
    .map(({ message, field }) => (field ? `${field}: ${message}` : `${message}`))
    .join('; ');
}
