import { z } from 'zod';
import { Adapter, type ConfigOf, type Declaration, inField } from '../adapter.js';
import type { OutgoingMessage, SendOptions, SendOutcome } from '../channel.js';
import { checked, template } from '../config.js';
import { textOfHtml } from '../email/compose.js';
import { type InboxPort, problemWithRecipient } from '../messages/inbox.js';
import { type Rendered, render, templateError, variablesOf } from '../messages/liquid.js';
import { abortReason, type Rejected, rejected, unanswered } from '../outcome.js';

/** Messages in the inbox that Waybill keeps for each user of an application (docs/inbox.md). */
const DECLARATION: Declaration = {
  channel: 'IN_APP',
  provider: 'inapp',
  configKey: 'inApp',
  idempotency: 'keyed',
  acceptanceIsDelivery: true,
  inDoubt: 'resend',
  tested: 'Nothing is connected to: what stores the messages is what answers the test.',
  limits: { maxBytes: 64 * 1_024, timeoutMs: 10_000 },
};

const DAY_SECONDS = 86_400;
const DEFAULT_TTL_SECONDS = 30 * DAY_SECONDS;

const schema = () =>
  z.strictObject({
    recipient: checked(problemWithRecipient).describe(
      'Whose inbox: an opaque id of the user, as the application calls them; for people who log in by OpenID Connect their actor, such as `corp:8f14e45f`.',
    ),
    titleTemplate: template(1_000)
      .optional()
      .describe('Liquid template of the title; wins over the subject of the request.'),
    bodyTemplate: template(100_000)
      .optional()
      .describe('Liquid template of the text; wins over the text of the request.'),
    ttlSeconds: z
      .int()
      .min(60)
      .max(366 * DAY_SECONDS)
      .optional()
      .describe('How long the message is shown, in seconds; the expiry of the delivery can only shorten it.')
      .meta({ default: DEFAULT_TTL_SECONDS }),
  });

type InAppConfig = ConfigOf<typeof schema>;

export class InAppAdapter extends Adapter<InAppConfig> {
  readonly #inboxes: InboxPort | undefined;

  /** @param inboxes missing where the adapter only describes itself */
  constructor(inboxes?: InboxPort) {
    super(DECLARATION, schema(), inField('recipient', problemWithRecipient));
    this.#inboxes = inboxes;
  }

  protected async probe(): Promise<undefined> {
    return undefined;
  }

  protected async deliver(
    config: InAppConfig,
    message: OutgoingMessage,
    { attemptKey, now, signal }: SendOptions,
  ): Promise<SendOutcome> {
    if (!this.#inboxes) throw new Error('no inboxes are plugged in');
    const { organizationId, deliveryId, priority = 'NORMAL' } = message;
    const { recipient, ttlSeconds = DEFAULT_TTL_SECONDS } = config;
    if (signal.aborted) return unanswered(abortReason(signal), 'the inbox', false);
    const content = await contentOf(config, message);
    if ('kind' in content) return content;
    const size = Buffer.byteLength(JSON.stringify(content));
    const { maxBytes } = DECLARATION.limits;
    if (size > maxBytes) return rejected('VALIDATION', 'TOO_LARGE', `the message has ${size} bytes, ${maxBytes} fit`);
    const until = new Date(now.getTime() + ttlSeconds * 1_000).toISOString();
    const expiresAt = message.expiresAt !== undefined && message.expiresAt < until ? message.expiresAt : until;
    try {
      const stored = { organizationId, deliveryId, recipient, content, priority, expiresAt };
      const { id } = await this.#inboxes.store(stored, attemptKey);
      return { kind: 'accepted', delivered: true, providerMessageId: id };
    } catch {
      return rejected('TEMPORARY', 'INBOX_UNAVAILABLE', 'the inbox could not be written');
    }
  }
}

interface Shown {
  readonly title?: string;
  readonly text?: string;
  readonly data?: NonNullable<OutgoingMessage['content']['data']>;
}

async function contentOf(config: InAppConfig, message: OutgoingMessage): Promise<Shown | Rejected> {
  const { content } = message;
  const title = rendered(config.titleTemplate, content.subject, message);
  if (title?.kind === 'failed') return templateError('titleTemplate', title.problem);
  const plain = content.text ?? (content.html === undefined ? undefined : await textOfHtml(content.html));
  const text = rendered(config.bodyTemplate, plain, message);
  if (text?.kind === 'failed') return templateError('bodyTemplate', text.problem);
  const shown = {
    ...(title && { title: title.text.replace(/\p{Cc}+/gu, ' ').trim() }),
    ...(text && { text: text.text }),
    ...(content.data !== undefined && content.data !== null && { data: content.data }),
  };
  if (Object.keys(shown).length > 0) return shown;
  return rejected('VALIDATION', 'EMPTY_BODY', 'a message in the app needs a subject, a text or data');
}

function rendered(
  template: string | undefined,
  otherwise: string | undefined,
  message: OutgoingMessage,
): Rendered | undefined {
  if (template !== undefined) return render(template, variablesOf(message));
  return otherwise === undefined ? undefined : { kind: 'rendered', text: otherwise };
}
