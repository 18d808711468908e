import type { ErrorCategory } from '../../domain/vocabulary.js';
import { parseResendCallback } from '../callbacks/resend.js';
import { checked } from '../config.js';
import { apiKey, type EmailApi, HttpEmail, type HttpEmailConfig, jsonRequest, mailbox } from '../email/http-email.js';
import type { Egress } from '../net/egress.js';
import { objectIn } from '../net/json.js';
import { sharedSecret } from '../webhook/standard-webhooks.js';

/** E-mail through Resend (https://resend.com/docs/api-reference/emails/send-email). */
interface ResendConfig extends HttpEmailConfig {
  readonly apiKey: string;
}

/** Names in the bodies of refusals that say more than the status (https://resend.com/docs/api-reference/errors). */
const CATEGORIES: Readonly<Record<string, ErrorCategory>> = {
  invalid_api_key: 'AUTHENTICATION',
  missing_api_key: 'AUTHENTICATION',
  restricted_api_key: 'AUTHENTICATION',
  invalid_from_address: 'CONFIGURATION',
  invalid_attachment: 'VALIDATION',
  invalid_idempotency_key: 'VALIDATION',
  invalid_idempotent_request: 'VALIDATION', // the key was used for another body
  concurrent_idempotent_requests: 'TEMPORARY', // the first call with this key is still under way
  daily_quota_exceeded: 'RATE_LIMIT',
  monthly_quota_exceeded: 'RATE_LIMIT',
  rate_limit_exceeded: 'RATE_LIMIT',
  not_found: 'CONFIGURATION',
};

const API: EmailApi<ResendConfig> = {
  name: 'Resend',
  declaration: {
    channel: 'EMAIL',
    provider: 'resend',
    configKey: 'email',
    /** For 24 hours (https://resend.com/docs/dashboard/emails/idempotency-keys). */
    idempotency: 'keyed',
    acceptanceIsDelivery: false,
    inDoubt: 'resend',
    tested: 'Lists the domains. A key that may only send is told so, which it would not be if it were wrong.',
    limits: { maxBytes: 40 * 1_024 * 1_024, timeoutMs: 30_000 },
  },
  endpoint: 'https://api.resend.com',
  errors: { source: 'https://resend.com/docs/api-reference/errors', categories: CATEGORIES },
  fields: {
    apiKey,
    webhookSecret: checked((text) =>
      sharedSecret(text) ? undefined : 'must be the signing secret of the webhook (whsec_…)',
    )
      .optional()
      .describe('Signing secret of the webhook. Without it callbacks are refused.')
      .meta({ secret: true }),
  },
  authorization: (config) => ({ authorization: `Bearer ${config.apiKey}` }),
  secrets: (config) => [config.apiKey],
  probe: () => ({ path: '/domains', method: 'GET' }),
  problemOfProbe: ({ status, body }) => {
    const { name, message } = objectIn(body);
    return status === 200 || name === 'restricted_api_key' ? undefined : `Resend answered ${status}: ${message ?? ''}`;
  },
  request: (mail, { message, attemptKey }) => {
    const { from, to, cc, bcc, replyTo, subject, text, html, attachments, headers, tags } = mail;
    return jsonRequest(
      '/emails',
      {
        from: mailbox(from),
        to,
        ...(cc.length > 0 && { cc }),
        ...(bcc.length > 0 && { bcc }),
        ...(replyTo !== undefined && { reply_to: replyTo }),
        subject,
        // One of both is required: a message that is only its attachments repeats its subject.
        ...(html === undefined ? { text: text ?? (subject || ' ') } : { html, ...(text !== undefined && { text }) }),
        ...(headers.length > 0 && { headers: Object.fromEntries(headers) }),
        ...(attachments.length > 0 && {
          attachments: attachments.map(({ filename, contentType, base64, contentId }) => ({
            filename,
            content: base64,
            content_type: contentType,
            ...(contentId !== undefined && { content_id: contentId }),
          })),
        }),
        // Come back with every event. Letters, digits, underscores and dashes only.
        tags: [
          { name: 'delivery_id', value: message.deliveryId },
          { name: 'attempt_key', value: attemptKey },
          ...tags.map((tag, index) => ({ name: `tag_${index + 1}`, value: tag.replace(/[^\w-]/g, '_') })),
        ],
      },
      { 'idempotency-key': attemptKey },
    );
  },
  messageId: ({ body }) => objectIn(body).id,
  refusal: ({ body }) => {
    const { name, message } = objectIn(body);
    const category = CATEGORIES[String(name)];
    return {
      words: typeof message === 'string' ? message : '',
      ...(category && { category, code: `RESEND_${String(name).toUpperCase()}` }),
    };
  },
};

export class ResendAdapter extends HttpEmail<ResendConfig> {
  readonly parseCallback = parseResendCallback;

  constructor(egress: Egress, userAgent: string) {
    super(API, egress, userAgent);
  }
}
