import type { RequestDeliveryInput } from '../commands/delivery-input.js';
import type { Requester } from '../commands/intake.js';
import { mayAccess, type Organizations, type Principal } from '../security/principal.js';
import { ApiError, badInput } from './errors.js';

/** What every resolver knows of the call it serves. */
export interface RequestContext {
  readonly principal: Principal;
  readonly traceparent?: string;
}

const ORGANIZATION = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;

/** The organization a write is for: the credentials' own, or the one named by credentials that span several. */
export function organizationFor({ principal }: RequestContext, named: string | null | undefined, path: string): string {
  const { organizations } = principal;
  const only = organizations !== 'all' && organizations.length === 1 ? organizations[0] : undefined;
  const organizationId = named ?? only;
  if (organizationId === undefined)
    throw badInput([{ path, problem: 'is required with credentials that span organizations' }]);
  if (!ORGANIZATION.test(organizationId))
    throw badInput([{ path, problem: 'must have 1 to 100 letters, digits, dots, dashes or underscores' }]);
  if (!mayAccess(organizations, organizationId))
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

export const accessOf =
  ({ principal }: RequestContext) =>
  (organizationId: string): boolean =>
    mayAccess(principal.organizations, organizationId);
