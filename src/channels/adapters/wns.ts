import { z } from 'zod';
import type { ErrorCategory, JsonObject } from '../../domain/vocabulary.js';
import { Adapter, type ConfigOf, type Declaration, inField, NO_MESSAGE, problemAt } from '../adapter.js';
import type { OutgoingMessage, SendOptions, SendOutcome } from '../channel.js';
import { checked, endpoint, inDoubt } from '../config.js';
import { withDeadline } from '../deadline.js';
import { pushContentOf, pushFields, repetitionKey, secondsToLive, tooLarge } from '../messages/push.js';
import { BearerClient, type Grant } from '../net/bearer.js';
import { outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { type HttpAnswer, refusedByHttp } from '../net/http.js';
import { accepted, presentable, rejected, unanswered } from '../outcome.js';
import { escapeXml } from '../vendors/xml.js';

/**
 * Push messages to Windows through WNS
 * (https://learn.microsoft.com/windows/apps/develop/notifications/push-notifications/push-request-response-headers).
 */
const DECLARATION: Declaration = {
  channel: 'PUSH',
  provider: 'wns',
  configKey: 'push',
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'resend',
  tested: 'Asks for a token, which needs the id and its secret.',
  limits: { maxBytes: 5_000, timeoutMs: 15_000 },
};

const schema = (egress: Egress) => {
  const text = (limit: number) => z.string().min(1).max(limit);
  return z.strictObject({
    service: z.literal('wns').describe('Chooses this provider.'),
    tenantId: z
      .string()
      .regex(/^[\w.-]{1,100}$/, 'must be the id of a directory')
      .optional()
      .describe('Directory of the app registration in Entra. Default: none, the app is registered in the Store alone.'),
    clientId: text(200).describe('Application id, or the package SID (ms-app://…) of an app of the Store.'),
    clientSecret: text(500).describe('Its secret.').meta({ secret: true }),
    to: checked(problemWithChannel).describe('The channel URI of the device.'),
    ...pushFields,
    type: z
      .enum(['toast', 'raw'])
      .optional()
      .describe('`toast` is shown by Windows; `raw` gives the app `{"title", "body", "data"}`.')
      .meta({ default: 'toast' }),
    endpoint: checked((url) => egress.problemWithUrl(url))
      .optional()
      .describe('Server that is asked instead of the one that the channel URI names. Default: that one.'),
    tokenEndpoint: endpoint(egress, "Entra's or the Store's own").describe(
      'Where the secret is exchanged for a token.',
    ),
    ...outbound(egress, DECLARATION.limits.timeoutMs),
    inDoubt: inDoubt('resend'),
  });
};

type WnsConfig = ConfigOf<typeof schema>;

/** "WNS response codes" of the same page. */
const CATEGORIES: Readonly<Record<number, ErrorCategory>> = {
  400: 'VALIDATION',
  401: 'AUTHENTICATION',
  403: 'CONFIGURATION', // the channel is of another app
  404: 'PERMANENT', // no such channel
  405: 'SYSTEM',
  406: 'RATE_LIMIT', // the channel is throttled
  410: 'PERMANENT', // the channel has expired
  413: 'VALIDATION',
};

export class WnsAdapter extends Adapter<WnsConfig> {
  readonly errors = {
    source:
      'https://learn.microsoft.com/windows/apps/develop/notifications/push-notifications/push-request-response-headers',
    categories: CATEGORIES,
  };
  readonly #client: BearerClient;

  constructor(egress: Egress) {
    super(DECLARATION, schema(egress), inField('to', problemWithChannel));
    this.#client = new BearerClient(egress);
  }

  protected async probe(config: WnsConfig, given: AbortSignal) {
    const timeoutMs = config.timeout ?? DECLARATION.limits.timeoutMs;
    const token = await withDeadline(timeoutMs, given, (signal) =>
      this.#client.fresh(grantOf(config), { message: NO_MESSAGE, now: new Date(), timeoutMs, signal }),
    );
    if (typeof token === 'string') return undefined;
    return problemAt(token.category === 'AUTHENTICATION' ? 'clientSecret' : 'tokenEndpoint', token);
  }

  protected async deliver(
    config: WnsConfig,
    message: OutgoingMessage,
    { attemptKey, now, signal }: SendOptions,
  ): Promise<SendOutcome> {
    const content = pushContentOf(message, config);
    if ('kind' in content) return content;
    const { to, type = 'toast' } = config;
    const body = type === 'raw' ? JSON.stringify(content) : toastOf(content);
    const large = tooLarge(Buffer.byteLength(body), DECLARATION.limits.maxBytes);
    if (large) return large;
    const { pathname, search } = new URL(to);
    const { origin, host } = new URL(config.endpoint ?? to);
    const timeoutMs = config.timeout ?? DECLARATION.limits.timeoutMs;
    const result = await this.#client.call(grantOf(config), { message, now, timeoutMs, signal }, (token) => ({
      origin,
      path: pathname + search,
      method: 'POST',
      headers: Object.entries({
        authorization: `Bearer ${token}`,
        'content-type': type === 'raw' ? 'application/octet-stream' : 'text/xml; charset=utf-8',
        'x-wns-type': `wns/${type}`,
        'x-wns-ttl': String(secondsToLive(message, config, now)),
        'x-wns-cache-policy': 'cache',
        'x-wns-requestforstatus': 'true',
        'x-wns-priority': message.priority === 'LOW' ? 'Low' : 'High',
        ...(type === 'toast' && { 'x-wns-tag': repetitionKey(attemptKey, 16) }),
      }).flat(),
      body,
    }));
    if (result.kind === 'rejected') return result;
    if (result.kind === 'silence') return unanswered(result.error, host, result.sent);
    return outcomeOf(result, config, message, now);
  }
}

/** Registered with Entra (https://learn.microsoft.com/windows/apps/windows-app-sdk/notifications/push-notifications), or with the Store. */
function grantOf(config: WnsConfig): Grant {
  const { tenantId, clientId, clientSecret, to, tokenEndpoint } = config;
  const [standard, scope] =
    tenantId === undefined
      ? ['https://login.live.com/accesstoken.srf', 'notify.windows.com']
      : [`https://login.microsoftonline.com/${tenantId}/oauth2/v2.0/token`, 'https://wns.windows.com/.default'];
  const url = new URL(tokenEndpoint ?? standard);
  const form = { grant_type: 'client_credentials', client_id: clientId, client_secret: clientSecret, scope };
  return {
    key: JSON.stringify([url, form]),
    host: url.host,
    secrets: [clientSecret, to],
    way: config,
    ask: (wire) =>
      wire.request({
        url,
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams(form).toString(),
      }),
  };
}

/** Nobody but WNS may get the token: "never push notifications to a channel on any other domain" (same page as WNS). */
function problemWithChannel(uri: string): string | undefined {
  const url = URL.canParse(uri) ? new URL(uri) : undefined;
  const isWns = url?.protocol === 'https:' && url.hostname.endsWith('.notify.windows.com') && url.port === '';
  return isWns && url.username === '' ? undefined : 'must be a channel URI: https://….notify.windows.com/…';
}

/** https://learn.microsoft.com/windows/apps/develop/notifications/app-notifications/toast-schema */
function toastOf({
  title,
  body,
  data,
}: {
  readonly title?: string;
  readonly body?: string;
  readonly data?: JsonObject;
}) {
  const launch = data ? ` launch="${escapeXml(JSON.stringify(data))}"` : '';
  const lines = [title, body].flatMap((line) => (line === undefined ? [] : `<text>${escapeXml(line)}</text>`));
  return `<toast${launch}><visual><binding template="ToastGeneric">${lines.join('')}</binding></visual></toast>`;
}

function outcomeOf(answer: HttpAnswer, config: WnsConfig, message: OutgoingMessage, now: Date): SendOutcome {
  const { status, headers } = answer;
  const header = (name: string): string => String(headers[name] ?? '');
  const state = header('x-wns-status');
  if (status === 200 && state !== 'dropped' && state !== 'channelthrottled') {
    return accepted(headers['x-wns-msg-id']);
  }
  const words = presentable(header('x-wns-error-description'), message, [config.clientSecret, config.to]);
  const detail = `WNS answered ${status}${state && ` ${state}`}${words && `: ${words}`}`;
  // Taken and thrown away: the user has switched them off, or too many came.
  if (status === 200)
    return state === 'dropped'
      ? rejected('PERMANENT', 'WNS_DROPPED', detail)
      : rejected('RATE_LIMIT', 'WNS_CHANNELTHROTTLED', detail);
  const refusal = refusedByHttp(answer, detail, now, CATEGORIES[status]);
  const isGone = status === 404 || status === 410;
  return { ...refusal, code: `WNS_${status}`, ...(isGone && { gone: true }) };
}
