import { createPublicKey, verify } from 'node:crypto';
import type { JsonObject, ProviderReport } from '../../domain/vocabulary.js';
import type { Callback, CallbackRequest } from '../channel.js';
import { at } from '../net/json.js';
import { given, header, objectIn, refused, textOf, timeOf, verified } from './callback.js';

/**
 * MailPace's webhooks (https://docs.mailpace.com/guide/webhooks): Ed25519 over the body. There is no timestamp, so a
 * replay is known only by being a report that was seen.
 */
export function parseMailpaceCallback(request: CallbackRequest, { webhookPublicKey }: JsonObject): Callback {
  if (typeof webhookPublicKey !== 'string') return refused('webhookPublicKey is not configured');
  const signature = Buffer.from(header(request, 'x-mailpace-signature'), 'base64');
  if (!verify(null, request.body, keyOf(webhookPublicKey), signature)) return refused('signature');
  const body = objectIn(request.body);
  const kind = KINDS[String(body?.event)];
  const id = textOf(at(body, 'payload.id'));
  if (!kind || id === undefined) return verified([]);
  const recipients = (textOf(at(body, 'payload.to')) ?? '').split(',').map((address) => bareAddress(address));
  return verified(
    recipients.map((address) => ({
      id: `${id}/${body?.event}/${address}`,
      kind,
      at: timeOf(at(body, 'payload.updated_at'), request.now),
      providerMessageId: id,
      ...given({
        address: address === '' ? undefined : address,
        code: kind === 'Bounced' ? `MAILPACE_${String(at(body, 'payload.status')).toUpperCase()}` : undefined,
        suppress: body?.event === 'email.bounced' ? true : undefined,
      }),
    })),
  );
}

/** email.queued and email.deferred change nothing; spam is what MailPace itself refuses to send on. */
const KINDS: Readonly<Record<string, ProviderReport['kind']>> = {
  'email.delivered': 'Delivered',
  'email.bounced': 'Bounced',
  'email.spam': 'Bounced',
};

/** The public key is shown as the 32 bytes in base64; Node wants them with their algorithm in front (RFC 8410). */
const PREFIX = Buffer.from('302a300506032b6570032100', 'hex');
const keyOf = (base64: string) =>
  createPublicKey({ key: Buffer.concat([PREFIX, Buffer.from(base64, 'base64')]), format: 'der', type: 'spki' });

export const isMailpaceKey = (base64: string): boolean => Buffer.from(base64, 'base64').length === 32;

const bareAddress = (text: string): string => /<([^<>]+)>/.exec(text)?.[1] ?? text.trim();
