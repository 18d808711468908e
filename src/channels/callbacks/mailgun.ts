import type { JsonObject, ProviderReport } from '../../domain/vocabulary.js';
import type { Callback, CallbackRequest } from '../channel.js';
import { at } from '../net/json.js';
import { given, hmac, isSame, isTimely, objectIn, refused, textOf, timeOf, verified } from './callback.js';

/**
 * Mailgun's webhooks (https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks): HMAC-SHA256
 * of timestamp and token under the account's webhook signing key. The token is random, so the body is not covered: what
 * protects it is TLS, and a token that was seen is refused by the deduplication of the event it came with.
 */
export function parseMailgunCallback(request: CallbackRequest, { webhookSigningKey }: JsonObject): Callback {
  if (typeof webhookSigningKey !== 'string') return refused('webhookSigningKey is not configured');
  const body = objectIn(request.body);
  const timestamp = textOf(at(body, 'signature.timestamp')) ?? '';
  const token = textOf(at(body, 'signature.token')) ?? '';
  const signature = textOf(at(body, 'signature.signature')) ?? '';
  if (!isSame(signature, hmac('sha256', webhookSigningKey, timestamp + token, 'hex'))) return refused('signature');
  if (!isTimely(timestamp, request.now)) return refused('timestamp');
  const event = at(body, 'event-data');
  const kind = kindOf(event);
  const id = textOf(at(event, 'id'));
  if (!kind || id === undefined) return verified([]);
  const isHard = kind === 'Bounced' && HARD.has(String(at(event, 'reason')));
  const status = at(event, 'delivery-status');
  return verified([
    {
      id,
      kind,
      at: timeOf(at(event, 'timestamp'), request.now),
      ...given({
        deliveryId: textOf(at(event, 'user-variables.deliveryId')),
        attemptKey: textOf(at(event, 'user-variables.attemptKey')),
        // Mailgun keeps the Message-ID of ours.
        providerMessageId: textOf(at(at(event, 'message'), 'headers.message-id')),
        address: textOf(at(event, 'recipient')),
        code: kind === 'Bounced' ? `MAILGUN_${textOf(at(status, 'code')) ?? 'FAILED'}` : undefined,
        detail: kind === 'Bounced' ? (textOf(at(status, 'message')) ?? textOf(at(status, 'description'))) : undefined,
        suppress: isHard || kind === 'Complained' || kind === 'OptedOut' ? true : undefined,
      }),
    },
  ]);
}

/** https://documentation.mailgun.com/docs/mailgun/user-manual/events/event-structure; a temporary failure changes nothing. */
function kindOf(event: unknown): ProviderReport['kind'] | undefined {
  switch (at(event, 'event')) {
    case 'delivered':
      return 'Delivered';
    case 'failed':
      return at(event, 'severity') === 'permanent' ? 'Bounced' : undefined;
    case 'complained':
      return 'Complained';
    case 'opened':
      return 'Opened';
    case 'clicked':
      return 'Clicked';
    case 'unsubscribed':
      return 'OptedOut';
    default:
      return undefined;
  }
}

/** Reasons of permanent failures that are about the address. */
const HARD = new Set(['bounce', 'suppress-bounce', 'suppress-complaint', 'suppress-unsubscribe']);
