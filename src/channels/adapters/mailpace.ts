import { isMailpaceKey, parseMailpaceCallback } from '../callbacks/mailpace.js';
import { checked } from '../config.js';
import {
  apiKey,
  type EmailApi,
  HttpEmail,
  type HttpEmailConfig,
  jsonRequest,
  mailbox,
  unsupported,
} from '../email/http-email.js';
import type { Egress } from '../net/egress.js';
import type { HttpAnswer } from '../net/http.js';
import { objectIn } from '../net/json.js';

/** E-mail through MailPace (https://docs.mailpace.com/reference/send). */
interface MailpaceConfig extends HttpEmailConfig {
  /** The domain's own API token. */
  readonly apiKey: string;
}

/** Recipients in one request (https://docs.mailpace.com/reference/send). */
const RECIPIENTS = 50;
/** Header fields of ours that MailPace has a place for, or that can be left out. */
const COVERED = new Set(['list-unsubscribe', 'list-unsubscribe-post', 'importance', 'x-priority']);

const API: EmailApi<MailpaceConfig> = {
  name: 'MailPace',
  declaration: {
    channel: 'EMAIL',
    provider: 'mailpace',
    configKey: 'email',
    idempotency: 'none',
    acceptanceIsDelivery: false,
    inDoubt: 'resend',
    tested:
      'Posts a message to nobody: the token is checked first, so a complaint about the missing recipient speaks for it.',
    limits: { maxBytes: 50 * 1_024 * 1_024, timeoutMs: 30_000 },
  },
  endpoint: 'https://app.mailpace.com/api/v1',
  fields: {
    apiKey,
    webhookPublicKey: checked((key) => (isMailpaceKey(key) ? undefined : 'must be 32 bytes in base64'))
      .optional()
      .describe('Public key of the webhooks of the domain. Without it callbacks are refused.'),
  },
  without: ['headers'],
  authorization: (config) => ({ 'mailpace-server-token': config.apiKey }),
  secrets: (config) => [config.apiKey],
  probe: () => jsonRequest('/send', {}),
  problemOfProbe: (answer) => {
    const words = wordsOf(answer);
    return answer.status === 400 && !WRONG_TOKEN.test(words)
      ? undefined
      : `MailPace answered ${answer.status}: ${words}`;
  },
  request: (mail) => {
    const { from, to, cc, bcc, replyTo, subject, text, html, attachments, headers, tags } = mail;
    if (headers.some(([name]) => !COVERED.has(name.toLowerCase()))) return unsupported('MailPace', 'custom headers');
    if (to.length > RECIPIENTS) return unsupported('MailPace', `more than ${RECIPIENTS} recipients`);
    const unsubscribe = headers.find(([name]) => name === 'List-Unsubscribe')?.[1];
    return jsonRequest('/send', {
      from: mailbox(from),
      to: to.join(', '),
      ...(cc.length > 0 && { cc: cc.join(', ') }),
      ...(bcc.length > 0 && { bcc: bcc.join(', ') }),
      ...(replyTo !== undefined && { replyto: replyTo }),
      subject,
      // One of both is required: a message that is only its attachments repeats its subject.
      ...(html === undefined ? { textbody: text ?? (subject || ' ') } : { htmlbody: html, textbody: text ?? '' }),
      ...(unsubscribe !== undefined && { list_unsubscribe: unsubscribe }),
      ...(attachments.length > 0 && {
        attachments: attachments.map(({ filename, contentType, base64, contentId }) => ({
          name: filename,
          content: base64,
          content_type: contentType,
          ...(contentId !== undefined && { cid: `cid:${contentId}` }),
        })),
      }),
      ...(tags.length > 0 && { tags }),
    });
  },
  messageId: ({ body }) => {
    const { id } = objectIn(body);
    return typeof id === 'number' || typeof id === 'string' ? String(id) : undefined;
  },
  // By its words: a wrong token is a 400, and so is an address that is blocked there.
  errors: {
    source: 'https://docs.mailpace.com/reference/responses',
    categories: { 'API token': 'AUTHENTICATION', 'blocked address': 'PERMANENT', 403: 'CONFIGURATION' },
  },
  refusal: (answer) => {
    const words = wordsOf(answer);
    if (WRONG_TOKEN.test(words)) return { words, category: 'AUTHENTICATION' };
    if (/blocked address/i.test(words)) return { words, category: 'PERMANENT', code: 'MAILPACE_BLOCKED_ADDRESS' };
    return answer.status === 403 ? { words, category: 'CONFIGURATION' } : { words };
  },
};

export class MailpaceAdapter extends HttpEmail<MailpaceConfig> {
  readonly parseCallback = parseMailpaceCallback;

  constructor(egress: Egress, userAgent: string) {
    super(API, egress, userAgent);
  }
}

const WRONG_TOKEN = /api token/i;

/** `{"error": "…"}` or `{"errors": {"to": ["is invalid"]}}` as one line. */
function wordsOf({ body }: HttpAnswer): string {
  const { error, errors } = objectIn(body);
  if (typeof error === 'string') return error;
  if (typeof errors !== 'object' || errors === null) return '';
  return Object.entries(errors)
    .map(([field, problems]) => `${field}: ${[problems].flat().join(', ')}`)
    .join('; ');
}
