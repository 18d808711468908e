import type { RequestDeliveryInput } from '../commands/delivery-input.js';
import type { Requester } from '../commands/intake.js';
import { isOrganization, mayAccess, type Organizations } from '../domain/vocabulary.js';
import type { AccessLog } from '../security/access-log.js';
import type { Principal } from '../security/principal.js';
import { ApiError, badInput } from './errors.js';

/** What every resolver knows of the call it serves. */
export interface RequestContext {
  readonly principal: Principal;
  readonly accessLog: AccessLog;
  /** The caller's address. */
  readonly ip?: string;
  readonly traceparent?: string;
}

/** The organization a write is for: the credentials' own, or the one named by credentials that span several. */
export function organizationFor(context: RequestContext, named: string | null | undefined, path: string): string {
  const { organizations } = context.principal;
  const only = organizations !== 'all' && organizations.length === 1 ? organizations[0] : undefined;
  const organizationId = named ?? only;
  if (organizationId === undefined)
    throw badInput([{ path, problem: 'is required with credentials that span organizations' }]);
  if (!isOrganization(organizationId))
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
  isAdministrator: (id) => mayAccess(context.principal.grants.get('ADMIN') ?? [], id),
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
