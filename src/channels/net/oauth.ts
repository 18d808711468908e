import { createHash } from 'node:crypto';

/** Tokens that a server gives for a while (RFC 6749, 5.1), kept until shortly before they end. */

/** Beyond it the one unused for longest is forgotten, and asked for again when needed. */
const TOKENS = 1_000;
/** Asked for again that long before its end, so that none ends on its way. */
const MARGIN_MS = 60_000;
/** Where the server does not say. */
const STANDARD_SECONDS = 300;

interface Answer {
  readonly status: number;
  readonly body: string;
}

export class TokenCache {
  /** By a digest of the credentials, in order of last use. */
  readonly #tokens = new Map<string, { readonly token: Promise<string>; untilMs: number; value?: string }>();

  /**
   * @param credentials everything the token depends on
   * @param ask called once however many want it at the same time; a failure is not kept
   * @throws what `ask` throws, or when the answer is a refusal or has no token
   */
  get(credentials: string, ask: () => Promise<Answer>): Promise<string> {
    const key = digest(credentials);
    const known = this.#tokens.get(key);
    this.#tokens.delete(key);
    if (known && known.untilMs > Date.now()) {
      this.#tokens.set(key, known);
      return known.token;
    }
    const entry = {
      token: this.#ask(ask, (value, untilMs) => Object.assign(entry, { value, untilMs })),
      untilMs: Number.POSITIVE_INFINITY,
    };
    this.#tokens.set(key, entry);
    entry.token.catch(() => this.#tokens.get(key) === entry && this.#tokens.delete(key));
    if (this.#tokens.size > TOKENS) this.#tokens.delete(this.#tokens.keys().next().value as string);
    return entry.token;
  }

  /**
   * For a token that was refused before its time.
   * @param refused the token; one that somebody has asked for since then is kept
   */
  forget(credentials: string, refused?: string): void {
    const key = digest(credentials);
    if (refused === undefined || this.#tokens.get(key)?.value === refused) this.#tokens.delete(key);
  }

  async #ask(ask: () => Promise<Answer>, lasts: (token: string, untilMs: number) => void): Promise<string> {
    const { status, body } = await ask();
    if (status >= 400) throw new Error(`the token endpoint answered ${status}`);
    const { access_token: token, expires_in: seconds } = parsed(body);
    if (typeof token !== 'string' || !/^[\x21-\x7e]{1,10000}$/.test(token))
      throw new Error('the token endpoint gave no token');
    const lifetime = typeof seconds === 'number' && seconds > 0 ? seconds : STANDARD_SECONDS;
    lasts(token, Date.now() + lifetime * 1_000 - MARGIN_MS);
    return token;
  }
}

const digest = (credentials: string): string => createHash('sha256').update(credentials).digest('base64');

function parsed(body: string): { readonly access_token?: unknown; readonly expires_in?: unknown } {
  try {
    const json: unknown = JSON.parse(body);
    return typeof json === 'object' && json !== null ? json : {};
  } catch {
    return {};
  }
}
