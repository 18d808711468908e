import { z } from 'zod';
import type { ErrorCategory, FieldProblem, JsonObject } from '../../domain/vocabulary.js';
import { parseBirdCallback } from '../callbacks/bird.js';
import type {
  CallbackRequest,
  ChannelAdapter,
  ChannelDescription,
  ConnectionTest,
  OutgoingMessage,
  SendOptions,
  SendOutcome,
} from '../channel.js';
import { checked, endpoint, inDoubt, problemsOf, template, timeout } from '../config.js';
import type { Egress } from '../egress.js';
import { exchange, type HttpResult, refusedByHttp } from '../http.js';
import { apiKey, parsed } from '../http-email.js';
import { presentable, unanswered } from '../outcome.js';
import { isSenderName, isShortCode, problemWithNumber, segmentsOf, textOf } from '../sms.js';

/** Text messages through Bird, formerly MessageBird (https://developers.messagebird.com/api/sms-messaging/). */
const DESCRIPTION: ChannelDescription = {
  channel: 'SMS',
  provider: 'bird',
  configKey: 'sms',
  secretFields: ['accessKey', 'signingKey'],
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'hold',
  limits: { maxBytes: 1_377, timeoutMs: 15_000 },
};

const ENDPOINT = 'https://rest.messagebird.com';
/** A text is cut into at most nine parts (same page, "body"). */
const SEGMENTS = 9;

interface BirdConfig {
  readonly accessKey: string;
  readonly from: string;
  readonly to: string;
  readonly maxSegments?: number;
  readonly endpoint?: string;
  readonly timeout?: number;
}

/** Error codes in the body (https://developers.messagebird.com/api/#api-errors). */
const CATEGORIES: Readonly<Record<number, ErrorCategory>> = {
  2: 'AUTHENTICATION', // request not allowed: wrong access key
  9: 'VALIDATION', // missing parameters
  10: 'VALIDATION', // invalid parameters
  20: 'CONFIGURATION', // not found
  21: 'VALIDATION', // bad request
  25: 'CONFIGURATION', // not enough balance
  98: 'CONFIGURATION', // API not found
  99: 'TEMPORARY', // internal error
};

export class BirdAdapter implements ChannelAdapter {
  readonly #egress: Egress;
  readonly #userAgent: string;
  readonly schema: z.ZodType;

  constructor(egress: Egress, userAgent: string) {
    this.#egress = egress;
    this.#userAgent = userAgent;
    this.schema = z.strictObject({
      service: z.literal('bird').describe('Chooses this provider.'),
      accessKey: apiKey.describe('The access key.').meta({ secret: true }),
      from: checked((text) =>
        isSenderName(text) || isShortCode(text) || problemWithNumber(text) === undefined
          ? undefined
          : 'must be an E.164 number, a short code, or 1 to 11 letters and digits',
      ).describe('The sender: a number, a short code, or a name of 1 to 11 letters and digits.'),
      to: checked(problemWithNumber).describe('The recipient, as +15551234567.'),
      maxSegments: z
        .int()
        .min(1)
        .max(SEGMENTS)
        .optional()
        .describe('Segments that one text may make; a longer one is refused.')
        .meta({ default: SEGMENTS }),
      bodyTemplate: template(10_000)
        .optional()
        .describe('Liquid template of the text; wins over the text of the request.'),
      signingKey: z
        .string()
        .min(1)
        .max(200)
        .optional()
        .describe('Key that status reports are signed with. Without it they are refused.')
        .meta({ secret: true }),
      endpoint: endpoint(egress, ENDPOINT),
      timeout: timeout(DESCRIPTION.limits.timeoutMs),
      inDoubt: inDoubt('hold'),
    });
  }

  describe(): ChannelDescription {
    return DESCRIPTION;
  }

  validate(config: JsonObject): FieldProblem[] {
    return problemsOf(this.schema, config);
  }

  withAddress(config: JsonObject, address: string): JsonObject {
    return { ...config, to: address };
  }

  validateAddress(address: string): string | undefined {
    return problemWithNumber(address);
  }

  parseCallback(request: CallbackRequest, config: JsonObject) {
    return parseBirdCallback(request, config);
  }

  /** Reads the balance, which needs the same key as sending. */
  async test(config: JsonObject, { signal }: { readonly signal: AbortSignal }): Promise<ConnectionTest> {
    const bird = config as unknown as BirdConfig;
    const startedAt = performance.now();
    const result = await this.#call(bird, signal, '/balance');
    const latencyMs = performance.now() - startedAt;
    if (result.kind === 'answer' && result.status === 200) return { ok: true, latencyMs, problems: [] };
    const isAnswer = result.kind === 'answer';
    const problem = isAnswer ? `Bird answered ${result.status}` : unanswered(result.error, hostOf(bird), false).detail;
    return { ok: false, latencyMs, problems: [{ path: isAnswer ? 'accessKey' : 'endpoint', problem }] };
  }

  async send(message: OutgoingMessage, { attemptKey, now, signal }: SendOptions): Promise<SendOutcome> {
    const config = message.config as unknown as BirdConfig;
    const body = textOf(message, { segments: config.maxSegments ?? SEGMENTS });
    if (typeof body !== 'string') return body;
    const result = await this.#call(config, signal, '/messages', {
      originator: config.from.replace(/^\+/, ''),
      recipients: [config.to.slice(1)],
      body,
      datacoding: segmentsOf(body).encoding === 'GSM-7' ? 'plain' : 'unicode',
      ...(message.callbackUrl !== undefined && { reportUrl: message.callbackUrl }),
      reference: attemptKey, // comes back with every report
    });
    if (result.kind === 'silence') return unanswered(result.error, hostOf(config), result.sent);
    const answer = parsed(result.body);
    if (result.status >= 200 && result.status < 300) {
      return {
        kind: 'accepted',
        delivered: false,
        ...(typeof answer.id === 'string' && { providerMessageId: answer.id }),
      };
    }
    const errors = (Array.isArray(answer.errors) ? answer.errors : []) as { code?: number; description?: string }[];
    const words = errors.map(({ description }) => description ?? '').join('; ');
    const detail = `Bird answered ${result.status}: ${presentable(words, message, [config.accessKey])}`;
    const refusal = refusedByHttp(result, detail, now);
    const code = errors[0]?.code;
    const category = code === undefined ? undefined : CATEGORIES[code];
    return category ? { ...refusal, category, code: `BIRD_${code}` } : refusal;
  }

  #call(config: BirdConfig, signal: AbortSignal, path: string, body?: object): Promise<HttpResult> {
    const { origin, pathname } = new URL(config.endpoint ?? ENDPOINT);
    return exchange(this.#egress.dispatcher, {
      origin,
      path: pathname.replace(/\/$/, '') + path,
      method: body ? 'POST' : 'GET',
      headers: Object.entries({
        accept: 'application/json',
        authorization: `AccessKey ${config.accessKey}`,
        'user-agent': this.#userAgent,
        ...(body && { 'content-type': 'application/json' }),
      }).flat(),
      ...(body && { body: JSON.stringify(body) }),
      timeoutMs: config.timeout ?? DESCRIPTION.limits.timeoutMs,
      signal,
      keepBytes: 16_384,
    });
  }
}

const hostOf = ({ endpoint }: BirdConfig): string => new URL(endpoint ?? ENDPOINT).host;
