import type { RequestDeliveryInput } from '../commands/delivery-input.js';
import type { Requester } from '../commands/intake.js';
import { mayAccess, type Organizations } from '../domain/vocabulary.js';
import type { AccessLog } from '../security/access-log.js';
import type { Authenticator, Principal } from '../security/principal.js';
import { ApiError, badInput } from './errors.js';

/** What every resolver knows of the call it serves. */
export interface RequestContext {
  readonly principal: Principal;
  readonly accessLog: AccessLog;
  /** The caller's address. */
  readonly ip?: string;
  readonly traceparent?: string;
}

interface HttpRequest {
  readonly ip: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}
/** What a graphql-transport-ws client sends with connection_init; browsers cannot set headers on a socket. */
interface SocketInit {
  readonly payload?: { readonly authorization?: unknown; readonly Authorization?: unknown };
}

const TRACEPARENT = /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** Makes the context of HTTP requests and of subscription sockets, and turns strangers away. */
export function authenticated(authenticator: Authenticator, accessLog: AccessLog) {
  const authenticate = (authorization: string | undefined, ip: string): Principal | undefined => {
    const principal = authenticator.authenticate(authorization);
    if (!principal) accessLog.record({ action: 'authenticate', outcome: 'denied', reason: 'credentials', ip });
    return principal;
  };
  return {
    http: async ({ headers, ip }: HttpRequest): Promise<Partial<RequestContext>> => {
      const { authorization, traceparent } = headers;
      const principal = authenticate(single(authorization), ip);
      const trace = single(traceparent);
      return {
        ...(principal && { principal }),
        accessLog,
        ip,
        ...(trace !== undefined && TRACEPARENT.test(trace) && { traceparent: trace }),
      };
    },
    /** Before anything is parsed: strangers learn nothing of the schema. */
    guard: async (_schema: unknown, _source: unknown, context: unknown): Promise<void> => {
      if (!(context as Partial<RequestContext>).principal)
        throw new ApiError('UNAUTHENTICATED', 'send `authorization: Bearer <key>` with a key that is valid here');
    },
    socket: ({ payload }: SocketInit): RequestContext | false => {
      const authorization = payload?.authorization ?? payload?.Authorization;
      const principal = authenticate(typeof authorization === 'string' ? authorization : undefined, '');
      return principal ? { principal, accessLog } : false;
    },
  };
}

const single = (header: string | string[] | undefined): string | undefined =>
  Array.isArray(header) ? header[0] : header;

const ORGANIZATION = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;

/** The organization a write is for: the credentials' own, or the one named by credentials that span several. */
export function organizationFor(context: RequestContext, named: string | null | undefined, path: string): string {
  const { organizations } = context.principal;
  const only = organizations !== 'all' && organizations.length === 1 ? organizations[0] : undefined;
  const organizationId = named ?? only;
  if (organizationId === undefined)
    throw badInput([{ path, problem: 'is required with credentials that span organizations' }]);
  if (!ORGANIZATION.test(organizationId))
    throw badInput([{ path, problem: 'must have 1 to 100 letters, digits, dots, dashes or underscores' }]);
  // Of one that does not exist the same is said.
  if (!accessOf(context)(organizationId))
    throw new ApiError('FORBIDDEN', 'these credentials do not reach that organization');
  return organizationId;
}

/** The organizations a read covers: all of the credentials', or the one named if it is among them. */
export function scopeOf({ principal }: RequestContext, named: string | null | undefined): Organizations {
  if (!named) return principal.organizations;
  return mayAccess(principal.organizations, named) ? [named] : [];
}

export const requesterFor = (context: RequestContext, organizationId: string): Requester => ({
  actor: context.principal.actor,
  organizationId,
  ...(context.traceparent !== undefined && { traceparent: context.traceparent }),
});

export const requestFor = (context: RequestContext, input: RequestDeliveryInput, path: string) => ({
  input,
  requester: requesterFor(context, organizationFor(context, input.organizationId, path)),
});

/** Says whether the caller reaches an organization, and tells the access log when they do not. */
export const accessOf =
  ({ principal, accessLog, ip }: RequestContext) =>
  (organizationId: string): boolean => {
    if (mayAccess(principal.organizations, organizationId)) return true;
    const { actor } = principal;
    const address = ip !== undefined && { ip };
    accessLog.record({ actor, action: 'reach', outcome: 'denied', organizationId, reason: 'tenant', ...address });
    return false;
  };
