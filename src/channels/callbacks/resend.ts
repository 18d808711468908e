import type { JsonObject, ProviderReport } from '../../domain/vocabulary.js';
import type { Callback, CallbackRequest } from '../channel.js';
import { at } from '../net/json.js';
import { sharedSecret } from '../webhook/standard-webhooks.js';
import { given, header, hmac, isSame, isTimely, objectIn, refused, textOf, timeOf, verified } from './callback.js';

/**
 * Resend's webhooks (https://resend.com/docs/dashboard/webhooks/verify-webhooks-requests): signed by Svix, which is the
 * scheme of Standard Webhooks under headers of its own.
 */
export function parseResendCallback(request: CallbackRequest, { webhookSecret }: JsonObject): Callback {
  const key = typeof webhookSecret === 'string' ? sharedSecret(webhookSecret) : undefined;
  if (!key) return refused('webhookSecret is not configured');
  const id = header(request, 'svix-id');
  const seconds = header(request, 'svix-timestamp');
  const signed = Buffer.concat([Buffer.from(`${id}.${seconds}.`), request.body]);
  const expected = `v1,${hmac('sha256', key, signed, 'base64')}`;
  const isSigned = header(request, 'svix-signature')
    .split(' ')
    .some((signature) => isSame(signature, expected));
  if (!isSigned) return refused('signature');
  if (!isTimely(seconds, request.now)) return refused('timestamp');
  const body = objectIn(request.body);
  const kind = KINDS[String(body?.type)];
  if (!kind) return verified([]);
  const data = body?.data;
  const addresses = at(data, 'to');
  const isHard = kind === 'Bounced' && at(data, 'bounce.type') === 'Permanent';
  const report = {
    kind,
    at: timeOf(textOf(body?.created_at), request.now),
    ...given({
      deliveryId: textOf(at(data, 'tags.delivery_id')),
      attemptKey: textOf(at(data, 'tags.attempt_key')),
      providerMessageId: textOf(at(data, 'email_id')),
      code: kind === 'Bounced' ? `RESEND_${String(at(data, 'bounce.type') ?? 'FAILED').toUpperCase()}` : undefined,
      detail: textOf(at(data, 'bounce.message')),
      suppress: isHard || kind === 'Complained' ? true : undefined,
    }),
  };
  // One event for all recipients of the message.
  const recipients = Array.isArray(addresses) ? addresses.flatMap((address) => textOf(address) ?? []) : [];
  if (recipients.length === 0) return verified([{ id, ...report }]);
  return verified(recipients.map((address) => ({ id: `${id}/${address}`, address, ...report })));
}

/** https://resend.com/docs/dashboard/webhooks/event-types; sent and delivery_delayed change nothing. */
const KINDS: Readonly<Record<string, ProviderReport['kind']>> = {
  'email.delivered': 'Delivered',
  'email.bounced': 'Bounced',
  'email.failed': 'Bounced',
  'email.complained': 'Complained',
  'email.opened': 'Opened',
  'email.clicked': 'Clicked',
};
