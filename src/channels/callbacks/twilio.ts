import type { JsonObject, ProviderReport } from '../../domain/vocabulary.js';
import type { Callback, CallbackRequest } from '../channel.js';
import { given, header, hmac, isSame, refused, verified } from './callback.js';

/**
 * The form of a request of Twilio's (https://www.twilio.com/docs/usage/security#validating-requests): HMAC-SHA1
 * under the auth token, over the URL as called and the fields of the form, sorted by name. There is no timestamp: a
 * replay is a report that was seen.
 *
 * @returns undefined when it is not Twilio's
 */
export function signedForm(request: CallbackRequest, authToken: unknown): URLSearchParams | undefined {
  const form = new URLSearchParams(request.body.toString('utf8'));
  const fields = [...form].sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0));
  const signed = request.url + fields.map(([name, value]) => name + value).join('');
  const expected = hmac('sha1', String(authToken), signed, 'base64');
  return isSame(header(request, 'x-twilio-signature'), expected) ? form : undefined;
}

/** Status callbacks of messages, and incoming messages. */
export function parseTwilioCallback(request: CallbackRequest, { authToken }: JsonObject): Callback {
  const form = signedForm(request, authToken);
  if (!form) return refused('signature');
  const field = (name: string) => form.get(name) ?? undefined;
  const sid = field('MessageSid') ?? field('SmsSid') ?? '';
  const status = field('MessageStatus') ?? field('SmsStatus') ?? '';
  if (status === 'received' || field('Body') !== undefined) return incoming(field, sid, request.now);
  const kind = KINDS[status];
  if (!kind || sid === '') return verified([]);
  const query = new URL(request.url).searchParams;
  const code = field('ErrorCode');
  return verified([
    {
      id: `${sid}/${status}`,
      kind,
      at: request.now, // Twilio does not say when it happened
      providerMessageId: sid,
      ...given({
        deliveryId: query.get('delivery') ?? undefined,
        attemptKey: query.get('attempt') ?? undefined,
        address: field('To'),
        code: kind === 'Bounced' ? `TWILIO_${code ?? status.toUpperCase()}` : undefined,
        detail: kind === 'Bounced' ? field('ErrorMessage') : undefined,
        suppress: UNREACHABLE.has(code ?? '') ? true : undefined,
      }),
    },
  ]);
}

/** https://www.twilio.com/docs/messaging/guides/outbound-message-status-in-status-callbacks; the others come before these. */
const KINDS: Readonly<Record<string, ProviderReport['kind']>> = {
  delivered: 'Delivered',
  read: 'Opened',
  undelivered: 'Bounced',
  failed: 'Bounced',
};

/** https://www.twilio.com/docs/api/errors: opted out, unknown number, a landline. */
const UNREACHABLE = new Set(['21610', '30005', '30006']);

/**
 * Words that carriers and CTIA ask every sender to understand
 * (https://help.twilio.com/articles/223134027-Twilio-support-for-opt-out-keywords-SMS-STOP-filtering-). With Advanced
 * Opt-Out Twilio says itself what it took the message for.
 */
const STOP = new Set(['STOP', 'STOPALL', 'UNSUBSCRIBE', 'CANCEL', 'END', 'QUIT', 'REVOKE', 'OPTOUT']);
const START = new Set(['START', 'YES', 'UNSTOP']);

function incoming(field: (name: string) => string | undefined, sid: string, now: Date): Callback {
  const word = (field('OptOutType') ?? field('Body') ?? '').trim().toUpperCase();
  const address = field('From');
  const kind = STOP.has(word) ? 'OptedOut' : START.has(word) ? 'OptedIn' : undefined;
  // An empty answer: to STOP, START and HELP Twilio replies itself.
  const reply = { contentType: 'text/xml', body: '<Response/>' };
  if (!kind || address === undefined || sid === '') return { kind: 'verified', reports: [], reply };
  const report = { id: sid, kind, at: now, address, ...(kind === 'OptedOut' && { suppress: true }) } as const;
  return { kind: 'verified', reports: [report], reply };
}
