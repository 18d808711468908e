import { z } from 'zod';
import { STATUS_EVENTS } from '../../domain/vocabulary.js';
import { checked } from '../config.js';
import { clientCredentials } from '../net/client-credentials.js';
import { clientTls, outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { headersSchema } from './request-headers.js';
import { responseRules } from './response-rules.js';
import { decodeSecret, SIGNATURES } from './standard-webhooks.js';

/** The form of `config.webhook`. */

const secret = checked((text) => {
  if (decodeSecret(text)) return undefined;
  return text.startsWith('whsk_')
    ? 'must be whsk_ followed by the base64 of an ed25519 key: 32 bytes, or 64 with the public key (Standard Webhooks)'
    : 'must be whsec_ followed by the base64 of 24 to 64 random bytes (Standard Webhooks)';
});
const derived = z.string().max(100).optional();

export function webhookSchema(egress: Egress, standardTimeoutMs: number): z.ZodType {
  return z
    .strictObject({
      url: checked((url) => egress.problemWithUrl(url)).describe('Where messages are sent to, http or https.'),
      method: z
        .enum(['POST', 'PUT', 'PATCH'])
        .optional()
        .describe('HTTP method of the request.')
        .meta({ default: 'POST' }),
      headers: headersSchema
        .optional()
        .describe(
          'Headers of the request. Those whose name has auth, token, key, secret, cookie, password or credential in it are secrets.',
        ),
      ...outbound(egress, standardTimeoutMs),
      signature: z
        .enum(SIGNATURES)
        .optional()
        .describe(
          'How messages are signed (Standard Webhooks): with a shared secret, or with a key whose public half receivers have.',
        )
        .meta({ default: 'hmac-sha256' }),
      secret: secret
        .optional()
        .describe(
          'Signs each message: `whsec_…` for hmac-sha256, `whsk_…` for ed25519. Made by Waybill where none is given.',
        )
        .meta({ secret: true }),
      publicKey: derived.describe('`whpk_…`, the public half of an ed25519 secret. Set by Waybill.'),
      previousSecret: secret
        .optional()
        .describe('The secret before this one. Signs too, so that the receiver can change over at its own time.')
        .meta({ secret: true }),
      previousPublicKey: derived.describe('The public half of the secret before. Set by Waybill.'),
      previousSecretUntil: z.iso
        .datetime({ offset: true })
        .optional()
        .describe('When the previous secret stops signing. Without it, it never does.'),
      oauth: clientCredentials(egress)
        .optional()
        .describe(
          'Gets an access token first (OAuth 2.0, client credentials), and sends it as `Authorization: Bearer`.',
        ),
      tls: clientTls
        .optional()
        .describe('Client certificate and authorities, for receivers that demand or have their own.'),
      responseRules: responseRules
        .optional()
        .describe('What answers mean, where they do not mean what HTTP says. The first rule that fits counts.'),
      statusEvents: z
        .array(z.enum(STATUS_EVENTS))
        .min(1)
        .max(STATUS_EVENTS.length)
        .optional()
        .describe("Which news of its organization's deliveries come here by themselves (docs/status-webhooks.md)."),
      retryConfig: z
        .strictObject({
          maxRetries: z.int().min(0).max(100).optional().describe('Attempts after the first one.'),
          backoffMultiplier: z.number().min(1).max(10).optional().describe('What each delay is to the one before.'),
          initialDelay: z.int().min(0).optional().describe('Before the second attempt, in milliseconds.'),
          maxBackoffDelay: z.int().min(0).optional().describe('No delay is longer, in milliseconds.'),
        })
        .optional()
        .describe("How failed attempts are repeated. The destination's `retry` says more, and wins."),
    })
    .superRefine(({ signature, secret: text, headers, oauth }, context) => {
      const problem = (path: string[], message: string) => context.addIssue({ code: 'custom', path, message });
      const isKey = text?.startsWith('whsk_') ?? false;
      if (text !== undefined && isKey !== (signature === 'ed25519'))
        problem(['secret'], isKey ? 'signs by ed25519: set signature to it' : 'must be a whsk_ key to sign by ed25519');
      const authorization = Object.keys(headers ?? {}).find((name) => name.toLowerCase() === 'authorization');
      if (oauth && authorization !== undefined) problem(['headers', authorization], 'is set by oauth');
    });
}
