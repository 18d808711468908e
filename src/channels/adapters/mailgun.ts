import { z } from 'zod';
import type { ErrorCategory } from '../../domain/vocabulary.js';
import { parseMailgunCallback } from '../callbacks/mailgun.js';
import type { EmailInMemory } from '../email/compose.js';
import {
  type ApiRequest,
  apiKey,
  type EmailApi,
  HttpEmail,
  type HttpEmailConfig,
  mailbox,
} from '../email/http-email.js';
import type { Egress } from '../net/egress.js';
import { objectIn } from '../net/json.js';

/** E-mail through Mailgun (https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages). */
interface MailgunConfig extends HttpEmailConfig {
  readonly apiKey: string;
  readonly domain: string;
}

/** Labels that Mailgun takes for one message. */
const TAGS = 10;

/** Statuses that mean something else than everywhere; 402 is an account that may not send, 404 a domain that is not there. */
const STATUS: Readonly<Record<number, ErrorCategory>> = { 402: 'CONFIGURATION', 404: 'CONFIGURATION' };

const API: EmailApi<MailgunConfig> = {
  name: 'Mailgun',
  declaration: {
    channel: 'EMAIL',
    provider: 'mailgun',
    configKey: 'email',
    idempotency: 'none',
    acceptanceIsDelivery: false,
    inDoubt: 'resend',
    tested:
      'Posts a message to nobody: the key is checked first, so a complaint about the missing recipient speaks for it.',
    limits: { maxBytes: 25 * 1_024 * 1_024, timeoutMs: 30_000 },
  },
  endpoint: 'https://api.mailgun.net',
  elsewhere: 'Domains in the European Union are at https://api.eu.mailgun.net.',
  fields: {
    apiKey,
    webhookSigningKey: z
      .string()
      .min(1)
      .max(200)
      .optional()
      .describe('HTTP webhook signing key of the account. Without it callbacks are refused.')
      .meta({ secret: true }),
    domain: z
      .string()
      .regex(/^[A-Za-z0-9.-]{1,253}$/, 'must be a domain name')
      .describe('The sending domain.'),
  },
  authorization: (config) => ({
    authorization: `Basic ${Buffer.from(`api:${config.apiKey}`).toString('base64')}`,
  }),
  secrets: (config) => [config.apiKey],
  probe: ({ domain }) => ({
    path: `/v3/${domain}/messages`,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: 'text=test',
  }),
  problemOfProbe: ({ status, body }) => (status === 400 ? undefined : `Mailgun answered ${status}: ${wordsOf(body)}`),
  request: (mail, { config, message, attemptKey }) => formOf(mail, config.domain, message.deliveryId, attemptKey),
  messageId: ({ body }) => {
    const { id } = objectIn(body);
    return typeof id === 'string' ? id.replace(/^<|>$/g, '') : undefined;
  },
  errors: {
    source: 'https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages',
    categories: STATUS,
  },
  refusal: ({ status, body }) => {
    const category = STATUS[status];
    return { words: wordsOf(body), ...(category && { category }) };
  },
};

export class MailgunAdapter extends HttpEmail<MailgunConfig> {
  readonly parseCallback = parseMailgunCallback;

  constructor(egress: Egress, userAgent: string) {
    super(API, egress, userAgent);
  }
}

/** Mailgun takes fields as a form: `o:` are its options, `h:` header fields, `v:` what comes back with every event. */
async function formOf(
  mail: EmailInMemory,
  domain: string,
  deliveryId: string,
  attemptKey: string,
): Promise<ApiRequest> {
  const form = new FormData();
  form.set('from', mailbox(mail.from));
  for (const field of ['to', 'cc', 'bcc'] as const) for (const address of mail[field]) form.append(field, address);
  form.set('subject', mail.subject);
  // One of both is required: a message that is only its attachments repeats its subject.
  if (mail.text !== undefined || mail.html === undefined) form.set('text', mail.text ?? (mail.subject || ' '));
  if (mail.html !== undefined) form.set('html', mail.html);
  if (mail.replyTo !== undefined) form.set('h:Reply-To', mail.replyTo);
  form.set('h:Message-Id', `<${mail.messageId}>`);
  for (const [name, value] of mail.headers) form.append(`h:${name}`, value);
  for (const tag of mail.tags.slice(0, TAGS)) form.append('o:tag', tag);
  form.set('v:deliveryId', deliveryId);
  form.set('v:attemptKey', attemptKey);
  for (const { filename, contentType, base64, contentId } of mail.attachments) {
    const file = new Blob([Buffer.from(base64, 'base64')], { type: contentType });
    // Mailgun makes the content id of an inline image from its file name.
    form.append(contentId === undefined ? 'attachment' : 'inline', file, contentId ?? filename);
  }
  const encoded = new Response(form);
  return {
    path: `/v3/${domain}/messages`,
    headers: { 'content-type': encoded.headers.get('content-type') ?? '' },
    body: Buffer.from(await encoded.arrayBuffer()),
  };
}

/** `{"message": "…"}`, or plain text where the key is refused. */
function wordsOf(body: string): string {
  const { message } = objectIn(body);
  return typeof message === 'string' ? message : body.slice(0, 200);
}
