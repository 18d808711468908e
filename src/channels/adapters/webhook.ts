import type { Dispatcher } from 'undici';
import { z } from 'zod';
import type { FieldProblem, Json, JsonObject } from '../../domain/vocabulary.js';
import type {
  ChannelAdapter,
  ChannelDescription,
  ConnectionTest,
  OutgoingMessage,
  SendOptions,
  SendOutcome,
} from '../channel.js';
import { checked, problemsOf, timeout } from '../config.js';
import type { Egress } from '../egress.js';
import { exchange, type HttpAnswer, refusedByHttp } from '../http.js';
import { presentable, rejected, unanswered } from '../outcome.js';
import { headersSchema } from '../request-headers.js';
import { decodeSecret, type SigningKey, signatures } from '../standard-webhooks.js';

/**
 * Webhooks as Standard Webhooks 1.0 describes them (https://www.standardwebhooks.com): a JSON body, an id that stays the
 * same over all attempts, so that the receiver can recognise a repetition, and a signature over id, time and body.
 */
const DESCRIPTION: ChannelDescription = {
  channel: 'WEBHOOK',
  provider: 'webhook',
  configKey: 'webhook',
  secretFields: ['secret', 'previousSecret'],
  idempotency: 'keyed',
  acceptanceIsDelivery: true,
  inDoubt: 'resend',
  limits: { maxBytes: 10 * 1_024 * 1_024, timeoutMs: 15_000 },
};

const EVENT_TYPE = /^[a-z0-9._-]{1,100}$/;

const secret = checked((text) =>
  decodeSecret(text) ? undefined : 'must be whsec_ followed by the base64 of 24 to 64 random bytes (Standard Webhooks)',
);

interface WebhookConfig {
  readonly url: string;
  readonly method?: 'POST' | 'PUT' | 'PATCH';
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeout?: number;
  readonly secret?: string;
  readonly previousSecret?: string;
  readonly previousSecretUntil?: string;
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
  /** Never to be quoted. */
  readonly secrets: readonly string[];
}

export class WebhookAdapter implements ChannelAdapter {
  readonly #egress: Egress;
  readonly #userAgent: string;
  readonly schema: z.ZodType;
  /** By identity: a configuration is replaced and never changed, and lives as long as its owner keeps it cached. */
  readonly #targets = new WeakMap<JsonObject, Target>();

  constructor(egress: Egress, userAgent: string) {
    this.#egress = egress;
    this.#userAgent = userAgent;
    this.schema = z.strictObject({
      url: checked((url) => egress.problemWithUrl(url)).describe('Where messages are sent to, http or https.'),
      method: z
        .enum(['POST', 'PUT', 'PATCH'])
        .optional()
        .describe('HTTP method of the request.')
        .meta({ default: 'POST' }),
      headers: headersSchema
        .optional()
        .describe(
          'Headers of the request. Those whose name has auth, token, key, secret, cookie, password or credential in it are secrets.',
        ),
      timeout: timeout(DESCRIPTION.limits.timeoutMs),
      secret: secret
        .optional()
        .describe('Signs each message (Standard Webhooks, HMAC-SHA256). Made by Waybill where none is given.')
        .meta({ secret: true }),
      previousSecret: secret
        .optional()
        .describe('The secret before this one. Signs too, so that the receiver can change over at its own time.')
        .meta({ secret: true }),
      previousSecretUntil: z.iso
        .datetime({ offset: true })
        .optional()
        .describe('When the previous secret stops signing. Without it, it never does.'),
      retryConfig: z
        .strictObject({
          maxRetries: z.int().min(0).max(100).optional().describe('Attempts after the first one.'),
          backoffMultiplier: z.number().min(1).max(10).optional().describe('What each delay is to the one before.'),
          initialDelay: z.int().min(0).optional().describe('Before the second attempt, in milliseconds.'),
          maxBackoffDelay: z.int().min(0).optional().describe('No delay is longer, in milliseconds.'),
        })
        .optional()
        .describe("How failed attempts are repeated. The destination's `retry` says more, and wins."),
    });
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

  /** HEAD, the request that promises to change nothing (RFC 9110, 9.2.1). That anybody answers is what is tested. */
  async test(config: JsonObject, { signal }: { readonly signal: AbortSignal }): Promise<ConnectionTest> {
    const { origin, path, timeoutMs, host } = this.#target(config);
    const startedAt = performance.now();
    const request = { origin, path, method: 'HEAD' as const, headers: ['user-agent', this.#userAgent] };
    const result = await exchange(this.#egress.dispatcher, { ...request, timeoutMs, signal });
    const latencyMs = performance.now() - startedAt;
    if (result.kind === 'answer') return { ok: true, latencyMs, problems: [] };
    const { code, detail } = unanswered(result.error, host, false);
    return { ok: false, latencyMs, problems: [{ path: 'url', problem: `${code}: ${detail}` }] };
  }

  async send(message: OutgoingMessage, { attemptKey, now, signal }: SendOptions): Promise<SendOutcome> {
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
    const { origin, path, method, timeoutMs } = target;
    const request = { origin, path, method, headers: all, body, timeoutMs, signal };
    const result = await exchange(this.#egress.dispatcher, request);
    if (result.kind === 'silence') return unanswered(result.error, target.host, result.sent);
    if (result.status >= 200 && result.status < 300) return { kind: 'accepted', delivered: true };
    return refused(result, target, message, now);
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
    secrets: [...own.map(([, value]) => value), ...secrets.flatMap(({ text }) => text ?? [])],
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

function refused(answer: HttpAnswer, target: Target, message: OutgoingMessage, now: Date): SendOutcome {
  const words = presentable(explanation(answer.body), message, target.secrets);
  const detail = `${target.host} answered ${answer.status}${words && `: ${words}`}`;
  const outcome = refusedByHttp(answer, detail, now);
  return answer.status === 410 ? { ...outcome, gone: true } : outcome;
}

/** Why, if the receiver says so in the usual places of a JSON body (RFC 9457 first). Anything else is left unread. */
function explanation(body: string): string {
  try {
    const json: unknown = JSON.parse(body);
    if (typeof json !== 'object' || json === null) return '';
    const { detail, title, message, error } = json as Record<string, unknown>;
    return [detail, title, message, error].find((text) => typeof text === 'string')?.slice(0, 300) ?? '';
  } catch {
    return '';
  }
}
