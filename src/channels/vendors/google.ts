import { createPrivateKey } from 'node:crypto';
import { z } from 'zod';
import { checked } from '../config.js';
import type { Egress } from '../net/egress.js';
import type { Wire, WireAnswer } from '../net/wire.js';

/** Service accounts of Google (https://developers.google.com/identity/protocols/oauth2/service-account). */

export interface ServiceAccount {
  readonly clientEmail: string;
  readonly privateKey: string;
  readonly tokenEndpoint?: string;
}

const TOKEN_ENDPOINT = 'https://oauth2.googleapis.com/token';

/** For the schema of an adapter to spread into its own. */
export const serviceAccountFields = {
  clientEmail: z.email().describe('The service account: `client_email` of its key file.'),
  privateKey: checked((key) => (isRsaKey(key) ? undefined : 'must be an RSA private key, PEM'))
    .describe('Its key: `private_key` of its key file.')
    .meta({ secret: true }),
};

export const googleTokenEndpoint = (egress: Egress) =>
  checked((text) => egress.problemWithUrl(text))
    .optional()
    .describe('Where the key is exchanged for a token.')
    .meta({ default: TOKEN_ENDPOINT });

export const tokenHostOf = ({ tokenEndpoint = TOKEN_ENDPOINT }: ServiceAccount): string => new URL(tokenEndpoint).host;

/** Everything a token depends on. */
export const accountKey = ({ clientEmail, privateKey, tokenEndpoint }: ServiceAccount): string =>
  JSON.stringify([clientEmail, privateKey, tokenEndpoint]);

/** RFC 7523: a signed statement in exchange for a token of an hour. */
export async function askGoogle(account: ServiceAccount, scope: string, wire: Wire): Promise<WireAnswer> {
  const { SignJWT } = await import('jose');
  const endpoint = account.tokenEndpoint ?? TOKEN_ENDPOINT;
  const assertion = await new SignJWT({ scope })
    .setProtectedHeader({ alg: 'RS256', typ: 'JWT' })
    .setIssuer(account.clientEmail)
    .setAudience(endpoint)
    .setIssuedAt()
    .setExpirationTime('1h')
    .sign(createPrivateKey(account.privateKey));
  return await wire.request({
    url: new URL(endpoint),
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({ grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', assertion }).toString(),
  });
}

function isRsaKey(key: string): boolean {
  try {
    return createPrivateKey(key).asymmetricKeyType === 'rsa';
  } catch {
    return false;
  }
}
