import type { Dispatcher } from 'undici';
import type { z } from 'zod';
import type { FieldProblem, Json, JsonObject } from '../../domain/vocabulary.js';
import type {
  ChannelAdapter,
  ChannelDescription,
  ConnectionTest,
  OutgoingMessage,
  SendOptions,
  SendOutcome,
} from '../channel.js';
import { AccessTokens, type ClientCredentials } from '../client-credentials.js';
import { problemsOf } from '../config.js';
import { CONNECTION_SECRETS } from '../connection-config.js';
import type { Egress } from '../egress.js';
import { exchange, type HttpAnswer, type HttpResult, refusedByHttp } from '../http.js';
import { explanation } from '../json-answer.js';
import { presentable, type Rejected, rejected, unanswered } from '../outcome.js';
import { JUDGED_BYTES, type ResponseRule, refusedByRule, ruleFor } from '../response-rules.js';
import { decodeSecret, type SigningKey, signatures } from '../standard-webhooks.js';
import type { ClientTls, ProxyServer, Way } from '../ways-out.js';
import { webhookSchema } from '../webhook-schema.js';

/**
 * Webhooks as Standard Webhooks 1.0 describes them (https://www.standardwebhooks.com): a JSON body, an id that stays the
 * same over all attempts, so that the receiver can recognise a repetition, and a signature over id, time and body.
 */
const DESCRIPTION: ChannelDescription = {
  channel: 'WEBHOOK',
  provider: 'webhook',
  configKey: 'webhook',
  secretFields: ['secret', 'previousSecret', ...CONNECTION_SECRETS, 'oauth.clientSecret'],
  idempotency: 'keyed',
  acceptanceIsDelivery: true,
  inDoubt: 'resend',
  limits: { maxBytes: 10 * 1_024 * 1_024, timeoutMs: 15_000 },
};

const EVENT_TYPE = /^[a-z0-9._-]{1,100}$/;

interface WebhookConfig {
  readonly url: string;
  readonly method?: 'POST' | 'PUT' | 'PATCH';
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeout?: number;
  readonly secret?: string;
  readonly previousSecret?: string;
  readonly previousSecretUntil?: string;
  readonly oauth?: ClientCredentials;
  readonly tls?: ClientTls;
  readonly proxy?: ProxyServer;
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
  readonly way: Way | undefined;
  readonly rules: readonly ResponseRule[];
  /** Never to be quoted. */
  readonly secrets: readonly string[];
}

export class WebhookAdapter implements ChannelAdapter {
  readonly #egress: Egress;
  readonly #userAgent: string;
  readonly #tokens = new AccessTokens();
  readonly schema: z.ZodType;
  /** By identity: a configuration is replaced and never changed, and lives as long as its owner keeps it cached. */
  readonly #targets = new WeakMap<JsonObject, Target>();

  constructor(egress: Egress, userAgent: string) {
    this.#egress = egress;
    this.#userAgent = userAgent;
    this.schema = webhookSchema(egress, DESCRIPTION.limits.timeoutMs);
  }

  describe(): ChannelDescription {
    return DESCRIPTION;
  }

  validate(config: JsonObject): FieldProblem[] {
    return problemsOf(this.schema, config);
  }

  withAddress(config: JsonObject, address: string): JsonObject {
    return { ...config, url: address };
  }

  validateAddress(address: string): string | undefined {
    return this.#egress.problemWithUrl(address);
  }

  /**
   * HEAD, the request that promises to change nothing (RFC 9110, 9.2.1). That anybody answers is what is tested, and that
   * there is a token, where one is needed.
   */
  async test(config: JsonObject, { signal }: { readonly signal: AbortSignal }): Promise<ConnectionTest> {
    const target = this.#target(config);
    const { origin, path, timeoutMs, host, oauth } = target;
    const startedAt = performance.now();
    const failed = (field: string, { code, detail }: Rejected): ConnectionTest => ({
      ok: false,
      latencyMs: performance.now() - startedAt,
      problems: [{ path: field, problem: `${code}: ${detail}` }],
    });
    const headers = ['user-agent', this.#userAgent];
    if (oauth) {
      const granted = await this.#tokens.get(oauth, this.#dispatcher(target), { signal, now: new Date() });
      if (granted.kind === 'rejected') return failed('oauth', granted);
      headers.push('authorization', `Bearer ${granted.token}`);
    }
    const request = { origin, path, method: 'HEAD' as const, headers };
    const result = await exchange(this.#dispatcher(target), { ...request, timeoutMs, signal });
    if (result.kind === 'silence') return failed('url', unanswered(result.error, host, false));
    return { ok: true, latencyMs: performance.now() - startedAt, problems: [] };
  }

  async send(message: OutgoingMessage, options: SendOptions): Promise<SendOutcome> {
    const { attemptKey, now } = options;
    const target = this.#target(message.config);
    const body = Buffer.from(bodyOf(message, now));
    if (body.length > DESCRIPTION.limits.maxBytes) {
      return rejected(
        'VALIDATION',
        'TOO_LARGE',
        `the body has ${body.length} bytes, ${DESCRIPTION.limits.maxBytes} fit`,
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

  #exchange(target: Target, headers: string[], body: Buffer, { signal }: SendOptions): Promise<HttpResult> {
    const { origin, path, method, timeoutMs, rules } = target;
    const request = { origin, path, method, headers, body, timeoutMs, signal };
    return exchange(this.#dispatcher(target), rules.length > 0 ? { ...request, keepBytes: JUDGED_BYTES } : request);
  }

  #dispatcher({ way }: Target): Dispatcher {
    return way ? this.#egress.way(way) : this.#egress.dispatcher;
  }

  #target(config: JsonObject): Target {
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
    timeoutMs: config.timeout ?? DESCRIPTION.limits.timeoutMs,
    oauth,
    way: tls || proxy ? { ...(tls && { tls }), ...(proxy && { proxy }) } : undefined,
    rules: config.responseRules ?? [],
    secrets: [...own.map(([, value]) => value), ...secrets.map(({ text }) => text), ...others].filter(
      (text) => text !== undefined,
    ),
  };
}

function bodyOf({ deliveryId, content }: OutgoingMessage, now: Date): string {
  const { subject, text, html, data, attachments } = content;
  // JSON.stringify leaves out what is undefined.
  const payload = { deliveryId, subject, text, html, data, attachments };
  return JSON.stringify({ type: eventType(data), timestamp: now.toISOString(), data: payload });
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
