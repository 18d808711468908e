import { randomBytes } from 'node:crypto';
import type { JsonObject } from '../../../src/domain/vocabulary.js';
import { type Answer, type Reaction, type RecordedRequest, startHttpPeer } from './http-peer.js';

/** The form of POST …/Messages.json, as far as Waybill uses it. */
export interface TwilioMessage {
  readonly sid: string;
  readonly To: string;
  readonly From?: string;
  readonly MessagingServiceSid?: string;
  readonly Body: string;
  /** When Twilio made it; its lists have whole seconds. */
  readonly createdAt: Date;
}

/** The form of POST …/Calls.json, as far as Waybill uses it. */
export interface TwilioCall {
  readonly sid: string;
  readonly To: string;
  readonly From: string;
  readonly Twiml: string;
  readonly Timeout?: string;
  readonly MachineDetection?: string;
  readonly createdAt: Date;
}

export interface TwilioRecorder {
  /** To be given as `endpoint`. */
  readonly url: string;
  readonly port: number;
  readonly accountSid: string;
  readonly authToken: string;
  /** All requests, also the refused ones. */
  readonly requests: RecordedRequest[];
  /** The messages that were accepted. */
  readonly received: TwilioMessage[];
  /** The calls that were accepted. */
  readonly calls: TwilioCall[];
  /** Answers instead of Twilio; undefined lets the request through. */
  respond: (request: RecordedRequest) => Reaction | undefined;
  /** What Twilio does with a request, for a `respond` that keeps the answer to itself. */
  answer(request: RecordedRequest): Answer;
  close(): Promise<void>;
}

/** Numbers which Twilio itself reserves for tests (https://www.twilio.com/docs/iam/test-credentials). */
export const MAGIC_NUMBERS = {
  valid: '+15005550006',
  invalid: '+15005550001',
  noRoute: '+15005550002',
  noPermission: '+15005550003',
  optedOut: '+15005550004',
  notMobile: '+15005550009',
  senderNotOwned: '+15005550007',
  senderQueueFull: '+15005550008',
} as const;

/** A configuration that points to the recorder. */
export const twilioConfig = ({ accountSid, authToken, url }: TwilioRecorder, change: JsonObject = {}): JsonObject => ({
  service: 'twilio',
  accountSid,
  authToken,
  from: MAGIC_NUMBERS.valid,
  to: '+14155552671',
  endpoint: url,
  ...change,
});

/** Error codes of what any of its services may answer. */
export const TWILIO_ERRORS: Readonly<Record<number, number>> = { 401: 20003, 429: 20429, 503: 20503 };

const REFUSED_RECIPIENTS: Readonly<Record<string, readonly [number, string]>> = {
  [MAGIC_NUMBERS.invalid]: [21211, "The 'To' number +15005550001 is not a valid phone number."],
  [MAGIC_NUMBERS.noRoute]: [21612, "The 'To' phone number: +15005550002, is not currently reachable via SMS."],
  [MAGIC_NUMBERS.noPermission]: [21408, 'Permission to send an SMS has not been enabled for the region.'],
  [MAGIC_NUMBERS.optedOut]: [21610, 'Attempt to send to unsubscribed recipient'],
  [MAGIC_NUMBERS.notMobile]: [21614, "'To' number is not a valid mobile number"],
};
/** As the same page says of calls. */
const REFUSED_CALLS: Readonly<Record<string, readonly [number, string]>> = {
  [MAGIC_NUMBERS.invalid]: [21217, 'Phone number does not appear to be valid'],
  [MAGIC_NUMBERS.noRoute]: [21214, "'To' phone number cannot be reached"],
  [MAGIC_NUMBERS.noPermission]: [21215, 'Account not authorized to call +15005550003.'],
  [MAGIC_NUMBERS.optedOut]: [21216, 'Account not allowed to call +15005550004.'],
};
const REFUSED_SENDERS: Readonly<Record<string, readonly [number, string]>> = {
  [MAGIC_NUMBERS.senderNotOwned]: [21606, "The 'From' phone number is not a valid, SMS-capable Twilio number"],
  [MAGIC_NUMBERS.senderQueueFull]: [21611, 'This From number has exceeded the maximum number of queued messages'],
};

/**
 * Records messages and calls and answers as Twilio documents (https://www.twilio.com/docs/messaging/api/message-resource,
 * https://www.twilio.com/docs/voice/api/call-resource).
 */
export async function startTwilioRecorder(options: { readonly port?: number } = {}): Promise<TwilioRecorder> {
  const accountSid = `AC${'0123456789abcdef'.repeat(2)}`;
  const authToken = 'f00dfacef00dfacef00dfacef00dface';
  const account = `/2010-04-01/Accounts/${accountSid}`;
  const received: TwilioMessage[] = [];
  const calls: TwilioCall[] = [];
  const peer = await startHttpPeer((request) => recorder.respond(request) ?? answer(request), options);
  const recorder: TwilioRecorder = {
    url: peer.origin,
    port: peer.port,
    accountSid,
    authToken,
    requests: peer.received,
    received,
    calls,
    respond: () => undefined,
    answer,
    close: peer.close,
  };

  function answer({ method, path, headers, raw }: RecordedRequest): Answer {
    const credentials = Buffer.from(`${accountSid}:${authToken}`).toString('base64');
    if (headers.authorization !== `Basic ${credentials}`) return twilioError(401, 20003, 'Authenticate');
    if (method === 'GET' && path === `${account}.json`) return { body: { sid: accountSid, status: 'active' } };
    const { pathname, searchParams } = new URL(path, peer.origin);
    if (method === 'GET' && pathname === `${account}/Messages.json`) return list(searchParams);
    if (method === 'GET' && pathname === `${account}/Calls.json`) return listOfCalls(searchParams);
    if (method === 'POST' && pathname === `${account}/Calls.json`) return call(new URLSearchParams(raw));
    if (method !== 'POST' || path !== `${account}/Messages.json`) {
      return twilioError(404, 20404, `The requested resource ${path} was not found`);
    }
    const form = Object.fromEntries(new URLSearchParams(raw)) as Partial<TwilioMessage>;
    const refusal = refusalOf(form);
    if (refusal) return twilioError(400, ...refusal);
    const sid = `SM${randomBytes(16).toString('hex')}`;
    const message = { ...form, sid, createdAt: new Date() } as TwilioMessage;
    received.push(message);
    return { status: 201, body: resource(message) };
  }

  function call(form: URLSearchParams): Answer {
    const made = Object.fromEntries(form) as Partial<TwilioCall>;
    if (!made.To) return twilioError(400, 21201, "No 'To' number specified");
    if (!made.From) return twilioError(400, 21213, "No 'From' number specified");
    if (!made.Twiml) return twilioError(400, 21205, 'Url is not valid');
    if (made.Twiml.length > 4_000) return twilioError(400, 21623, 'TwiML is too long');
    const refusal = REFUSED_CALLS[made.To];
    if (refusal) return twilioError(400, ...refusal);
    const accepted = { ...made, sid: `CA${randomBytes(16).toString('hex')}`, createdAt: new Date() } as TwilioCall;
    calls.push(accepted);
    return { status: 201, body: resourceOfCall(accepted) };
  }

  /** The newest first, on one page: nobody asks for a second one. */
  function listOfCalls(filter: URLSearchParams): Answer {
    const size = Number(filter.get('PageSize') ?? 50);
    const all = calls.filter(({ To, From }) => To === filter.get('To') && From === filter.get('From')).reverse();
    return { body: { calls: all.slice(0, size).map(resourceOfCall), page: 0, page_size: size, next_page_uri: null } };
  }

  const resourceOfCall = ({ sid, To: to, From: from, createdAt }: TwilioCall) => ({
    sid,
    account_sid: accountSid,
    to,
    from,
    status: 'queued',
    direction: 'outbound-api',
    date_created: createdAt.toUTCString().replace('GMT', '+0000'),
    start_time: null,
  });

  /** The newest first; each page says where the next one is. */
  function list(filter: URLSearchParams): Answer {
    const [to, from] = [filter.get('To'), filter.get('From')];
    const size = Number(filter.get('PageSize') ?? 50);
    const all = received.filter((each) => (!to || each.To === to) && (!from || each.From === from)).reverse();
    const page = Number(filter.get('Page') ?? 0);
    const uriOf = (number: number) => `${account}/Messages.json?${new URLSearchParams({ Page: `${number}` })}`;
    const body = {
      messages: all.slice(page * size, (page + 1) * size).map(resource),
      page,
      page_size: size,
      first_page_uri: uriOf(0),
      next_page_uri: all.length > (page + 1) * size ? uriOf(page + 1) : null,
      previous_page_uri: page > 0 ? uriOf(page - 1) : null,
    };
    return { body };
  }

  const resource = ({
    sid,
    To: to,
    From: from,
    MessagingServiceSid: service,
    Body: body,
    createdAt,
  }: TwilioMessage) => ({
    sid,
    account_sid: accountSid,
    to,
    from: from ?? null,
    messaging_service_sid: service ?? null,
    body,
    status: service ? 'accepted' : 'queued',
    direction: 'outbound-api',
    date_created: createdAt.toUTCString().replace('GMT', '+0000'),
    date_sent: null,
    error_code: null,
  });
  return recorder;
}

/** The one form of Twilio's refusals. */
export function twilioError(status: number, code: number, message: string): Answer {
  return { status, body: { code, message, more_info: `https://www.twilio.com/docs/errors/${code}`, status } };
}

function refusalOf({
  To,
  From,
  MessagingServiceSid,
  Body,
}: Partial<TwilioMessage>): readonly [number, string] | undefined {
  if (!To) return [21604, "A 'To' phone number is required."];
  if (!From && !MessagingServiceSid) return [21603, "A 'From' phone number is required."];
  if (!Body) return [21602, 'Message body is required.'];
  if (Body.length > 1_600) return [21617, 'The concatenated message body exceeds the 1600 character limit'];
  return REFUSED_SENDERS[From ?? ''] ?? REFUSED_RECIPIENTS[To];
}
