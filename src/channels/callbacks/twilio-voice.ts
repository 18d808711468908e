import type { Json, JsonObject, ProviderReport } from '../../domain/vocabulary.js';
import type { Callback, CallbackRequest } from '../channel.js';
import { escapeXml } from '../vendors/xml.js';
import { given, refused, verified } from './callback.js';
import { signedForm } from './twilio.js';

/**
 * What Twilio posts about a call: its end, and the key that was pressed where one was asked for
 * (https://www.twilio.com/docs/voice/api/call-resource#statuscallback, https://www.twilio.com/docs/voice/twiml/gather).
 */
export function parseTwilioVoiceCallback(request: CallbackRequest, config: JsonObject): Callback {
  const form = signedForm(request, config.authToken);
  if (!form) return refused('signature');
  const query = new URL(request.url).searchParams;
  const sid = form.get('CallSid') ?? '';
  const confirm = isObject(config.confirm) ? config.confirm : undefined;
  const reportOf = (id: string, kind: ProviderReport['kind'], code?: string): ProviderReport => ({
    id: `${sid}/${id}`,
    kind,
    at: request.now, // Twilio says neither when it was pressed nor when the call ended
    providerMessageId: sid,
    ...given({
      deliveryId: query.get('delivery') ?? undefined,
      attemptKey: query.get('attempt') ?? undefined,
      address: form.get('To') ?? undefined,
      code,
    }),
  });
  if (sid === '') return verified([]);
  if (query.has('asked')) {
    const isConfirmed = form.get('Digits') === (confirm?.digit ?? '1');
    const report = isConfirmed
      ? reportOf('confirmed', 'Delivered')
      : reportOf('unconfirmed', 'Bounced', 'NOT_CONFIRMED');
    const body = isConfirmed && typeof confirm?.thanks === 'string' ? thanksOf(confirm.thanks, config) : '<Response/>';
    return { kind: 'verified', reports: [report], reply: { contentType: 'text/xml', body } };
  }
  const status = form.get('CallStatus') ?? '';
  // With a key to be pressed, having picked up is not enough.
  if (status === 'completed') return verified(confirm ? [] : [reportOf(status, 'Delivered')]);
  if (!FAILED.has(status)) return verified([]);
  return verified([reportOf(status, 'Bounced', `TWILIO_${status.toUpperCase()}`)]);
}

/** Ends of a call that nobody has heard (first page, "Call Status Values"). The others come before an end. */
const FAILED = new Set(['busy', 'no-answer', 'failed', 'canceled']);

function thanksOf(words: string, { language, voice }: JsonObject): string {
  const who = typeof voice === 'string' ? ` voice="${escapeXml(voice)}"` : '';
  const tongue = typeof language === 'string' ? language : 'en-US';
  return `<Response><Say language="${escapeXml(tongue)}"${who}>${escapeXml(words)}</Say></Response>`;
}

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
