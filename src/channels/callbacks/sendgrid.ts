import { createPublicKey, verify } from 'node:crypto';
import type { JsonObject, ProviderReport } from '../../domain/vocabulary.js';
import type { Callback, CallbackRequest } from '../channel.js';
import { given, header, isTimely, jsonIn, refused, textOf, timeOf, verified } from './callback.js';

/**
 * SendGrid's Event Webhook
 * (https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features):
 * ECDSA over the timestamp and the body as it came. The public key is in the settings of the webhook, as base64 DER.
 */
export function parseSendGridCallback(request: CallbackRequest, { webhookPublicKey }: JsonObject): Callback {
  if (typeof webhookPublicKey !== 'string') return refused('webhookPublicKey is not configured');
  const timestamp = header(request, 'x-twilio-email-event-webhook-timestamp');
  const signature = Buffer.from(header(request, 'x-twilio-email-event-webhook-signature'), 'base64');
  const signed = Buffer.concat([Buffer.from(timestamp), request.body]);
  if (!verify('sha256', signed, keyOf(webhookPublicKey), signature)) return refused('signature');
  if (!isTimely(timestamp, request.now)) return refused('timestamp');
  const events = jsonIn(request.body);
  if (!Array.isArray(events)) return refused('body');
  return verified(events.flatMap((event: unknown) => reportOf(event as JsonObject, request.now)));
}

export const isSendGridKey = (base64: string): boolean => {
  try {
    return keyOf(base64).asymmetricKeyType === 'ec';
  } catch {
    return false;
  }
};

const keyOf = (base64: string) => createPublicKey({ key: Buffer.from(base64, 'base64'), format: 'der', type: 'spki' });

/** https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event; deferred and processed change nothing. */
const KINDS: Readonly<Record<string, ProviderReport['kind']>> = {
  delivered: 'Delivered',
  bounce: 'Bounced',
  dropped: 'Bounced',
  open: 'Opened',
  click: 'Clicked',
  spamreport: 'Complained',
  unsubscribe: 'OptedOut',
  group_unsubscribe: 'OptedOut',
};

function reportOf(event: JsonObject | null, now: Date): ProviderReport[] {
  const kind = KINDS[String(event?.event)];
  const id = textOf(event?.sg_event_id);
  if (!event || !kind || id === undefined) return [];
  // A `blocked` bounce is about this message (reputation, content), not about the address.
  const isHard = event.event === 'bounce' && event.type !== 'blocked';
  return [
    {
      id,
      kind,
      at: timeOf(event.timestamp, now),
      ...given({
        deliveryId: textOf(event.deliveryId),
        attemptKey: textOf(event.attemptKey),
        providerMessageId: textOf(event.sg_message_id)?.split('.')[0],
        address: textOf(event.email),
        code: kind === 'Bounced' ? `SENDGRID_${String(event.type ?? event.event).toUpperCase()}` : undefined,
        detail: textOf(event.reason),
        suppress: isHard || kind === 'Complained' || kind === 'OptedOut' ? true : undefined,
      }),
    },
  ];
}
