import { createPublicKey, type KeyObject } from 'node:crypto';
import { jwtVerify } from 'jose';
import type { Answer, RecordedRequest } from './http-peer.js';

export interface GoogleTokens {
  /** Tokens given so far. */
  given: number;
  answer(request: RecordedRequest): Promise<Answer>;
}

/** Answers as Google's token endpoint (https://developers.google.com/identity/protocols/oauth2/service-account). */
export function googleTokens(publicKey: KeyObject): GoogleTokens {
  const key = createPublicKey(publicKey.export({ type: 'spki', format: 'pem' }));
  const tokens: GoogleTokens = {
    given: 0,
    async answer({ raw }) {
      const form = new URLSearchParams(raw);
      const isKind = form.get('grant_type') === 'urn:ietf:params:oauth:grant-type:jwt-bearer';
      const claims = await jwtVerify(form.get('assertion') ?? '', key).catch(() => undefined);
      if (!isKind || !claims?.payload.scope || !String(claims.payload.aud).endsWith('/token')) {
        return { status: 400, body: { error: 'invalid_grant', error_description: 'Invalid JWT Signature.' } };
      }
      tokens.given += 1;
      return { body: { access_token: `ya29.token-${tokens.given}`, expires_in: 3599, token_type: 'Bearer' } };
    },
  };
  return tokens;
}
