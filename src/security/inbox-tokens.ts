import { createHmac, timingSafeEqual } from 'node:crypto';
import { memberOf, type Principal } from './principal.js';
import type { Scheme, Session } from './session.js';

/** Whose inbox a token opens. */
export interface InboxHolder {
  readonly organizationId: string;
  /** The person's name in the log, from which nobody can tell the address. */
  readonly person: string;
}

const PREFIX = 'wbi_';
const MAC_BYTES = 32;

/**
 * Tokens that a service hands to the browser of one of its users, and that open that user's inbox and nothing else:
 * `wbi_<payload>.<HMAC-SHA-256>`, both base64url. Nobody keeps them, so they cannot be taken back: they end soon instead.
 */
export class InboxTokens implements Scheme {
  readonly #key: Buffer;
  readonly #now: () => number;

  /** @param key 32 bytes that are used for nothing else; the same for all instances */
  constructor(key: Buffer, now: () => number = Date.now) {
    this.#key = key;
    this.#now = now;
  }

  issue({ organizationId, person }: InboxHolder, expiresAt: Date): string {
    const payload = Buffer.from(JSON.stringify([organizationId, person, expiresAt.getTime()])).toString('base64url');
    return `${PREFIX}${payload}.${this.#mac(payload).toString('base64url')}`;
  }

  recognizes(token: string): boolean {
    return token.startsWith(PREFIX);
  }

  async verify(token: string): Promise<Session | 'expired' | undefined> {
    const [payload = '', mac = '', ...rest] = token.slice(PREFIX.length).split('.');
    const given = Buffer.from(mac, 'base64url');
    // Compared before anything of the payload is read. A second spelling of the same bytes is no second token.
    if (rest.length > 0 || given.length !== MAC_BYTES || given.toString('base64url') !== mac) return undefined;
    if (!timingSafeEqual(given, this.#mac(payload))) return undefined;
    const [organizationId, person, until] = JSON.parse(Buffer.from(payload, 'base64url').toString()) as [
      string,
      string,
      number,
    ];
    if (this.#now() >= until) return 'expired';
    const session: Session = {
      principal: holderOf({ organizationId, person }),
      isCurrent: () => this.#now() < until,
      renew: async () => (this.#now() < until ? session : undefined),
    };
    return session;
  }

  #mac(payload: string): Buffer {
    return createHmac('sha256', this.#key).update(payload).digest();
  }
}

/** In their organization, and without any permission there. */
function holderOf(inbox: InboxHolder): Principal {
  const { actor, credential, organizations, grants, isInstallationAdmin } = memberOf(
    inbox.person,
    `inbox:${inbox.person}`,
    new Map([[inbox.organizationId, new Set()]]),
  );
  return { actor, credential, organizations, grants, isInstallationAdmin, inbox };
}
