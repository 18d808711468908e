import { z } from 'zod';
import type { ErrorCategory } from '../../domain/vocabulary.js';
import type { ConfigOf, Declaration } from '../adapter.js';
import { parseTwilioCallback } from '../callbacks/twilio.js';
import type { LookupOptions, LookupResult, OutgoingMessage, SendOptions } from '../channel.js';
import { checked, inDoubt } from '../config.js';
import { isSenderName, problemWithNumber, smsFields, textOf } from '../messages/sms.js';
import { outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { accepted, type Rejected, rejected } from '../outcome.js';
import {
  callbackOf,
  LOOKED_THROUGH,
  TwilioService,
  twilioEndpoint,
  twilioFields,
  twilioRefusal,
} from '../vendors/twilio.js';

/** Text messages through Twilio (https://www.twilio.com/docs/messaging/api/message-resource). */
const DECLARATION: Declaration = {
  channel: 'SMS',
  provider: 'twilio',
  configKey: 'sms',
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'hold',
  tested: 'Reads the account, which needs the same credentials as sending.',
  limits: { maxBytes: 6_400, timeoutMs: 15_000 },
};

/** Characters in one message, however many segments they make (error 21617). */
const BODY_LIMIT = 1_600;
/** What so many characters can make: 1,600 of UCS-2. */
const SEGMENTS = 24;

const schema = (egress: Egress) =>
  z.strictObject({
    service: z.literal('twilio').describe('Chooses this provider.'),
    ...twilioFields,
    from: checked((text) =>
      isSender(text) ? undefined : 'must be an E.164 number, a short code, 1 to 11 letters and digits, or an MG… SID',
    ).describe(
      'The sender: a number, a short code, a name of 1 to 11 letters and digits, or a messaging service (MG…).',
    ),
    ...smsFields(SEGMENTS),
    endpoint: twilioEndpoint(egress),
    ...outbound(egress, DECLARATION.limits.timeoutMs),
    inDoubt: inDoubt('hold'),
  });

type TwilioConfig = ConfigOf<typeof schema>;

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

export class TwilioAdapter extends TwilioService<TwilioConfig> {
  readonly errors = { source: 'https://www.twilio.com/docs/api/errors', categories: CATEGORIES };
  readonly parseCallback = parseTwilioCallback;

  constructor(egress: Egress) {
    super(egress, DECLARATION, schema(egress));
  }

  protected async deliver(config: TwilioConfig, message: OutgoingMessage, { attemptKey, now, signal }: SendOptions) {
    const body = bodyOf(config, message);
    if (typeof body !== 'string') return body;
    const { from, to } = config;
    const sender = isService(from) ? { messagingServiceSid: from } : { from };
    const call = await this.call(config, signal, ({ messages }) =>
      messages.create({ ...sender, to, body, ...callbackOf(message, attemptKey) }),
    );
    return call.value ? accepted(call.value.sid) : twilioRefusal(call, config, CATEGORIES, message, now);
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
    const { value: listed } = await this.call(config, signal, ({ messages }) => messages.list(filter));
    if (!listed) return { kind: 'unknown' };
    const { made, isWhole } = this.madeDuring(listed, config, since);
    const candidates = made.filter(
      ({ messagingServiceSid, direction }) =>
        direction !== 'inbound' && (!isService(from) || messagingServiceSid === from),
    );
    const [found, ...others] = candidates.filter((candidate) => candidate.body === body);
    if (found && others.length === 0)
      return { kind: 'found', providerMessageId: found.sid, delivered: found.status === 'delivered' };
    return { kind: candidates.length === 0 && isWhole ? 'not-found' : 'unknown' };
  }
}

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
