import { createECDH, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import type { ErrorCategory, JsonObject } from '../../domain/vocabulary.js';
import { Adapter, type Address, type ConfigOf, type Declaration, problemAt } from '../adapter.js';
import type { OutgoingMessage, SendOptions, SendOutcome } from '../channel.js';
import { checked, inDoubt, problemsOf } from '../config.js';
import { pushContentOf, pushFields, repetitionKey, secondsToLive, tooLarge } from '../messages/push.js';
import { outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { exchange, type HttpAnswer, nobodyAt, refusedByHttp } from '../net/http.js';
import { parsed } from '../net/json.js';
import { presentable, type Rejected, unanswered } from '../outcome.js';

/**
 * Messages to browsers (RFC 8030), encrypted for the one that has subscribed (RFC 8291) and signed by the application
 * server (VAPID, RFC 8292). The package encrypts and signs; the request leaves through the guard.
 */
const DECLARATION: Declaration = {
  channel: 'WEB_PUSH',
  provider: 'webpush',
  configKey: 'webPush',
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'resend',
  tested:
    'Asks the push service with HEAD: that it is there. It takes nothing but messages, so keys and subscription are proved by the first.',
  /** What fits into the 4,096 bytes that every push service takes (RFC 8291, 4). */
  limits: { maxBytes: 3_993, timeoutMs: 15_000 },
};

/** Characters of a subscription as a browser writes it. */
const LONGEST_ADDRESS = 4_096;

const subscription = (egress: Egress) =>
  z.strictObject({
    endpoint: checked((url) => egress.problemWithUrl(url)).describe('URL at the push service of the browser.'),
    expirationTime: z.number().nullish().describe('As the browser gives it; not looked at.'),
    keys: z
      .strictObject({
        p256dh: bytes(65).describe("The browser's public key, base64url."),
        auth: bytes(16).describe('What only browser and sender know, base64url.').meta({ secret: true }),
      })
      .describe('The keys that messages are encrypted with.'),
  });

const schema = (egress: Egress) =>
  z.strictObject({
    vapid: z
      .strictObject({
        subject: checked(problemWithSubject).describe('Who answers for the messages: `mailto:…` or an https URL.'),
        publicKey: bytes(65).describe('The key that browsers subscribe with (`applicationServerKey`), base64url.'),
        privateKey: bytes(32).describe('The other half of it, base64url.').meta({ secret: true }),
      })
      .refine(isPair, { path: ['privateKey'], message: 'is not the other half of publicKey' })
      .describe('The keys of the application server, one pair for all subscriptions.'),
    to: subscription(egress).describe('The subscription, as `JSON.stringify(subscription)` gives it in the browser.'),
    ...pushFields,
    urgency: z
      .enum(['very-low', 'low', 'normal', 'high'])
      .optional()
      .describe('Whether it is worth waking the device. Default: by the priority of the request.'),
    topic: z
      .string()
      .regex(/^[\w-]{1,32}$/, 'must be 1 to 32 letters, digits, underscores or dashes')
      .optional()
      .describe(
        'Of messages with the same topic a browser that was off gets the last only. Default: one for each delivery.',
      ),
    ...outbound(egress, DECLARATION.limits.timeoutMs),
    inDoubt: inDoubt('resend'),
  });

type WebPushConfig = ConfigOf<typeof schema>;

type Urgency = 'very-low' | 'low' | 'normal' | 'high';

/** RFC 8030, 5 and 7.3; RFC 8292, 4.2. What push services answer beyond what the statuses mean everywhere. */
const STATUS: Readonly<Record<number, ErrorCategory>> = {
  400: 'VALIDATION',
  401: 'AUTHENTICATION',
  403: 'AUTHENTICATION', // the subscription was made with another key
  404: 'PERMANENT', // no such subscription
  410: 'PERMANENT', // the browser has unsubscribed
  413: 'VALIDATION',
};

export class WebPushAdapter extends Adapter<WebPushConfig> {
  readonly errors = { source: 'https://www.rfc-editor.org/rfc/rfc8030#section-5', categories: STATUS };
  readonly #egress: Egress;

  constructor(egress: Egress) {
    super(DECLARATION, schema(egress), asJson(subscription(egress)));
    this.#egress = egress;
  }

  protected async probe(config: WebPushConfig, signal: AbortSignal) {
    const timeoutMs = config.timeout ?? DECLARATION.limits.timeoutMs;
    const call = { timeoutMs, signal };
    const silence = await nobodyAt(this.#egress.dispatcher(config), new URL(config.to.endpoint), call);
    return silence && problemAt('to.endpoint', silence);
  }

  protected async deliver(
    config: WebPushConfig,
    message: OutgoingMessage,
    { attemptKey, now, signal }: SendOptions,
  ): Promise<SendOutcome> {
    const content = pushContentOf(message, config);
    if ('kind' in content) return content;
    const payload = JSON.stringify(content);
    const large = tooLarge(Buffer.byteLength(payload), DECLARATION.limits.maxBytes);
    if (large) return large;
    const { to, vapid } = config;
    // Loaded when the first message is sent, as most installations never need it.
    const { default: webpush } = await import('web-push');
    const { headers, body } = webpush.generateRequestDetails({ endpoint: to.endpoint, keys: to.keys }, payload, {
      vapidDetails: vapid,
      TTL: secondsToLive(message, config, now),
      urgency: config.urgency ?? urgencyOf(message),
      topic: config.topic ?? repetitionKey(attemptKey, 32),
      contentEncoding: 'aes128gcm',
    });
    const { origin, host, pathname, search } = new URL(to.endpoint);
    const result = await exchange(this.#egress.dispatcher(config), {
      origin,
      path: pathname + search,
      method: 'POST',
      headers: Object.entries(headers).flatMap(([name, value]): [string, string] => [name, String(value)]),
      body,
      timeoutMs: config.timeout ?? DECLARATION.limits.timeoutMs,
      signal,
    });
    if (result.kind === 'silence') return unanswered(result.error, host, result.sent);
    if (result.status >= 200 && result.status < 300) {
      // The end of the URL of the message (RFC 8030, 5.1).
      const id = String(result.headers.location ?? '')
        .split('/')
        .at(-1)
        ?.slice(0, 200);
      return { kind: 'accepted', delivered: false, ...(id && { providerMessageId: id }) };
    }
    return refusalOf(result, config, message, now);
  }
}

function refusalOf(answer: HttpAnswer, { to, vapid }: WebPushConfig, message: OutgoingMessage, now: Date): Rejected {
  const { host, pathname, search } = new URL(to.endpoint);
  const secrets = [
    vapid.privateKey,
    to.keys.auth,
    to.keys.p256dh,
    to.endpoint,
    pathname + search,
    ...pathname.split('/'),
  ];
  const words = presentable(answer.body, message, secrets);
  const refusal = refusedByHttp(
    answer,
    `${host} answered ${answer.status}${words && `: ${words}`}`,
    now,
    STATUS[answer.status],
  );
  const isGone = answer.status === 404 || answer.status === 410;
  return isGone ? { ...refusal, code: 'SUBSCRIPTION_GONE', gone: true } : refusal;
}

const URGENCY: Readonly<Record<NonNullable<OutgoingMessage['priority']>, Urgency>> = {
  URGENT: 'high',
  HIGH: 'high',
  NORMAL: 'normal',
  LOW: 'low',
};
const urgencyOf = ({ priority = 'NORMAL' }: OutgoingMessage): Urgency => URGENCY[priority];

/** So many bytes in base64url, without padding or with. */
const bytes = (count: number) =>
  z.string().refine((text) => /^[\w-]+={0,2}$/.test(text) && Buffer.from(text, 'base64url').length === count, {
    message: `must be ${count} bytes in base64url`,
  });

function problemWithSubject(subject: string): string | undefined {
  const isMail = /^mailto:[^\s@]+@[^\s@]+$/.test(subject);
  return isMail || (URL.canParse(subject) && subject.startsWith('https://'))
    ? undefined
    : 'must be mailto:… or an https URL';
}

function isPair({ publicKey, privateKey }: { readonly publicKey: string; readonly privateKey: string }): boolean {
  try {
    const curve = createECDH('prime256v1');
    curve.setPrivateKey(Buffer.from(privateKey, 'base64url'));
    return timingSafeEqual(curve.getPublicKey(), Buffer.from(publicKey, 'base64url'));
  } catch {
    return false;
  }
}

/** A bare address is a subscription as JSON. */
const asJson = (form: z.ZodType): Address => ({
  problem(address) {
    if (address.length > LONGEST_ADDRESS) return `must have at most ${LONGEST_ADDRESS} characters`;
    const value = parsed(address);
    if (typeof value !== 'object' || Array.isArray(value))
      return 'must be a subscription as JSON: {"endpoint", "keys": {"p256dh", "auth"}}';
    const [problem] = problemsOf(form, value as JsonObject);
    return problem && `${problem.path} ${problem.problem}`.trim();
  },
  into: (config, address) => ({ ...config, to: JSON.parse(address) as JsonObject }),
});
