import { timingSafeEqual } from 'node:crypto';
import type { AccessState, ApiKey } from '../domain/access.js';
import type { Permission } from '../domain/vocabulary.js';
import { looksLikeApiKey, type ParsedApiKey, parseApiKey } from './api-key.js';
import { memberOf } from './principal.js';
import type { Scheme, Session } from './session.js';

/** What is recorded about one organization; another object as soon as that is another. */
export interface KnownAccess {
  readonly state: AccessState;
  readonly organizationId: string | undefined;
}

/** Who has access to organizations, by the id of the stream that says so. */
export interface KnownAccesses {
  find(streamId: string): Promise<KnownAccess>;
  /** What is known now without waiting, if it is still to be relied on. */
  peek(streamId: string): KnownAccess | undefined;
}

export interface AccessRules {
  permissionsOf(state: AccessState, roles: readonly string[]): Set<Permission>;
  isLive(key: ApiKey, now: string): boolean;
}

/** Keys that an organization has made for its programs. */
export class ApiKeys implements Scheme {
  readonly #accesses: KnownAccesses;
  readonly #rules: AccessRules;
  readonly #now: () => number;

  /** @param now milliseconds */
  constructor(accesses: KnownAccesses, rules: AccessRules, now: () => number = Date.now) {
    this.#accesses = accesses;
    this.#rules = rules;
    this.#now = now;
  }

  recognizes(token: string): boolean {
    return looksLikeApiKey(token);
  }

  async verify(token: string): Promise<Session | undefined> {
    const parsed = parseApiKey(token);
    return parsed && (await this.#open(parsed));
  }

  async #open(parsed: ParsedApiKey): Promise<Session | undefined> {
    const known = await this.#accesses.find(parsed.streamId);
    const { state, organizationId } = known;
    const key = state.keys.get(parsed.keyId);
    if (!key || organizationId === undefined) return undefined;
    const now = new Date(this.#now()).toISOString();
    const secret = key.secrets.find(
      ({ hash, until }) => isSame(hash, parsed.hash) && (until === undefined || until > now),
    );
    if (!secret || !this.#rules.isLive(key, now)) return undefined;
    const permissions = this.#rules.permissionsOf(state, key.roles);
    const deadlines = [key.expiresAt, secret.until].flatMap((at) => (at === undefined ? [] : [Date.parse(at)]));
    const until = Math.min(...deadlines);
    return {
      principal: memberOf(`key:${parsed.id}`, `key:${parsed.id}`, new Map([[organizationId, permissions]])),
      isCurrent: () => this.#now() < until && this.#accesses.peek(parsed.streamId) === known,
      renew: () => this.#open(parsed),
    };
  }
}

/** Both are hashes, 43 characters each. */
const isSame = (one: string, other: string): boolean =>
  one.length === other.length && timingSafeEqual(Buffer.from(one), Buffer.from(other));
