import type { OutgoingMessage } from '../channel.js';
import { withDeadline } from '../deadline.js';
import { abortReason, presentable, type Rejected, rejected, unanswered } from '../outcome.js';
import type { Egress } from './egress.js';
import { exchange, type HttpRequest, type HttpResult, refusedByHttp } from './http.js';
import { objectIn } from './json.js';
import { TokenCache } from './oauth.js';
import type { Way } from './ways-out.js';
import { Wire, type WireAnswer } from './wire.js';

/** Providers that first give a token for the credentials (RFC 6749), and take it with each request. */

export interface Grant {
  /** Everything the token depends on. */
  readonly key: string;
  /** Of who gives it, to be named where it does not. */
  readonly host: string;
  readonly secrets: readonly string[];
  /** Of the configuration: for who gives it, and for whom it is. */
  readonly way: Way;
  readonly ask: (wire: Wire) => Promise<WireAnswer>;
}

export interface BearerOptions {
  readonly message: OutgoingMessage;
  readonly now: Date;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export class BearerClient {
  readonly #egress: Egress;
  readonly #tokens = new TokenCache();

  constructor(egress: Egress) {
    this.#egress = egress;
  }

  /** The token, or why there is none: nothing has been sent to anybody then. */
  async token(grant: Grant, { message, now, timeoutMs, signal }: BearerOptions): Promise<string | Rejected> {
    if (signal.aborted) return unanswered(abortReason(signal), grant.host, false);
    const asked = this.#tokens.get(grant.key, () =>
      answerOf(grant, new Wire(this.#egress, grant.way, signal, timeoutMs)),
    );
    try {
      // Somebody else may have asked, whose time is not ours.
      return await Promise.race([asked, aborted(signal)]);
    } catch (error) {
      if (!(error instanceof NoToken)) {
        if (signal.aborted) return unanswered(abortReason(signal), grant.host, false);
        return rejected('TEMPORARY', 'UNREADABLE_ANSWER', `${grant.host} gave an answer without a token`);
      }
      const { result } = error;
      if (result.kind === 'silence') return unanswered(result.error, grant.host, false);
      const words = presentable(reasonIn(result.body), message, grant.secrets);
      const refusal = refusedByHttp(result, `${grant.host} gave no token: ${result.status} ${words}`, now);
      return result.status < 500 && result.status !== 429 ? { ...refusal, category: 'AUTHENTICATION' } : refusal;
    }
  }

  /** A token that was not given before: whether the credentials are good now. */
  fresh(grant: Grant, options: BearerOptions): Promise<string | Rejected> {
    this.#tokens.forget(grant.key);
    return this.token(grant, options);
  }

  /** @returns what came of the request, or why there is no token for it */
  call(
    grant: Grant,
    options: BearerOptions,
    make: (token: string) => Omit<HttpRequest, 'timeoutMs' | 'signal'>,
  ): Promise<HttpResult | Rejected> {
    const { timeoutMs } = options;
    return withDeadline(timeoutMs, options.signal, async (signal) => {
      const token = await this.token(grant, { ...options, signal });
      if (typeof token !== 'string') return token;
      const result = await exchange(this.#egress.dispatcher(grant.way), { ...make(token), timeoutMs, signal });
      if (result.kind === 'answer' && result.status === 401) this.#tokens.forget(grant.key);
      return result;
    });
  }
}

/** Told to everybody who waits for the same token. */
class NoToken extends Error {
  constructor(readonly result: HttpResult) {
    super('no token');
  }
}

async function answerOf(grant: Grant, wire: Wire): Promise<WireAnswer> {
  const answer = await grant.ask(wire).catch((error: unknown) => {
    throw wire.last ? new NoToken(wire.last) : error;
  });
  if (answer.status >= 400 && wire.last) throw new NoToken(wire.last);
  return answer;
}

const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(abortReason(signal)), { once: true }));

/** `error` and `error_description` (RFC 6749, 5.2). */
function reasonIn(body: string): string {
  const { error, error_description: description } = objectIn(body);
  return [error, description].filter((part) => typeof part === 'string').join(': ');
}
