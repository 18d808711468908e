import { z } from 'zod';
import type { ErrorCategory } from '../../domain/vocabulary.js';
import { Adapter, type ConfigOf, type Declaration, inField } from '../adapter.js';
import { parseBirdCallback } from '../callbacks/bird.js';
import type { OutgoingMessage, SendOptions } from '../channel.js';
import { checked, endpoint, inDoubt } from '../config.js';
import { apiKey } from '../email/http-email.js';
import { isSenderName, isShortCode, problemWithNumber, segmentsOf, smsFields, textOf } from '../messages/sms.js';
import { outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { exchange, type HttpResult, refusedByHttp } from '../net/http.js';
import { objectIn } from '../net/json.js';
import { accepted, presentable, unanswered } from '../outcome.js';

/** Text messages through Bird, formerly MessageBird (https://developers.messagebird.com/api/sms-messaging/). */
const DECLARATION: Declaration = {
  channel: 'SMS',
  provider: 'bird',
  configKey: 'sms',
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'hold',
  tested: 'Reads the balance, which needs the same key as sending.',
  limits: { maxBytes: 1_377, timeoutMs: 15_000 },
};

const ENDPOINT = 'https://rest.messagebird.com';
/** A text is cut into at most nine parts (same page, "body"). */
const SEGMENTS = 9;

const schema = (egress: Egress) =>
  z.strictObject({
    service: z.literal('bird').describe('Chooses this provider.'),
    accessKey: apiKey.describe('The access key.').meta({ secret: true }),
    from: checked((text) =>
      isSenderName(text) || isShortCode(text) || problemWithNumber(text) === undefined
        ? undefined
        : 'must be an E.164 number, a short code, or 1 to 11 letters and digits',
    ).describe('The sender: a number, a short code, or a name of 1 to 11 letters and digits.'),
    ...smsFields(SEGMENTS),
    signingKey: z
      .string()
      .min(1)
      .max(200)
      .optional()
      .describe('Key that status reports are signed with. Without it they are refused.')
      .meta({ secret: true }),
    endpoint: endpoint(egress, ENDPOINT),
    ...outbound(egress, DECLARATION.limits.timeoutMs),
    inDoubt: inDoubt('hold'),
  });

type BirdConfig = ConfigOf<typeof schema>;

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

export class BirdAdapter extends Adapter<BirdConfig> {
  readonly errors = { source: 'https://developers.messagebird.com/api/#api-errors', categories: CATEGORIES };
  readonly parseCallback = parseBirdCallback;
  readonly #egress: Egress;
  readonly #userAgent: string;

  constructor(egress: Egress, userAgent: string) {
    super(DECLARATION, schema(egress), inField('to', problemWithNumber));
    this.#egress = egress;
    this.#userAgent = userAgent;
  }

  protected async probe(config: BirdConfig, signal: AbortSignal) {
    const result = await this.#call(config, signal, '/balance');
    if (result.kind === 'silence')
      return { path: 'endpoint', problem: unanswered(result.error, hostOf(config), false).detail };
    return result.status === 200 ? undefined : { path: 'accessKey', problem: `Bird answered ${result.status}` };
  }

  protected async deliver(config: BirdConfig, message: OutgoingMessage, { attemptKey, now, signal }: SendOptions) {
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
    const answer = objectIn(result.body);
    if (result.status >= 200 && result.status < 300) return accepted(answer.id);
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
    return exchange(this.#egress.dispatcher(config), {
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
      timeoutMs: config.timeout ?? DECLARATION.limits.timeoutMs,
      signal,
      keepBytes: 16_384,
    });
  }
}

const hostOf = ({ endpoint }: BirdConfig): string => new URL(endpoint ?? ENDPOINT).host;
