import type twilio from 'twilio';
import { z } from 'zod';
import type { ErrorCategory, FieldProblem, JsonObject } from '../../domain/vocabulary.js';
import { parseTwilioCallback } from '../callbacks/twilio.js';
import type {
  CallbackRequest,
  ChannelAdapter,
  ChannelDescription,
  ConnectionTest,
  LookupOptions,
  LookupResult,
  OutgoingMessage,
  SendOptions,
  SendOutcome,
} from '../channel.js';
import { checked, inDoubt, problemsOf, template, timeout } from '../config.js';
import type { Egress } from '../egress.js';
import { type Rejected, rejected } from '../outcome.js';
import { isSenderName, problemWithNumber, textOf } from '../sms.js';
import {
  callbackOf,
  type TwilioAccount,
  type TwilioCall,
  twilioCall,
  twilioEndpoint,
  twilioFields,
  twilioRefusal,
  twilioTest,
} from '../twilio.js';

/** Text messages through Twilio (https://www.twilio.com/docs/messaging/api/message-resource). */
const DESCRIPTION: ChannelDescription = {
  channel: 'SMS',
  provider: 'twilio',
  configKey: 'sms',
  secretFields: ['authToken'],
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'hold',
  limits: { maxBytes: 6_400, timeoutMs: 15_000 },
};

/** Messages read when one is looked for. They are of one recipient, the newest first. */
const LOOKED_THROUGH = 50;
/** What Twilio's clock and ours may differ by; its times are whole seconds. */
const CLOCK_MARGIN_MS = 5_000;

/** Characters in one message, however many segments they make (error 21617). */
const BODY_LIMIT = 1_600;
/** What so many characters can make: 1,600 of UCS-2. */
const SEGMENTS = 24;

interface TwilioConfig extends TwilioAccount {
  readonly from: string;
  readonly to: string;
  readonly bodyTemplate?: string;
  readonly maxSegments?: number;
}

/**
 * Twilio's own codes that say more than the HTTP status beside them (https://www.twilio.com/docs/api/errors).
 * VALIDATION is about this message, CONFIGURATION about the account and its numbers.
 */
const CATEGORIES: Readonly<Record<number, ErrorCategory>> = {
  20003: 'AUTHENTICATION', // wrong SID or token
  20005: 'AUTHENTICATION', // account suspended
  20404: 'CONFIGURATION', // no such account or messaging service
  20429: 'RATE_LIMIT',
  21211: 'VALIDATION', // 'To' is no number
  21214: 'PERMANENT', // 'To' cannot be reached
  21408: 'CONFIGURATION', // sending to this region is not enabled
  21602: 'VALIDATION', // no body
  21603: 'CONFIGURATION', // no sender
  21606: 'CONFIGURATION', // sender is not a number of this account
  21610: 'PERMANENT', // the recipient has opted out
  21611: 'RATE_LIMIT', // the sender's queue is full
  21612: 'PERMANENT', // no route between the two numbers
  21614: 'VALIDATION', // 'To' is no mobile number
  21617: 'VALIDATION', // longer than 1,600 characters
  21659: 'CONFIGURATION', // sender is no number or short code
  21660: 'CONFIGURATION', // sender belongs to another account
  21703: 'CONFIGURATION', // messaging service without senders
  63038: 'RATE_LIMIT', // daily limit of the account
};

export class TwilioAdapter implements ChannelAdapter {
  readonly #egress: Egress;
  readonly schema: z.ZodType;

  constructor(egress: Egress) {
    this.#egress = egress;
    this.schema = z.strictObject({
      service: z.literal('twilio').describe('Chooses this provider.'),
      ...twilioFields,
      from: checked((text) =>
        isSender(text) ? undefined : 'must be an E.164 number, a short code, 1 to 11 letters and digits, or an MG… SID',
      ).describe(
        'The sender: a number, a short code, a name of 1 to 11 letters and digits, or a messaging service (MG…).',
      ),
      to: checked(problemWithNumber).describe('The recipient, as +15551234567.'),
      bodyTemplate: template(10_000)
        .optional()
        .describe('Liquid template of the text; wins over the text of the request.'),
      maxSegments: z
        .int()
        .min(1)
        .max(SEGMENTS)
        .optional()
        .describe('Segments that one text may make; a longer one is refused.')
        .meta({ default: SEGMENTS }),
      endpoint: twilioEndpoint(egress),
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
    return parseTwilioCallback(request, config);
  }

  /** Reads the account, which needs the same credentials as sending. */
  test(config: JsonObject, { signal }: { readonly signal: AbortSignal }): Promise<ConnectionTest> {
    const account = config as unknown as TwilioConfig;
    return twilioTest(this.#egress, account, { timeoutMs: timeoutOf(account), signal });
  }

  async send(message: OutgoingMessage, { attemptKey, now, signal }: SendOptions): Promise<SendOutcome> {
    const config = message.config as unknown as TwilioConfig;
    const body = bodyOf(config, message);
    if (typeof body !== 'string') return body;
    const { from, to } = config;
    const sender = isService(from) ? { messagingServiceSid: from } : { from };
    const call = await this.#call(config, signal, ({ messages }) =>
      messages.create({ ...sender, to, body, ...callbackOf(message, attemptKey) }),
    );
    if (!call.value) return twilioRefusal(call, config, CATEGORIES, message, now);
    return { kind: 'accepted', delivered: false, providerMessageId: call.value.sid };
  }

  /**
   * Twilio keeps no key of ours, so a message is known by its recipient, its sender, its text and when it was made. A
   * text that Twilio has changed (smart encoding, the prefix of trial accounts) is not told from another's, and of two
   * that are equal it cannot be said which is ours: that is `unknown`. Not filtered by DateSent, which a message that is
   * still queued does not have.
   *
   * https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources
   */
  async lookup(message: OutgoingMessage, { since, signal }: LookupOptions): Promise<LookupResult> {
    const config = message.config as unknown as TwilioConfig;
    const body = bodyOf(config, message);
    // It was never asked to send that.
    if (typeof body !== 'string') return { kind: 'not-found' };
    const { from, to } = config;
    const filter = { to, ...(!isService(from) && { from }), limit: LOOKED_THROUGH, pageSize: LOOKED_THROUGH };
    const { value: listed } = await this.#call(config, signal, ({ messages }) => messages.list(filter));
    if (!listed) return { kind: 'unknown' };
    const firstMs = since.getTime() - CLOCK_MARGIN_MS;
    const lastMs = since.getTime() + timeoutOf(config) + CLOCK_MARGIN_MS;
    const candidates = listed.filter(
      ({ dateCreated, messagingServiceSid, direction }) =>
        dateCreated.getTime() >= firstMs &&
        dateCreated.getTime() <= lastMs &&
        direction !== 'inbound' &&
        (!isService(from) || messagingServiceSid === from),
    );
    const [found, ...others] = candidates.filter((candidate) => candidate.body === body);
    if (found && others.length === 0)
      return { kind: 'found', providerMessageId: found.sid, delivered: found.status === 'delivered' };
    const isWhole = listed.length < LOOKED_THROUGH || listed.some(({ dateCreated }) => dateCreated.getTime() < firstMs);
    return { kind: candidates.length === 0 && isWhole ? 'not-found' : 'unknown' };
  }

  #call<T>(
    config: TwilioConfig,
    signal: AbortSignal,
    call: (client: twilio.Twilio) => Promise<T>,
  ): Promise<TwilioCall<T>> {
    return twilioCall(this.#egress, config, { timeoutMs: timeoutOf(config), signal }, call);
  }
}

const timeoutOf = ({ timeout: own }: TwilioConfig): number => own ?? DESCRIPTION.limits.timeoutMs;

function bodyOf(config: TwilioConfig, message: OutgoingMessage): string | Rejected {
  const body = textOf(message, { segments: config.maxSegments ?? SEGMENTS });
  if (typeof body !== 'string' || body.length <= BODY_LIMIT) return body;
  return rejected('VALIDATION', 'TOO_LARGE', `the text has ${body.length} characters, ${BODY_LIMIT} fit`);
}

/** A messaging service, which chooses the sender. */
const isService = (from: string): boolean => from.startsWith('MG') && from.length === 34;

function isSender(text: string): boolean {
  return isSenderName(text) || /^MG[0-9a-fA-F]{32}$/.test(text) || /^\d{5,6}$/.test(text) || !problemWithNumber(text);
}
