import type { AccessLog } from '../security/access-log.js';
import type { Authenticator, Verdict } from '../security/authenticator.js';
import type { Principal } from '../security/principal.js';
import type { RateLimits } from '../security/rate-limits.js';
import { ApiError } from './errors.js';
import type { LiveSockets, Socket } from './live-sockets.js';
import type { RequestContext } from './request-context.js';

interface HttpRequest {
  readonly ip: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/** What a graphql-transport-ws client sends with connection_init; browsers cannot set headers on a socket. */
interface SocketInit {
  readonly payload?: { readonly authorization?: unknown; readonly Authorization?: unknown } | null;
}

/** Mercurius (16.10.1) calls `onConnect` as a method of this; nothing else tells it whose socket it is. */
interface Connection {
  readonly socket: Socket;
  readonly context: { readonly request: { readonly ip: string } };
}

type Context = Partial<RequestContext> & {
  readonly verdict?: Verdict;
  readonly reply?: { header(name: string, value: string | number): unknown };
};

const TRACEPARENT = /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;
/** graphql-transport-ws: the connection_init was refused. */
const FORBIDDEN = 4403;

/** Makes the context of HTTP requests and of subscription sockets, and turns strangers away. */
export class Authentication {
  readonly #authenticator: Authenticator;
  readonly #accessLog: AccessLog;
  readonly #sockets: LiveSockets;
  readonly #rates: RateLimits;

  constructor(authenticator: Authenticator, accessLog: AccessLog, sockets: LiveSockets, rates: RateLimits) {
    this.#rates = rates;
    this.#authenticator = authenticator;
    this.#accessLog = accessLog;
    this.#sockets = sockets;
  }

  readonly http = async ({ headers, ip }: HttpRequest): Promise<Context> => {
    const verdict = await this.#judged(single(headers.authorization), ip);
    const trace = single(headers.traceparent);
    return {
      verdict,
      ...(verdict.ok && { principal: verdict.session.principal }),
      accessLog: this.#accessLog,
      ip,
      ...(trace !== undefined && TRACEPARENT.test(trace) && { traceparent: trace }),
    };
  };

  /** Before anything is parsed: strangers learn nothing of the schema. */
  readonly guard = async (_schema: unknown, _source: unknown, context: unknown): Promise<void> => {
    const { verdict, reply } = context as Context;
    if (verdict?.ok) return this.#count(verdict.session.principal, context as Context);
    if (verdict?.reason === 'blocked') {
      reply?.header('retry-after', verdict.retryAfterSeconds);
      const message = 'too many wrong credentials came from this address; wait';
      throw new ApiError('RATE_LIMITED', message, undefined, verdict.retryAfterSeconds);
    }
    if (verdict?.reason === 'unavailable')
      throw new ApiError('UNAVAILABLE', 'these credentials cannot be checked now; try again');
    throw new ApiError(
      'UNAUTHENTICATED',
      verdict?.reason === 'expired'
        ? 'the token has expired: send a new one'
        : 'send `authorization: Bearer <key or token>` that is valid here',
    );
  };

  get connect(): (init: SocketInit) => Promise<object | false> {
    const self = this;
    return async function (this: Connection, { payload }: SocketInit) {
      const { ip } = this.context.request;
      const given = payload?.authorization ?? payload?.Authorization;
      const verdict = await self.#judged(typeof given === 'string' ? given : undefined, ip);
      if (verdict.ok && self.#sockets.add(this.socket, verdict.session))
        return { verdict, principal: verdict.session.principal, accessLog: self.#accessLog, ip };
      this.socket.close(FORBIDDEN, verdict.ok ? 'too many credentials' : 'UNAUTHENTICATED');
      return false;
    };
  }

  /**
   * Header fields of draft-ietf-httpapi-ratelimit-headers-06, the last with one field for each figure, which is what
   * clients read today; Retry-After is RFC 9110. Administrators of the installation are not counted.
   */
  #count(principal: Principal, { reply, ip }: Context): void {
    if (principal.isInstallationAdmin) return;
    const { limit, remaining, resetSeconds, isExceeded } = this.#rates.take(principal.credential);
    reply?.header('ratelimit-limit', limit);
    reply?.header('ratelimit-policy', `${limit};w=60`);
    reply?.header('ratelimit-remaining', remaining);
    reply?.header('ratelimit-reset', resetSeconds);
    if (!isExceeded) return;
    reply?.header('retry-after', resetSeconds);
    const address = ip !== undefined && { ip };
    this.#accessLog.record({
      actor: principal.actor,
      action: 'request',
      outcome: 'denied',
      reason: 'rate',
      ...address,
    });
    const message = `these credentials may make ${limit} requests a minute`;
    throw new ApiError('RATE_LIMITED', message, undefined, resetSeconds);
  }

  async #judged(authorization: string | undefined, ip: string): Promise<Verdict> {
    const verdict = await this.#authenticator.authenticate(authorization, ip);
    if (!verdict.ok) this.#accessLog.record({ action: 'authenticate', outcome: 'denied', reason: verdict.reason, ip });
    return verdict;
  }
}

const single = (header: string | string[] | undefined): string | undefined =>
  Array.isArray(header) ? header[0] : header;
