import { createRemoteJWKSet, errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose';

/** Signatures by the issuer's private key. Those by a shared secret (HS…) are not among them, nor is `none`. */
export const ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
] as const;

export interface IssuerSettings {
  /** Begins the actor of everybody it vouches for: `<name>:<subject>`. */
  readonly name: string;
  /** As it stands in `iss`. */
  readonly issuer: string;
  /** One of them must stand in `aud`. */
  readonly audience: readonly string[];
  readonly algorithms: readonly (typeof ALGORITHMS)[number][];
  /** How far its clock and ours may be apart. */
  readonly leewaySeconds: number;
  /** Default: as its discovery document says. */
  readonly jwksUri?: string | undefined;
  /** Default 10,000: how soon its keys may be read again for a key that is not among them. */
  readonly keysCooldownMs?: number;
}

/** The issuer's keys cannot be had: nothing is known of the token. */
export class IssuerUnavailable extends Error {
  override name = 'IssuerUnavailable';
}

const TIMEOUT_MS = 5_000;
/** Keys are read again after this time, … */
const KEYS_MAX_AGE_MS = 10 * 60_000;
/** … at once for a key that is not among them (rotation), but no more often than this, whatever tokens are sent. */
const KEYS_COOLDOWN_MS = 10_000;
const DISCOVERY_RETRY_MS = 5_000;

/**
 * One OpenID provider: its keys are found by its discovery document (OpenID Connect Discovery 1.0, section 4), cached and
 * renewed (RFC 7517), and its tokens verified by them (RFC 7519, with the advice of RFC 8725).
 */
export class Issuer {
  readonly settings: IssuerSettings;
  readonly #warn: (message: string) => void;
  #keys: Promise<JWTVerifyGetKey> | undefined;
  #retryAt = 0;

  constructor(settings: IssuerSettings, warn: (message: string) => void) {
    this.settings = settings;
    this.#warn = warn;
  }

  /**
   * @returns its claims, `expired`, or undefined for a token that is not good
   * @throws IssuerUnavailable
   */
  async verify(token: string): Promise<JWTPayload | 'expired' | undefined> {
    const { issuer, audience, algorithms, leewaySeconds } = this.settings;
    const keys = await this.#found();
    try {
      const options = { issuer, audience: [...audience], algorithms: [...algorithms], clockTolerance: leewaySeconds };
      return (await jwtVerify(token, keys, { ...options, requiredClaims: ['exp'] })).payload;
    } catch (error) {
      if (error instanceof errors.JWTExpired) return 'expired';
      if (error instanceof errors.JOSEError && !(error instanceof errors.JWKSTimeout) && !isAnswer(error))
        return undefined;
      throw this.#unavailable((error as Error).message);
    }
  }

  async #found(): Promise<JWTVerifyGetKey> {
    if (!this.#keys) {
      if (Date.now() < this.#retryAt) throw new IssuerUnavailable(this.settings.name);
      this.#keys = this.#discover();
    }
    try {
      return await this.#keys;
    } catch (error) {
      this.#keys = undefined;
      throw this.#unavailable((error as Error).message);
    }
  }

  async #discover(): Promise<JWTVerifyGetKey> {
    const { issuer, jwksUri, keysCooldownMs = KEYS_COOLDOWN_MS } = this.settings;
    return createRemoteJWKSet(new URL(jwksUri ?? (await discoveredKeys(issuer))), {
      timeoutDuration: TIMEOUT_MS,
      cooldownDuration: keysCooldownMs,
      cacheMaxAge: KEYS_MAX_AGE_MS,
    });
  }

  #unavailable(reason: string): IssuerUnavailable {
    if (Date.now() >= this.#retryAt) {
      this.#retryAt = Date.now() + DISCOVERY_RETRY_MS;
      this.#warn(`auth.oidc "${this.settings.name}": ${reason}`);
    }
    return new IssuerUnavailable(this.settings.name);
  }
}

/** What jose says of a key server that answers, but not with keys. */
const isAnswer = ({ code }: errors.JOSEError): boolean => code === 'ERR_JOSE_GENERIC' || code === 'ERR_JWKS_INVALID';

async function discoveredKeys(issuer: string): Promise<string> {
  const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
  const response = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) throw new Error(`its discovery document cannot be read (HTTP ${response.status})`);
  const document = (await response.json()) as { issuer?: unknown; jwks_uri?: unknown };
  // Section 4.3: the document speaks for the issuer only when it names it exactly so.
  if (document.issuer !== issuer) throw new Error('its discovery document is that of another issuer');
  if (typeof document.jwks_uri !== 'string' || !URL.canParse(document.jwks_uri))
    throw new Error('its discovery document names no keys');
  const isSafe = new URL(document.jwks_uri).protocol === 'https:' || new URL(issuer).protocol === 'http:';
  if (!isSafe) throw new Error('its keys are not served over https');
  return document.jwks_uri;
}
