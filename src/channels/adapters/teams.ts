import { z } from 'zod';
import type { ErrorCategory, Json } from '../../domain/vocabulary.js';
import { Adapter, type ConfigOf, type Declaration, inField, problemAt } from '../adapter.js';
import type { OutgoingMessage, SendOptions, SendOutcome } from '../channel.js';
import { checked, inDoubt, template } from '../config.js';
import { render, templateError, variablesOf } from '../messages/liquid.js';
import { outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { exchange, nobodyAt, refusedByHttp } from '../net/http.js';
import { objectIn } from '../net/json.js';
import { accepted, presentable, rejected, unanswered } from '../outcome.js';

/**
 * Adaptive Cards to Microsoft Teams by the URL of a workflow ("When a Teams webhook request is received":
 * https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook).
 */
const DECLARATION: Declaration = {
  channel: 'TEAMS',
  provider: 'teams',
  configKey: 'teams',
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'resend',
  tested:
    'Asks the host of the URL with HEAD: that it is there. A workflow takes nothing but cards, so its URL is proved by the first one only.',
  limits: { maxBytes: 28 * 1_024, timeoutMs: 15_000 },
};

/** What a workflow answers beyond what the statuses mean everywhere. */
const STATUS: Readonly<Record<number, ErrorCategory>> = {
  401: 'AUTHENTICATION', // the signature in the URL is wrong or was renewed
  404: 'CONFIGURATION', // the workflow was deleted
  400: 'VALIDATION', // the card is malformed, or the workflow is switched off
};

const schema = (egress: Egress) =>
  z.strictObject({
    url: checked((url) => egress.problemWithUrl(url))
      .describe('URL of the workflow. Whoever has it can post, so it is a secret.')
      .meta({ secret: true }),
    title: template(1_000).optional().describe('Liquid template of the heading; wins over the subject of the request.'),
    bodyTemplate: template(20_000)
      .optional()
      .describe('Liquid template of the text; wins over the text of the request.'),
    mentions: z
      .array(
        z.strictObject({
          id: z.string().min(1).max(200).describe("The person's user principal name or Entra object id."),
          name: z.string().min(1).max(200).describe('As it is shown.'),
        }),
      )
      .max(20)
      .optional()
      .describe('Who is mentioned below the text, 20 people at most.'),
    buttons: z
      .array(
        z.strictObject({
          title: z.string().min(1).max(80).describe('What is on it.'),
          url: template(2_000).describe('Where it leads, a Liquid template: `https://example.com/{{deliveryId}}`.'),
        }),
      )
      .max(6)
      .optional()
      .describe('Buttons below the card, six at most.'),
    ...outbound(egress, DECLARATION.limits.timeoutMs),
    inDoubt: inDoubt('resend'),
  });

type TeamsConfig = ConfigOf<typeof schema>;

export class TeamsAdapter extends Adapter<TeamsConfig> {
  readonly errors = {
    source: 'https://learn.microsoft.com/azure/logic-apps/logic-apps-http-endpoint',
    categories: STATUS,
  };
  readonly #egress: Egress;
  readonly #userAgent: string;

  constructor(egress: Egress, userAgent: string) {
    super(
      DECLARATION,
      schema(egress),
      inField('url', (url) => egress.problemWithUrl(url)),
    );
    this.#egress = egress;
    this.#userAgent = userAgent;
  }

  protected async probe(config: TeamsConfig, signal: AbortSignal) {
    const timeoutMs = config.timeout ?? DECLARATION.limits.timeoutMs;
    const call = { headers: ['user-agent', this.#userAgent], timeoutMs, signal };
    const silence = await nobodyAt(this.#egress.dispatcher(config), new URL(config.url), call);
    return silence && problemAt('url', silence);
  }

  protected async deliver(
    config: TeamsConfig,
    message: OutgoingMessage,
    { now, signal }: SendOptions,
  ): Promise<SendOutcome> {
    const card = cardOf(config, message);
    if ('kind' in card) return card;
    const content = { contentType: 'application/vnd.microsoft.card.adaptive', contentUrl: null, content: card.card };
    const body = JSON.stringify({ type: 'message', attachments: [content] });
    const size = Buffer.byteLength(body);
    const { maxBytes, timeoutMs } = DECLARATION.limits;
    if (size > maxBytes) return rejected('VALIDATION', 'TOO_LARGE', `the card has ${size} bytes, ${maxBytes} fit`);
    const { origin, host, pathname, search } = new URL(config.url);
    const result = await exchange(this.#egress.dispatcher(config), {
      origin,
      path: pathname + search,
      method: 'POST',
      headers: ['content-type', 'application/json', 'user-agent', this.#userAgent],
      body,
      timeoutMs: config.timeout ?? timeoutMs,
      signal,
    });
    if (result.kind === 'silence') return unanswered(result.error, host, result.sent);
    if (result.status >= 200 && result.status < 300) return accepted();
    const words = presentable(wordsOf(result.body), message, secretsIn(config.url));
    const refusal = refusedByHttp(result, `${host} answered ${result.status}${words && `: ${words}`}`, now);
    return { ...refusal, category: STATUS[result.status] ?? refusal.category };
  }
}

function cardOf(config: TeamsConfig, message: OutgoingMessage) {
  const variables = variablesOf(message);
  const { content } = message;
  if (isCard(content.data)) return { card: content.data };
  const title = render(config.title ?? '', variables);
  if (title.kind === 'failed') return templateError('title', title.problem);
  const text = render(config.bodyTemplate ?? '', variables);
  if (text.kind === 'failed') return templateError('bodyTemplate', text.problem);
  const heading = title.text || content.subject || '';
  const words = text.text || content.text || (content.data === undefined ? '' : JSON.stringify(content.data, null, 2));
  const mentions = config.mentions ?? [];
  const actions: object[] = [];
  for (const [index, { title: label, url }] of (config.buttons ?? []).entries()) {
    const target = render(url, variables);
    if (target.kind === 'failed') return templateError(`buttons.${index}.url`, target.problem);
    actions.push({ type: 'Action.OpenUrl', title: label, url: target.text });
  }
  const block = (shown: string, more = {}) => ({ type: 'TextBlock', text: shown, wrap: true, ...more });
  const card = {
    $schema: 'http://adaptivecards.io/schemas/adaptive-card.json',
    type: 'AdaptiveCard',
    version: '1.4',
    body: [
      ...(heading === '' ? [] : [block(heading, { size: 'Large', weight: 'Bolder' })]),
      block(words || heading || ' '),
      ...(mentions.length === 0 ? [] : [block(mentions.map(({ name }) => `<at>${name}</at>`).join(' '))]),
    ],
    ...(actions.length > 0 && { actions }),
    ...(mentions.length > 0 && {
      msteams: {
        entities: mentions.map(({ id, name }) => ({
          type: 'mention',
          text: `<at>${name}</at>`,
          mentioned: { id, name },
        })),
      },
    }),
  };
  return { card };
}

/** A request may bring a whole card of its own as its data. */
const isCard = (data: Json | undefined): boolean =>
  typeof data === 'object' && data !== null && 'type' in data && data.type === 'AdaptiveCard';

/** Of a URL that is a secret: all of it, and each of its values, as the server may quote just one. */
function secretsIn(url: string): string[] {
  const { pathname, search, searchParams } = new URL(url);
  return [url, pathname, search, ...searchParams.values()];
}

function wordsOf(body: string): string {
  const { error } = objectIn(body) as { error?: { code?: unknown; message?: unknown } };
  return [error?.code, error?.message].filter((part) => typeof part === 'string').join(': ');
}
