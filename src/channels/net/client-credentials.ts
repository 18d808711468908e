import type { Dispatcher } from 'undici';
import { z } from 'zod';
import { checked } from '../config.js';
import { abortReason, type Rejected, rejected, unanswered } from '../outcome.js';
import type { Egress } from './egress.js';
import { exchange, refusedByHttp } from './http.js';
import { TokenCache } from './oauth.js';

/** Access tokens by the client credentials grant of OAuth 2.0 (RFC 6749, 4.4). */

export interface ClientCredentials {
  readonly tokenUrl: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly scope?: string;
  readonly audience?: string;
  readonly authentication?: 'basic' | 'body';
}

/** Bound on one request for a token, in milliseconds. */
const TOKEN_TIMEOUT_MS = 10_000;
/** Signed tokens of some servers are long. */
const KEEP_BYTES = 65_536;

const visible = (limit: number) =>
  z.string().regex(new RegExp(`^[\\x20-\\x7e]{1,${limit}}$`), `must have 1 to ${limit} visible ASCII characters`);

export const clientCredentials = (egress: Egress) =>
  z.strictObject({
    tokenUrl: checked((url) => egress.problemWithUrl(url)).describe('Token endpoint of the authorization server.'),
    clientId: visible(500).describe('The client.'),
    clientSecret: visible(2_000).describe('Its secret.').meta({ secret: true }),
    scope: visible(1_000).optional().describe('Scopes to ask for, space separated.'),
    audience: visible(1_000).optional().describe('Audience to ask for, where the server wants one.'),
    authentication: z
      .enum(['basic', 'body'])
      .optional()
      .describe('How client and secret are sent: as HTTP Basic, or in the body.')
      .meta({ default: 'basic' }),
  });

export type Granted = { readonly kind: 'granted'; readonly token: string } | Rejected;

class Refused extends Error {
  constructor(readonly outcome: Rejected) {
    super(outcome.code);
  }
}

export class AccessTokens {
  readonly #tokens = new TokenCache();

  /**
   * The token in force, or a new one. Many callers cause one request; one that is stopped by its signal does not stop
   * the request that the others wait for.
   * @param refused a token that the receiver did not take: it is not given again
   */
  async get(
    own: ClientCredentials,
    dispatcher: Dispatcher,
    { signal, now, refused }: { readonly signal: AbortSignal; readonly now: Date; readonly refused?: string },
  ): Promise<Granted> {
    const key = JSON.stringify(own);
    if (refused !== undefined) this.#tokens.forget(key, refused);
    const { host } = new URL(own.tokenUrl);
    try {
      const token = this.#tokens.get(key, () => ask(own, dispatcher, now));
      return { kind: 'granted', token: await unlessStopped(token, signal) };
    } catch (error) {
      if (error instanceof Refused) return error.outcome;
      if (signal.aborted) return unanswered(abortReason(signal), host, false);
      return rejected('AUTHENTICATION', 'OAUTH_NO_TOKEN', `${host} gave no token`);
    }
  }
}

async function ask(own: ClientCredentials, dispatcher: Dispatcher, now: Date) {
  const { tokenUrl, clientId, clientSecret, scope, audience, authentication } = own;
  const url = new URL(tokenUrl);
  const isBasic = authentication !== 'body';
  const form = new URLSearchParams({
    grant_type: 'client_credentials',
    ...(scope !== undefined && { scope }),
    ...(audience !== undefined && { audience }),
    ...(!isBasic && { client_id: clientId, client_secret: clientSecret }),
  });
  const headers = ['content-type', 'application/x-www-form-urlencoded', 'accept', 'application/json'];
  if (isBasic) headers.push('authorization', `Basic ${basic(clientId, clientSecret)}`);
  const answer = await exchange(dispatcher, {
    origin: url.origin,
    path: url.pathname + url.search,
    method: 'POST',
    headers,
    body: form.toString(),
    timeoutMs: TOKEN_TIMEOUT_MS,
    signal: new AbortController().signal,
    keepBytes: KEEP_BYTES,
  });
  if (answer.kind === 'silence') throw new Refused(unanswered(answer.error, url.host, false));
  if (answer.status >= 200 && answer.status < 300) return answer;
  const outcome = refusedByHttp(answer, `${url.host} answered ${answer.status} when asked for a token`, now);
  // RFC 6749, 5.2: what is wrong with the client or the grant is answered with 400 or 401.
  const category = answer.status === 400 ? 'AUTHENTICATION' : outcome.category;
  throw new Refused({ ...outcome, category, code: `OAUTH_${answer.status}` });
}

/** RFC 6749, 2.3.1: form-encoded first, so that a colon in the name cannot end it. */
const basic = (id: string, secret: string): string =>
  Buffer.from([id, secret].map((text) => new URLSearchParams([['', text]]).toString().slice(1)).join(':')).toString(
    'base64',
  );

function unlessStopped<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(abortReason(signal));
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}
