import { z } from 'zod';
import type { ErrorCategory } from '../../domain/vocabulary.js';
import type { ConfigOf, Declaration } from '../adapter.js';
import { parseTwilioVoiceCallback } from '../callbacks/twilio-voice.js';
import type { LookupOptions, LookupResult, OutgoingMessage, SendOptions } from '../channel.js';
import { checked, inDoubt, template } from '../config.js';
import { render, templateError, variablesOf } from '../messages/liquid.js';
import { problemWithNumber } from '../messages/sms.js';
import { spokenTextOf, voiceFields } from '../messages/voice.js';
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
import { escapeXml } from '../vendors/xml.js';

/**
 * Calls that read a text aloud, through Twilio (https://www.twilio.com/docs/voice/api/call-resource). What the call does
 * goes along as TwiML, so that no page of ours has to be reachable for it.
 */
const DECLARATION: Declaration = {
  channel: 'VOICE',
  provider: 'twilio',
  configKey: 'voice',
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'hold',
  tested: 'Reads the account, which needs the same credentials as calling.',
  /** Characters of TwiML that come with a call (same page, "Twiml"). */
  limits: { maxBytes: 4_000, timeoutMs: 15_000 },
};

const schema = (egress: Egress) =>
  z.strictObject({
    service: z.literal('twilio').describe('Chooses this provider.'),
    ...twilioFields,
    from: checked(problemWithNumber).describe('The number that calls: one of the account, or one it has verified.'),
    to: checked(problemWithNumber).describe('Who is called, as +15551234567.'),
    ...voiceFields,
    voice: z
      .string()
      .regex(/^[\w.-]{1,100}$/, 'must be the name of a voice such as Polly.Joanna')
      .optional()
      .describe("Who speaks: `Polly.Joanna`, `Google.de-DE-Standard-A`. Default: the account's own for the language."),
    repeat: z.int().min(1).max(5).optional().describe('How often the text is said.').meta({ default: 1 }),
    ringSeconds: z
      .int()
      .min(5)
      .max(600)
      .optional()
      .describe('How long it rings before the call is given up.')
      .meta({ default: 60 }),
    machineDetection: z
      .enum(['Enable', 'DetectMessageEnd'])
      .optional()
      .describe(
        'Looks whether a machine answers; `DetectMessageEnd` also waits for its beep before it speaks. Default: speaks at once.',
      ),
    confirm: z
      .strictObject({
        prompt: template(1_000)
          .min(1)
          .describe('Liquid template of what is said after the text: `Press 1 to confirm.`'),
        digit: z
          .string()
          .regex(/^[0-9*#]$/, 'must be one key of a telephone')
          .optional()
          .describe('The key that confirms.')
          .meta({ default: '1' }),
        seconds: z.int().min(1).max(60).optional().describe('How long a key is waited for.').meta({ default: 10 }),
        thanks: z.string().min(1).max(1_000).optional().describe('Said once it is pressed. Default: nothing.'),
      })
      .optional()
      .describe(
        'Asks for a key: the delivery is DELIVERED when it is pressed, BOUNCED when another or none is, and stays SENT when the other side hangs up. Needs the public URL of the installation. Default: whoever picks up has got it.',
      ),
    endpoint: twilioEndpoint(egress),
    ...outbound(egress, DECLARATION.limits.timeoutMs),
    inDoubt: inDoubt('hold'),
  });

type TwilioVoiceConfig = ConfigOf<typeof schema>;

/** As in https://www.twilio.com/docs/api/errors. VALIDATION is about this call, CONFIGURATION about account and numbers. */
const CATEGORIES: Readonly<Record<number, ErrorCategory>> = {
  10001: 'AUTHENTICATION', // account is not active
  10002: 'CONFIGURATION', // trial account does not support this
  10004: 'RATE_LIMIT', // too many calls at once
  13223: 'VALIDATION', // number is malformed
  13224: 'PERMANENT', // Twilio does not call this number
  13225: 'PERMANENT', // forbidden number
  13227: 'CONFIGURATION', // calls to this region are not enabled
  20003: 'AUTHENTICATION', // wrong SID or token
  20005: 'AUTHENTICATION', // account suspended
  20404: 'CONFIGURATION', // no such account
  20429: 'RATE_LIMIT',
  21201: 'VALIDATION', // no 'To'
  21202: 'PERMANENT', // premium number
  21203: 'CONFIGURATION', // international calls are not enabled
  21210: 'CONFIGURATION', // 'From' is not verified
  21211: 'VALIDATION', // 'To' is no number
  21212: 'CONFIGURATION', // 'From' is no number
  21213: 'CONFIGURATION', // no 'From'
  21214: 'PERMANENT', // 'To' cannot be reached
  21215: 'CONFIGURATION', // calls to this region are not enabled
  21216: 'PERMANENT', // the account may not call this number
  21217: 'VALIDATION', // 'To' seems to be no number
  21219: 'CONFIGURATION', // trial account, 'To' is not verified
};

export class TwilioVoiceAdapter extends TwilioService<TwilioVoiceConfig> {
  readonly errors = { source: 'https://www.twilio.com/docs/api/errors', categories: CATEGORIES };
  readonly parseCallback = parseTwilioVoiceCallback;

  constructor(egress: Egress) {
    super(egress, DECLARATION, schema(egress));
  }

  protected async deliver(
    config: TwilioVoiceConfig,
    message: OutgoingMessage,
    { attemptKey, now, signal }: SendOptions,
  ) {
    const callback = callbackOf(message, attemptKey);
    const twiml = twimlOf(message, config, callback.statusCallback);
    if (typeof twiml !== 'string') return twiml;
    const { maxBytes: limit } = DECLARATION.limits;
    if (twiml.length > limit)
      return rejected(
        'VALIDATION',
        'TOO_LARGE',
        `what is said makes ${twiml.length} characters of TwiML, ${limit} fit`,
      );
    const { from, to, ringSeconds, machineDetection } = config;
    const options = {
      ...(ringSeconds !== undefined && { timeout: ringSeconds }),
      ...(machineDetection !== undefined && { machineDetection }),
      ...callback,
    };
    const call = await this.call(config, signal, ({ calls }) => calls.create({ from, to, twiml, ...options }));
    return call.value ? accepted(call.value.sid) : twilioRefusal(call, config, CATEGORIES, message, now);
  }

  /**
   * Twilio keeps neither a key of ours nor what was said. That nobody was called at that time can be seen, and that it
   * was this text cannot: so it is `not-found` or `unknown`. Not filtered by StartTime, which a call that is still queued
   * does not have.
   *
   * https://www.twilio.com/docs/voice/api/call-resource#read-multiple-call-resources
   */
  async lookup({ config }: OutgoingMessage, { since, signal }: LookupOptions): Promise<LookupResult> {
    const own = config as unknown as TwilioVoiceConfig;
    const filter = { from: own.from, to: own.to, limit: LOOKED_THROUGH, pageSize: LOOKED_THROUGH };
    const { value: listed } = await this.call(own, signal, ({ calls }) => calls.list(filter));
    if (!listed) return { kind: 'unknown' };
    const { made, isWhole } = this.madeDuring(listed, own, since);
    return { kind: isWhole && made.length === 0 ? 'not-found' : 'unknown' };
  }
}

/**
 * https://www.twilio.com/docs/voice/twiml/say, and .../twiml/gather for a key: when none is pressed the call goes on
 * behind the gathering, and tells so at the same address.
 */
function twimlOf(message: OutgoingMessage, config: TwilioVoiceConfig, callback: string | undefined): string | Rejected {
  const text = spokenTextOf(message, config);
  if (typeof text !== 'string') return text;
  const { language = 'en-US', voice, repeat = 1, confirm } = config;
  const who = voice === undefined ? '' : ` voice="${escapeXml(voice)}"`;
  const often = repeat === 1 ? '' : ` loop="${repeat}"`;
  const spoken = `<Say language="${escapeXml(language)}"${who}${often}>${escapeXml(text)}</Say>`;
  if (!confirm) return `<Response>${spoken}</Response>`;
  if (callback === undefined)
    return rejected(
      'CONFIGURATION',
      'NO_PUBLIC_URL',
      'a confirmation needs the public URL of this installation (publicUrl)',
    );
  const prompt = render(confirm.prompt, variablesOf(message));
  if (prompt.kind === 'failed') return templateError('confirm.prompt', prompt.problem);
  const asked = `<Say language="${escapeXml(language)}"${who}>${escapeXml(prompt.text)}</Say>`;
  const url = escapeXml(`${callback}&asked=1`);
  const { seconds = 10 } = confirm;
  return `<Response><Gather input="dtmf" numDigits="1" timeout="${seconds}" action="${url}">${spoken}${asked}</Gather><Redirect>${url}</Redirect></Response>`;
}
