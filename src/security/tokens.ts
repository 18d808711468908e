import { decodeJwt, type JWTPayload } from 'jose';
import type { Permission } from '../domain/vocabulary.js';
import type { AccessRules, KnownAccess, KnownAccesses } from './api-keys.js';
import { Issuer, type IssuerSettings } from './issuer.js';
import { installationAdmin, memberOf } from './principal.js';
import type { Scheme, Session } from './session.js';

/** How the claims of an issuer's tokens are read. A claim is named by itself or by a path: `realm_access.roles`. */
export interface ClaimSettings {
  /** A claim with an opaque identity; an e-mail address is refused, as it would stand in the log for ever. */
  readonly actor: string;
  /** A list of organizations, or an object that lists roles by organization. */
  readonly organizations: string;
  /** A list of roles, held in each organization. */
  readonly roles: string;
}

export interface TokenIssuer extends IssuerSettings {
  readonly claims: ClaimSettings;
  /** The one organization of all its people, whatever their tokens say. */
  readonly organization?: string | undefined;
  /** Roles of ours by roles of theirs; when it is empty, theirs are ours. */
  readonly roles: Readonly<Record<string, readonly string[]>>;
  /** Roles of theirs that make an administrator of the installation. */
  readonly installationAdmins: readonly string[];
}

export interface TokenParts {
  readonly accesses: KnownAccesses;
  readonly rules: Pick<AccessRules, 'permissionsOf'>;
  /** The stream that says who has access to an organization. */
  readonly streamOf: (organizationId: string) => string;
  readonly isOrganization: (text: string) => boolean;
  readonly isIdentity: (text: string) => boolean;
  readonly warn: (message: string) => void;
}

const JWT = /^[\w-]+\.[\w-]+\.[\w-]*$/;
const MAX_ORGANIZATIONS = 100;

/** Tokens (JWT, RFC 7519) of OpenID providers that the configuration names. */
export class Tokens implements Scheme {
  readonly #issuers: ReadonlyMap<string, { readonly issuer: Issuer; readonly settings: TokenIssuer }>;
  readonly #parts: TokenParts;

  constructor(issuers: readonly TokenIssuer[], parts: TokenParts) {
    this.#parts = parts;
    this.#issuers = new Map(
      issuers.map((settings) => [settings.issuer, { settings, issuer: new Issuer(settings, parts.warn) }]),
    );
  }

  recognizes(token: string): boolean {
    return this.#issuers.size > 0 && JWT.test(token);
  }

  async verify(token: string): Promise<Session | 'expired' | undefined> {
    const known = this.#issuers.get(issuerIn(token));
    const claims = await known?.issuer.verify(token);
    if (!known || typeof claims !== 'object') return claims === 'expired' ? claims : undefined;
    return await this.#open(known.settings, claims);
  }

  async #open(settings: TokenIssuer, claims: JWTPayload): Promise<Session | undefined> {
    const subject = valueAt(claims, settings.claims.actor);
    const actor = `${settings.name}:${subject}`;
    if (typeof subject !== 'string' || !this.#parts.isIdentity(actor)) {
      this.#parts.warn(`auth.oidc "${settings.name}": the claim "${settings.claims.actor}" is no opaque identity`);
      return undefined;
    }
    const until = ((claims.exp ?? 0) + settings.leewaySeconds) * 1_000;
    if (Date.now() >= until) return undefined;
    const seen: [string, KnownAccess][] = [];
    const principal = listOf(valueAt(claims, settings.claims.roles)).some((role) =>
      settings.installationAdmins.includes(role),
    )
      ? installationAdmin(actor, actor)
      : memberOf(actor, actor, await this.#permissions(settings, claims, actor, seen));
    return {
      principal,
      isCurrent: () =>
        Date.now() < until && seen.every(([streamId, known]) => this.#parts.accesses.peek(streamId) === known),
      renew: () => this.#open(settings, claims),
    };
  }

  async #permissions(
    settings: TokenIssuer,
    claims: JWTPayload,
    actor: string,
    seen: [string, KnownAccess][],
  ): Promise<Map<string, Set<Permission>>> {
    const permissions = new Map<string, Set<Permission>>();
    for (const [organizationId, roles] of rolesByOrganization(settings, claims)) {
      if (!this.#parts.isOrganization(organizationId)) continue;
      const streamId = this.#parts.streamOf(organizationId);
      const known = await this.#parts.accesses.find(streamId);
      seen.push([streamId, known]);
      const assigned = known.state.assignments.get(actor) ?? [];
      permissions.set(organizationId, this.#parts.rules.permissionsOf(known.state, [...roles, ...assigned]));
    }
    return permissions;
  }
}

function rolesByOrganization(settings: TokenIssuer, claims: JWTPayload): [string, readonly string[]][] {
  const ours = (theirs: readonly string[]) =>
    Object.keys(settings.roles).length === 0
      ? theirs
      : theirs.flatMap((role) => (Object.hasOwn(settings.roles, role) ? (settings.roles[role] ?? []) : []));
  const everywhere = ours(listOf(valueAt(claims, settings.claims.roles)));
  if (settings.organization !== undefined) return [[settings.organization, everywhere]];
  const claimed = valueAt(claims, settings.claims.organizations);
  const named: [string, readonly string[]][] = isObject(claimed)
    ? Object.entries(claimed).map(([id, roles]) => [id, [...everywhere, ...ours(listOf(roles))]])
    : listOf(claimed).map((id) => [id, everywhere]);
  return named.slice(0, MAX_ORGANIZATIONS);
}

function issuerIn(token: string): string {
  try {
    return decodeJwt(token).iss ?? '';
  } catch {
    return '';
  }
}

/** A claim of exactly this name, or what a path with dots leads to. */
function valueAt(claims: unknown, name: string): unknown {
  if (!isObject(claims)) return undefined;
  if (Object.hasOwn(claims, name)) return claims[name];
  const dot = name.indexOf('.');
  return dot < 0 || !Object.hasOwn(claims, name.slice(0, dot))
    ? undefined
    : valueAt(claims[name.slice(0, dot)], name.slice(dot + 1));
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const listOf = (value: unknown): readonly string[] =>
  typeof value === 'string' ? value.split(' ').filter(Boolean) : Array.isArray(value) ? value.filter(isText) : [];

const isText = (value: unknown): value is string => typeof value === 'string';
