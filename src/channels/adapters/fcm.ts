import { z } from 'zod';
import type { ErrorCategory, Json } from '../../domain/vocabulary.js';
import { Adapter, type ConfigOf, type Declaration, inField, NO_MESSAGE, problemAt } from '../adapter.js';
import type { OutgoingMessage, SendOptions, SendOutcome } from '../channel.js';
import { checked, endpoint, inDoubt } from '../config.js';
import { pushContentOf, pushFields, repetitionKey, secondsToLive, tooLarge } from '../messages/push.js';
import { BearerClient, type Grant } from '../net/bearer.js';
import { outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { type HttpAnswer, refusedByHttp } from '../net/http.js';
import { objectIn } from '../net/json.js';
import { accepted, presentable, type Rejected, rejected, unanswered } from '../outcome.js';
import { accountKey, askGoogle, googleTokenEndpoint, serviceAccountFields, tokenHostOf } from '../vendors/google.js';

/**
 * Push messages through Firebase Cloud Messaging, HTTP v1
 * (https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages). Not by Google's package, whose HTTP clients
 * go past the guard.
 */
const DECLARATION: Declaration = {
  channel: 'PUSH',
  provider: 'fcm',
  configKey: 'push',
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'resend',
  tested: 'Sends a message that FCM only checks (`validate_only`).',
  /** Of notification and data (https://firebase.google.com/docs/cloud-messaging/concept-options). */
  limits: { maxBytes: 4_096, timeoutMs: 15_000 },
};

const ENDPOINT = 'https://fcm.googleapis.com';
const SCOPE = 'https://www.googleapis.com/auth/firebase.messaging';
const TOPIC = /^\/topics\/([\w.~%-]{1,900})$/;
/** Keys of data that FCM keeps for itself (same page, "data"). */
const RESERVED = /^(from|message_type|collapse_key|google\..*|gcm\..*)$/;

const schema = (egress: Egress) =>
  z.strictObject({
    service: z.literal('fcm').describe('Chooses this provider.'),
    projectId: z
      .string()
      .regex(/^[a-z][a-z0-9-]{4,40}$/, 'must be the id of a project')
      .describe('The Firebase project.'),
    ...serviceAccountFields,
    to: checked(problemWithToken).describe('The registration token of the device, or a topic: `/topics/news`.'),
    ...pushFields,
    collapseKey: z
      .string()
      .regex(/^[\w.-]{1,64}$/, 'must be 1 to 64 letters, digits, dots, underscores or dashes')
      .optional()
      .describe('Of messages with the same key a device that was off gets the last only. Default: all.'),
    androidChannel: z
      .string()
      .min(1)
      .max(200)
      .optional()
      .describe("Notification channel of the Android app. Default: the app's own."),
    analyticsLabel: z
      .string()
      .regex(/^[\w.~%-]{1,50}$/, 'must be 1 to 50 letters, digits or -_.~%')
      .optional()
      .describe('Label for the statistics of Firebase. Default: none.'),
    endpoint: endpoint(egress, ENDPOINT),
    tokenEndpoint: googleTokenEndpoint(egress),
    ...outbound(egress, DECLARATION.limits.timeoutMs),
    inDoubt: inDoubt('resend'),
  });

type FcmConfig = ConfigOf<typeof schema>;

/** `errorCode` of https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode. */
const CATEGORIES: Readonly<Record<string, ErrorCategory>> = {
  INVALID_ARGUMENT: 'VALIDATION',
  UNREGISTERED: 'PERMANENT', // the app was removed, or the token has expired
  SENDER_ID_MISMATCH: 'CONFIGURATION', // the token is of another project
  QUOTA_EXCEEDED: 'RATE_LIMIT',
  UNAVAILABLE: 'TEMPORARY',
  INTERNAL: 'TEMPORARY',
  THIRD_PARTY_AUTH_ERROR: 'CONFIGURATION', // the project's APNs or Web Push key is missing or wrong
};
/** Where there is no errorCode: `status` of https://cloud.google.com/apis/design/errors. */
const STATUS: Readonly<Record<string, ErrorCategory>> = {
  UNAUTHENTICATED: 'AUTHENTICATION',
  PERMISSION_DENIED: 'AUTHENTICATION',
  NOT_FOUND: 'CONFIGURATION', // no such project
  RESOURCE_EXHAUSTED: 'RATE_LIMIT',
};

export class FcmAdapter extends Adapter<FcmConfig> {
  readonly errors = {
    source: 'https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode',
    categories: { ...CATEGORIES, ...STATUS },
  };
  readonly #client: BearerClient;

  constructor(egress: Egress) {
    super(DECLARATION, schema(egress), inField('to', problemWithToken));
    this.#client = new BearerClient(egress);
  }

  protected async probe(config: FcmConfig, signal: AbortSignal) {
    const message = { ...targetOf(config.to), data: { test: 'true' } };
    const sent = await this.#post(config, { message, validate_only: true }, NO_MESSAGE, { now: new Date(), signal });
    return sent.kind === 'accepted' ? undefined : problemAt(pathOf(sent), sent);
  }

  protected async deliver(
    config: FcmConfig,
    message: OutgoingMessage,
    { attemptKey, now, signal }: SendOptions,
  ): Promise<SendOutcome> {
    const made = messageOf(message, config, attemptKey, now);
    if ('kind' in made) return made;
    return await this.#post(config, made, message, { now, signal });
  }

  async #post(
    config: FcmConfig,
    body: object,
    message: OutgoingMessage,
    { now, signal }: { readonly now: Date; readonly signal: AbortSignal },
  ): Promise<SendOutcome> {
    const { origin, pathname, host } = new URL(config.endpoint ?? ENDPOINT);
    const timeoutMs = config.timeout ?? DECLARATION.limits.timeoutMs;
    const result = await this.#client.call(grantOf(config), { message, now, timeoutMs, signal }, (token) => ({
      origin,
      path: `${pathname.replace(/\/$/, '')}/v1/projects/${config.projectId}/messages:send`,
      method: 'POST',
      headers: ['authorization', `Bearer ${token}`, 'content-type', 'application/json; charset=utf-8'],
      body: JSON.stringify(body),
      keepBytes: 16_384,
    }));
    if (result.kind === 'rejected') return result;
    if (result.kind === 'silence') return unanswered(result.error, host, result.sent);
    return result.status === 200 ? accepted(objectIn(result.body).name) : refusalOf(result, config, message, now);
  }
}

const grantOf = (config: FcmConfig): Grant => ({
  key: accountKey(config),
  host: tokenHostOf(config),
  secrets: [config.privateKey, config.clientEmail, config.to],
  way: config,
  ask: (wire) => askGoogle(config, SCOPE, wire),
});

/** Hexadecimal ones are of Apple's devices. */
const problemWithToken = (to: string): string | undefined =>
  TOPIC.test(to) || (/^[\w:.-]{20,4096}$/.test(to) && !/^[0-9a-fA-F]+$/.test(to))
    ? undefined
    : 'must be a registration token, or /topics/…';

function targetOf(to: string): { readonly topic: string } | { readonly token: string } {
  const topic = TOPIC.exec(to)?.[1];
  return topic === undefined ? { token: to } : { topic };
}

function messageOf(
  message: OutgoingMessage,
  config: FcmConfig,
  attemptKey: string,
  now: Date,
): { readonly message: object } | Rejected {
  const content = pushContentOf(message, config);
  if ('kind' in content) return content;
  const { title, body, data } = content;
  const reserved = Object.keys(data ?? {}).find((key) => RESERVED.test(key));
  if (reserved !== undefined)
    return rejected(
      'VALIDATION',
      'RESERVED_KEY',
      'a key of the data is kept by FCM for itself: from, message_type, google.*',
    );
  const isShown = title !== undefined || body !== undefined;
  const payload = {
    ...(isShown && { notification: { ...(title !== undefined && { title }), ...(body !== undefined && { body }) } }),
    ...(data && { data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, textOf(value)])) }),
  };
  const large = tooLarge(Buffer.byteLength(JSON.stringify(payload)), DECLARATION.limits.maxBytes);
  if (large) return large;
  const seconds = secondsToLive(message, config, now);
  const isUrgent = message.priority !== 'LOW';
  const tag = repetitionKey(attemptKey, 32);
  const { collapseKey, androidChannel, analyticsLabel } = config;
  const made = {
    ...targetOf(config.to),
    ...payload,
    android: {
      priority: isUrgent ? 'HIGH' : 'NORMAL',
      ttl: `${seconds}s`,
      ...(collapseKey !== undefined && { collapse_key: collapseKey }),
      ...(isShown && { notification: { tag, ...(androidChannel !== undefined && { channel_id: androidChannel }) } }),
    },
    apns: {
      headers: {
        'apns-priority': isUrgent && isShown ? '10' : '5',
        'apns-expiration': String(seconds === 0 ? 0 : Math.floor(now.getTime() / 1_000) + seconds),
        'apns-collapse-id': collapseKey ?? tag,
      },
    },
    webpush: { headers: { TTL: String(seconds), Urgency: isUrgent ? 'high' : 'low' } },
    ...(analyticsLabel !== undefined && { fcm_options: { analytics_label: analyticsLabel } }),
  };
  return { message: made };
}

/** Values of data are text (same page). */
const textOf = (value: Json): string => (typeof value === 'string' ? value : JSON.stringify(value));

interface FcmError {
  readonly status?: string;
  readonly message?: string;
  readonly details?: readonly {
    readonly errorCode?: string;
    readonly fieldViolations?: readonly { readonly field?: string }[];
  }[];
}

function refusalOf(answer: HttpAnswer, config: FcmConfig, message: OutgoingMessage, now: Date): Rejected {
  const { status, message: words = '', details = [] } = (objectIn(answer.body).error ?? {}) as FcmError;
  const errorCode = details.find((each) => each.errorCode !== undefined)?.errorCode;
  const isToken = details.some(({ fieldViolations = [] }) =>
    fieldViolations.some(({ field }) => field === 'message.token'),
  );
  const shown = presentable(words, message, [config.privateKey, config.clientEmail, config.to]);
  const detail = `FCM answered ${answer.status}${shown && `: ${shown}`}`;
  // It never was one: https://firebase.google.com/docs/cloud-messaging/manage-tokens, "Detect invalid token responses".
  if (isToken) return rejected('PERMANENT', 'FCM_INVALID_TOKEN', detail, { gone: true });
  const known = errorCode ?? status;
  const refusal = refusedByHttp(answer, detail, now, CATEGORIES[errorCode ?? ''] ?? STATUS[status ?? '']);
  const code = /^[A-Z_]{1,60}$/.test(known ?? '') ? `FCM_${known}` : refusal.code;
  return { ...refusal, code, ...(errorCode === 'UNREGISTERED' && { gone: true }) };
}

/** The field that a refused test is about. */
function pathOf({ category, gone }: Rejected): string {
  if (gone) return 'to';
  if (category === 'NETWORK' || category === 'TEMPORARY') return 'endpoint';
  return category === 'AUTHENTICATION' ? 'privateKey' : 'projectId';
}
