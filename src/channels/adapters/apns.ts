import { createPrivateKey } from 'node:crypto';
import { z } from 'zod';
import type { ErrorCategory, Json, JsonObject } from '../../domain/vocabulary.js';
import { Adapter, type ConfigOf, type Declaration, inField, NO_MESSAGE, problemAt } from '../adapter.js';
import type { OutgoingMessage, SendOptions, SendOutcome } from '../channel.js';
import { checked, endpoint, inDoubt } from '../config.js';
import { pushContentOf, pushFields, repetitionKey, secondsToLive, tooLarge, uuidOf } from '../messages/push.js';
import { outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { type HttpAnswer, refusedByHttp } from '../net/http.js';
import { Http2Connections } from '../net/http2.js';
import { objectIn } from '../net/json.js';
import { TokenCache } from '../net/oauth.js';
import { abortReason, accepted, presentable, type Rejected, unanswered } from '../outcome.js';

/**
 * Push messages to Apple's devices over HTTP/2, with token authentication
 * (https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns).
 */
const DECLARATION: Declaration = {
  channel: 'PUSH',
  provider: 'apns',
  configKey: 'push',
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'resend',
  tested: 'Sends to a device token that nobody has: Apple looks at the credentials first.',
  limits: { maxBytes: 4_096, timeoutMs: 15_000 },
};

const ENDPOINTS = {
  production: 'https://api.push.apple.com',
  sandbox: 'https://api.sandbox.push.apple.com',
} as const;

/** A token may be used for an hour and made anew every 20 minutes (.../establishing-a-token-based-connection-to-apns). */
const TOKEN_SECONDS = 50 * 60;
/** No device has it: what Apple says of it is about the credentials. */
const NOBODY = '0'.repeat(64);

const schema = (egress: Egress) => {
  const id = z.string().regex(/^[A-Z0-9]{10}$/, 'must be ten letters and digits');
  const text = z.string().min(1).max(200).optional();
  return z.strictObject({
    service: z.literal('apns').describe('Chooses this provider.'),
    teamId: id.describe('The team of the developer account.'),
    keyId: id.describe('The key for the push service.'),
    privateKey: checked((key) => (isP256(key) ? undefined : 'must be an EC private key on P-256, PEM'))
      .describe('The key itself: what is in its .p8 file.')
      .meta({ secret: true }),
    topic: z
      .string()
      .regex(/^[\w.-]{1,200}$/, 'must be a bundle id')
      .describe("The app's bundle id: `com.example.app`."),
    environment: z
      .enum(['production', 'sandbox'])
      .optional()
      .describe('Apps run from Xcode have tokens of the sandbox.')
      .meta({ default: 'production' }),
    to: checked(problemWithToken).describe('The device token, in hexadecimal.'),
    ...pushFields,
    sound: text.describe('File in the app, or `default`. Default: none.'),
    category: text.describe('Which of the kinds of notification that the app knows it is. Default: none.'),
    threadId: text.describe('Notifications of one thread are shown together. Default: by app.'),
    interruptionLevel: z
      .enum(['passive', 'active', 'time-sensitive', 'critical'])
      .optional()
      .describe("How it may interrupt; some need the app to be allowed to. Default: the system's own."),
    collapseId: z
      .string()
      .regex(/^[\x21-\x7e]{1,64}$/, 'must be 1 to 64 printable characters')
      .optional()
      .describe('Of messages with the same id the device shows the last only. Default: one for each delivery.'),
    endpoint: endpoint(egress, ENDPOINTS.production),
    ...outbound(egress, DECLARATION.limits.timeoutMs),
    inDoubt: inDoubt('resend'),
  });
};

type ApnsConfig = ConfigOf<typeof schema>;

/** `reason` of .../handling-notification-responses-from-apns, where it says more than the status. */
const CATEGORIES: Readonly<Record<string, ErrorCategory>> = {
  BadDeviceToken: 'PERMANENT', // also one of the other environment
  BadTopic: 'CONFIGURATION',
  DeviceTokenNotForTopic: 'CONFIGURATION',
  MissingTopic: 'CONFIGURATION',
  TopicDisallowed: 'CONFIGURATION',
  IdleTimeout: 'TEMPORARY',
  BadEnvironmentKeyIdInToken: 'AUTHENTICATION',
  BadPath: 'SYSTEM',
  MethodNotAllowed: 'SYSTEM',
  ExpiredToken: 'PERMANENT',
  Unregistered: 'PERMANENT',
  TooManyProviderTokenUpdates: 'RATE_LIMIT',
  TooManyRequests: 'RATE_LIMIT',
};
/** The device has the app no more, or never had it. */
const GONE = new Set(['BadDeviceToken', 'ExpiredToken', 'Unregistered']);

export class ApnsAdapter extends Adapter<ApnsConfig> {
  readonly errors = {
    source: 'https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns',
    categories: CATEGORIES,
  };
  readonly #connections: Http2Connections;
  readonly #tokens = new TokenCache();

  constructor(egress: Egress) {
    super(DECLARATION, schema(egress), inField('to', problemWithToken));
    this.#connections = new Http2Connections(egress);
  }

  protected async probe(config: ApnsConfig, signal: AbortSignal) {
    const headers = { 'apns-push-type': 'background', 'apns-priority': '5', 'apns-expiration': '0' };
    const body = JSON.stringify({ aps: { 'content-available': 1 } });
    const options = { now: new Date(), signal };
    const sent = await this.#post({ ...config, to: NOBODY }, headers, body, NO_MESSAGE, options);
    if (sent.kind === 'accepted' || sent.code === 'APNS_BAD_DEVICE_TOKEN') return undefined;
    return problemAt(PATHS[sent.category] ?? 'endpoint', sent);
  }

  protected async deliver(
    config: ApnsConfig,
    message: OutgoingMessage,
    { attemptKey, now, signal }: SendOptions,
  ): Promise<SendOutcome> {
    const payload = payloadOf(message, config);
    if ('kind' in payload) return payload;
    const body = JSON.stringify(payload.payload);
    const large = tooLarge(Buffer.byteLength(body), DECLARATION.limits.maxBytes);
    if (large) return large;
    const seconds = secondsToLive(message, config, now);
    const { isShown } = payload;
    const headers = {
      'apns-id': uuidOf(attemptKey),
      'apns-push-type': isShown ? 'alert' : 'background',
      // 10 is forbidden to what is not shown.
      'apns-priority': isShown && message.priority !== 'LOW' ? '10' : '5',
      'apns-expiration': String(seconds === 0 ? 0 : Math.floor(now.getTime() / 1_000) + seconds),
      'apns-collapse-id': config.collapseId ?? repetitionKey(attemptKey, 32),
    };
    return await this.#post(config, headers, body, message, { now, signal });
  }

  /** Resolves when every connection is closed. Messages under way are finished first. */
  close(): Promise<void> {
    return this.#connections.close();
  }

  async #post(
    config: ApnsConfig,
    headers: Readonly<Record<string, string>>,
    body: string,
    message: OutgoingMessage,
    { now, signal }: { readonly now: Date; readonly signal: AbortSignal },
  ): Promise<SendOutcome> {
    const { teamId, keyId, to, topic, environment = 'production' } = config;
    const { origin, host, pathname } = new URL(config.endpoint ?? ENDPOINTS[environment]);
    if (signal.aborted) return unanswered(abortReason(signal), host, false);
    const key = keyOf(config);
    const token = await this.#tokens.get(key, () => signedToken(config));
    const result = await this.#connections.request({
      origin,
      // Apple takes tokens of one team only on a connection.
      connectionKey: `${teamId} ${keyId}`,
      proxy: config.proxy,
      path: `${pathname.replace(/\/$/, '')}/3/device/${to}`,
      method: 'POST',
      headers: { authorization: `bearer ${token}`, 'apns-topic': topic, ...headers },
      body,
      timeoutMs: config.timeout ?? DECLARATION.limits.timeoutMs,
      signal,
    });
    if (result.kind === 'silence') return unanswered(result.error, host, result.sent);
    if (result.status === 200) return accepted(result.headers['apns-id']);
    const refusal = refusalOf(result, config, message, now);
    if (refusal.code === 'APNS_EXPIRED_PROVIDER_TOKEN') this.#tokens.forget(key);
    return refusal;
  }
}

const PATHS: Partial<Record<ErrorCategory, string>> = { AUTHENTICATION: 'privateKey', CONFIGURATION: 'topic' };

const keyOf = ({ teamId, keyId, privateKey }: ApnsConfig): string => JSON.stringify([teamId, keyId, privateKey]);

/** Signed here, and kept like one that a server has given. */
async function signedToken({ teamId, keyId, privateKey }: ApnsConfig) {
  const { SignJWT } = await import('jose');
  const token = await new SignJWT({})
    .setProtectedHeader({ alg: 'ES256', kid: keyId })
    .setIssuer(teamId)
    .setIssuedAt()
    .sign(createPrivateKey(privateKey));
  return { status: 200, body: JSON.stringify({ access_token: token, expires_in: TOKEN_SECONDS }) };
}

/** .../generating-a-remote-notification. `aps` of the request's data wins over what is made of the rest. */
function payloadOf(
  message: OutgoingMessage,
  config: ApnsConfig,
): { readonly payload: object; readonly isShown: boolean } | Rejected {
  const content = pushContentOf(message, config);
  if ('kind' in content) return content;
  const { title, body, data } = content;
  const { aps: own, ...rest } = data ?? {};
  const { sound, category, threadId, interruptionLevel } = config;
  const isOwn = isObject(own);
  const isShown = title !== undefined || body !== undefined || (isOwn && own.alert !== undefined);
  const aps = {
    ...((title !== undefined || body !== undefined) && {
      alert: { ...(title !== undefined && { title }), ...(body !== undefined && { body }) },
    }),
    ...(isShown && sound !== undefined && { sound }),
    ...(category !== undefined && { category }),
    ...(threadId !== undefined && { 'thread-id': threadId }),
    ...(interruptionLevel !== undefined && { 'interruption-level': interruptionLevel }),
    ...(!isShown && { 'content-available': 1 }),
    ...(isOwn && own),
  };
  return { payload: { ...rest, aps }, isShown };
}

function refusalOf(answer: HttpAnswer, config: ApnsConfig, message: OutgoingMessage, now: Date): Rejected {
  const reason = reasonIn(answer.body);
  const words = presentable(reason, message, [config.privateKey, config.to]);
  const detail = `APNs answered ${answer.status}${words && `: ${words}`}`;
  const refusal = refusedByHttp(answer, detail, now, CATEGORIES[reason]);
  const isName = /^[A-Za-z]{1,60}$/.test(reason);
  const code = isName ? `APNS_${reason.replace(/([a-z])([A-Z])/g, '$1_$2').toUpperCase()}` : refusal.code;
  return { ...refusal, code, ...((GONE.has(reason) || answer.status === 410) && { gone: true }) };
}

function reasonIn(body: string): string {
  const { reason } = objectIn(body);
  return typeof reason === 'string' ? reason : '';
}

const problemWithToken = (to: string): string | undefined =>
  /^(?:[0-9a-fA-F]{2}){32,100}$/.test(to) ? undefined : 'must be a device token: 64 or more hexadecimal digits';

function isP256(key: string): boolean {
  try {
    return createPrivateKey(key).asymmetricKeyDetails?.namedCurve === 'prime256v1';
  } catch {
    return false;
  }
}

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
