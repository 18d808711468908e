import { hash, timingSafeEqual } from 'node:crypto';
import { Guesses, type GuessLimits } from './guesses.js';
import { installationAdmin } from './principal.js';
import type { Scheme, Session } from './session.js';

export type Verdict =
  | { readonly ok: true; readonly session: Session }
  | { readonly ok: false; readonly reason: 'credentials' | 'expired' | 'unavailable' }
  /** Too many wrong ones came from the address; these were not looked at. */
  | { readonly ok: false; readonly reason: 'blocked'; readonly retryAfterSeconds: number };

/** Sessions kept, under 1 KB each; a forgotten one costs a look at the log or at a signature. */
const MAX_SESSIONS = 10_000;
/** Longer credentials are not even hashed: tokens have hundreds of characters, some thousands. */
const MAX_CREDENTIALS = 16_384;

const refused: Verdict = { ok: false, reason: 'credentials' };

/**
 * Turns credentials into a session. Good ones are remembered by their hash, never as they are, and judged again when
 * something they rest on has changed.
 */
export class Authenticator {
  readonly #schemes: readonly Scheme[];
  readonly #guesses: Guesses;
  readonly #sessions = new Map<string, { readonly ok: true; readonly session: Session }>();

  constructor(schemes: readonly Scheme[], limits: GuessLimits) {
    this.#schemes = schemes;
    this.#guesses = new Guesses(limits);
  }

  /**
   * @param authorization the value of the `authorization` header; undefined when there was none
   * @param ip whom to count wrong credentials against
   */
  authenticate(authorization: string | undefined, ip: string): Verdict | Promise<Verdict> {
    const token = tokenIn(authorization);
    if (token === undefined) return refused;
    const digest = hash('sha256', token, 'base64');
    const known = this.#sessions.get(digest);
    return known?.session.isCurrent() ? known : this.#judge(token, digest, known?.session, ip);
  }

  async #judge(token: string, digest: string, before: Session | undefined, ip: string): Promise<Verdict> {
    // Who has been let in is not kept out by others who guess from the same address.
    const wait = before ? 0 : await this.#guesses.secondsBlocked(ip);
    if (wait > 0) return { ok: false, reason: 'blocked', retryAfterSeconds: wait };
    this.#sessions.delete(digest);
    let session: Session | 'expired' | undefined;
    try {
      session = before ? await before.renew() : undefined;
      session ??= await this.#schemes.find((each) => each.recognizes(token))?.verify(token);
    } catch {
      // The log or the issuer is out of reach: nothing is known of the credentials, so nobody is let in.
      return { ok: false, reason: 'unavailable' };
    }
    // Whoever has had good ones does not guess.
    if (session === 'expired') return { ok: false, reason: 'expired' };
    if (!session) {
      await this.#guesses.failed(ip);
      return refused;
    }
    if (this.#sessions.size >= MAX_SESSIONS) this.#sessions.delete(this.#sessions.keys().next().value as string);
    const verdict = { ok: true, session } as const;
    this.#sessions.set(digest, verdict);
    return verdict;
  }
}

function tokenIn(authorization: string | undefined): string | undefined {
  if (authorization === undefined || authorization.length > MAX_CREDENTIALS) return undefined;
  return /^Bearer +(\S+) *$/i.exec(authorization)?.[1];
}

/** The administrator's key: one for the installation, without an organization. */
export class AdminKey implements Scheme {
  readonly #hash: Buffer;
  readonly #session: Session;

  constructor(key: string) {
    this.#hash = hash('sha256', key, 'buffer');
    const session: Session = {
      principal: installationAdmin('admin', 'admin-key'),
      isCurrent: () => true,
      renew: async () => session,
    };
    this.#session = session;
  }

  /** Hashes are compared, so that neither the key's length nor its first characters show in the time this takes. */
  recognizes(token: string): boolean {
    return timingSafeEqual(hash('sha256', token, 'buffer'), this.#hash);
  }

  async verify(): Promise<Session> {
    return this.#session;
  }
}
