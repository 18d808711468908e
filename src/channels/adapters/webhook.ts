import type { Dispatcher } from 'undici';
import { instantOf } from '../../domain/instant.js';
import type { Attachment, Json } from '../../domain/vocabulary.js';
import { Adapter, type Declaration, inField, problemAt } from '../adapter.js';
import type { OutgoingMessage, SendOptions, SendOutcome } from '../channel.js';
import { inBase64 } from '../files/file-sources.js';
import { AccessTokens, type ClientCredentials } from '../net/client-credentials.js';
import type { Outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { exchange, type HttpAnswer, type HttpResult, refusedByHttp } from '../net/http.js';
import { explanation } from '../net/json.js';
import type { ClientTls, Way } from '../net/ways-out.js';
import { presentable, type Rejected, rejected, unanswered } from '../outcome.js';
import { JUDGED_BYTES, type ResponseRule, refusedByRule, ruleFor } from '../webhook/response-rules.js';
import { webhookSchema } from '../webhook/schema.js';
import { decodeSecret, type SigningKey, signatures } from '../webhook/standard-webhooks.js';

/**
 * Webhooks as Standard Webhooks 1.0 describes them (https://www.standardwebhooks.com): a JSON body, an id that stays the
 * same over all attempts, so that the receiver can recognise a repetition, and a signature over id, time and body.
 */
const DECLARATION: Declaration = {
  channel: 'WEBHOOK',
  provider: 'webhook',
  configKey: 'webhook',
  idempotency: 'keyed',
  acceptanceIsDelivery: true,
  inDoubt: 'resend',
  tested:
    'HEAD, which promises to change nothing (RFC 9110, 9.2.1): that anybody answers, and that there is a token where one is needed.',
  limits: { maxBytes: 10 * 1_024 * 1_024, timeoutMs: 15_000 },
};

const EVENT_TYPE = /^[a-z0-9._-]{1,100}$/;

interface WebhookConfig extends Outbound {
  readonly url: string;
  readonly method?: 'POST' | 'PUT' | 'PATCH';
  readonly headers?: Readonly<Record<string, string>>;
  readonly secret?: string;
  readonly previousSecret?: string;
  readonly previousSecretUntil?: string;
  readonly oauth?: ClientCredentials;
  readonly tls?: ClientTls;
  readonly responseRules?: readonly ResponseRule[];
}

/** What never changes from one message to the next. */
interface Target {
  readonly origin: string;
  readonly host: string;
  readonly path: string;
  readonly method: Dispatcher.HttpMethod;
  readonly headers: readonly string[];
  readonly keys: readonly SigningKey[];
  readonly timeoutMs: number;
  readonly oauth: ClientCredentials | undefined;
  readonly way: Way;
  readonly rules: readonly ResponseRule[];
  /** Never to be quoted. */
  readonly secrets: readonly string[];
}

export class WebhookAdapter extends Adapter<WebhookConfig> {
  readonly #egress: Egress;
  readonly #userAgent: string;
  readonly #tokens = new AccessTokens();
  /** By identity: a configuration is replaced and never changed, and lives as long as its owner keeps it cached. */
  readonly #targets = new WeakMap<WebhookConfig, Target>();

  constructor(egress: Egress, userAgent: string) {
    const schema = webhookSchema(egress, DECLARATION.limits.timeoutMs);
    super(
      DECLARATION,
      schema,
      inField('url', (url) => egress.problemWithUrl(url)),
    );
    this.#egress = egress;
    this.#userAgent = userAgent;
  }

  protected async probe(config: WebhookConfig, signal: AbortSignal) {
    const target = this.#target(config);
    const { origin, path, timeoutMs, host, oauth } = target;
    const headers = ['user-agent', this.#userAgent];
    if (oauth) {
      const granted = await this.#tokens.get(oauth, this.#dispatcher(target), { signal, now: new Date() });
      if (granted.kind === 'rejected') return problemAt('oauth', granted);
      headers.push('authorization', `Bearer ${granted.token}`);
    }
    const request = { origin, path, method: 'HEAD' as const, headers };
    const result = await exchange(this.#dispatcher(target), { ...request, timeoutMs, signal });
    return result.kind === 'answer' ? undefined : problemAt('url', unanswered(result.error, host, false));
  }

  protected async deliver(config: WebhookConfig, message: OutgoingMessage, options: SendOptions): Promise<SendOutcome> {
    const { attemptKey, now } = options;
    const target = this.#target(config);
    const { attachments } = message.content;
    const files = attachments && (await Promise.all(attachments.map(inBase64)));
    const body = Buffer.from(bodyOf(message, files, now));
    if (body.length > DECLARATION.limits.maxBytes) {
      return rejected(
        'VALIDATION',
        'TOO_LARGE',
        `the body has ${body.length} bytes, ${DECLARATION.limits.maxBytes} fit`,
      );
    }
    const seconds = String(Math.floor(now.getTime() / 1_000));
    const all = [...target.headers, 'webhook-id', attemptKey, 'webhook-timestamp', seconds];
    if (target.keys.length > 0) all.push('webhook-signature', signatures(target.keys, attemptKey, seconds, body, now));
    const result = target.oauth
      ? await this.#authorized(target, target.oauth, all, body, options)
      : await this.#exchange(target, all, body, options);
    if (result.kind === 'rejected') return result;
    if (result.kind === 'silence') return unanswered(result.error, target.host, result.sent);
    return judged(result, target, message, now);
  }

  /** A token may end before its time: a 401 is answered with another one, once. */
  async #authorized(
    target: Target,
    oauth: ClientCredentials,
    headers: readonly string[],
    body: Buffer,
    options: SendOptions,
  ): Promise<HttpResult | Rejected> {
    const attempt = async (refused?: string) => {
      const wish = { signal: options.signal, now: options.now, ...(refused !== undefined && { refused }) };
      const granted = await this.#tokens.get(oauth, this.#dispatcher(target), wish);
      if (granted.kind === 'rejected') return { result: granted };
      const authorized = [...headers, 'authorization', `Bearer ${granted.token}`];
      return { result: await this.#exchange(target, authorized, body, options), token: granted.token };
    };
    const { result, token } = await attempt();
    if (result.kind !== 'answer' || result.status !== 401) return result;
    return (await attempt(token)).result;
  }

  #exchange(target: Target, headers: string[], body: Buffer, options: SendOptions): Promise<HttpResult> {
    const { origin, path, method, timeoutMs, rules } = target;
    const request = { origin, path, method, headers, body, timeoutMs, signal: options.halt ?? options.signal };
    return exchange(this.#dispatcher(target), rules.length > 0 ? { ...request, keepBytes: JUDGED_BYTES } : request);
  }

  #dispatcher({ way }: Target): Dispatcher {
    return this.#egress.dispatcher(way);
  }

  #target(config: WebhookConfig): Target {
    let target = this.#targets.get(config);
    if (!target) {
      target = targetOf(config as unknown as WebhookConfig, this.#userAgent);
      this.#targets.set(config, target);
    }
    return target;
  }
}

function targetOf(config: WebhookConfig, userAgent: string): Target {
  const { oauth, tls, proxy } = config;
  const url = new URL(config.url);
  const own = Object.entries(config.headers ?? {});
  const defaults = [
    ['content-type', 'application/json'],
    ['user-agent', userAgent],
  ].filter(([name]) => !own.some(([given]) => given.toLowerCase() === name));
  const untilMs = config.previousSecretUntil ? Date.parse(config.previousSecretUntil) : Number.POSITIVE_INFINITY;
  const secrets = [
    { text: config.secret, untilMs: Number.POSITIVE_INFINITY },
    { text: config.previousSecret, untilMs },
  ];
  const others = [oauth?.clientSecret, tls?.key, tls?.passphrase, proxy?.password];
  return {
    origin: url.origin,
    host: url.host,
    path: url.pathname + url.search,
    method: config.method ?? 'POST',
    headers: [...defaults, ...own].flat(),
    keys: secrets.flatMap(({ text, untilMs }) => {
      const key = text === undefined ? undefined : decodeSecret(text);
      return key ? [{ key, untilMs }] : [];
    }),
    timeoutMs: config.timeout ?? DECLARATION.limits.timeoutMs,
    oauth,
    way: config,
    rules: config.responseRules ?? [],
    secrets: [...own.map(([, value]) => value), ...secrets.map(({ text }) => text), ...others].filter(
      (text) => text !== undefined,
    ),
  };
}

function bodyOf(
  { deliveryId, content }: OutgoingMessage,
  attachments: readonly Attachment[] | undefined,
  now: Date,
): string {
  const { subject, text, html, data } = content;
  // JSON.stringify leaves out what is undefined.
  const payload = { deliveryId, subject, text, html, data, attachments };
  return JSON.stringify({ type: eventType(data), timestamp: instantOf(now.getTime()), data: payload });
}

function eventType(data: Json | undefined): string {
  const type = typeof data === 'object' && data !== null && 'type' in data ? data.type : undefined;
  return typeof type === 'string' && EVENT_TYPE.test(type) ? type : 'waybill.delivery';
}

function judged(answer: HttpAnswer, target: Target, message: OutgoingMessage, now: Date): SendOutcome {
  const rule = target.rules.length > 0 ? ruleFor(target.rules, answer) : undefined;
  const isGood = rule ? rule.outcome === 'success' : answer.status >= 200 && answer.status < 300;
  if (isGood) return { kind: 'accepted', delivered: true };
  const words = presentable(explanation(answer.body), message, target.secrets);
  const detail = `${target.host} answered ${answer.status}${words && `: ${words}`}`;
  if (rule) return refusedByRule(rule, answer, detail, now);
  const outcome = refusedByHttp(answer, detail, now);
  return answer.status === 410 ? { ...outcome, gone: true } : outcome;
}
