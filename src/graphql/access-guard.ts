import type { GraphQLFieldResolver, GraphQLObjectType, GraphQLSchema } from 'graphql';
import { OPERATIONS, type Requirement } from '../security/permissions.js';
import { narrowedTo } from '../security/principal.js';
import { ApiError } from './errors.js';
import type { RequestContext } from './request-context.js';

type Resolve = GraphQLFieldResolver<unknown, RequestContext, Record<string, unknown>>;

/**
 * Puts a guard before every query, mutation and subscription: the one place where permissions are enforced. What it lets
 * through sees a principal that reaches only organizations in which the permission is held, so that the tenant scope of
 * everything below is that of the permission.
 *
 * @throws Error for an operation without a row in the table of permissions: nothing is served by oversight
 */
export function guardOperations(schema: GraphQLSchema): GraphQLSchema {
  for (const root of [schema.getQueryType(), schema.getMutationType(), schema.getSubscriptionType()])
    if (root) guardFields(root, root === schema.getSubscriptionType());
  return schema;
}

function guardFields(root: GraphQLObjectType, isSubscription: boolean): void {
  for (const field of Object.values(root.getFields())) {
    const operation = `${root.name}.${field.name}`;
    const requirement = OPERATIONS[operation];
    if (!requirement) throw new Error(`${operation} has no row in src/security/permissions.ts`);
    const inner = (isSubscription ? field.subscribe : field.resolve) as Resolve | undefined;
    if (!inner) throw new Error(`${operation} has no resolver`);
    field[isSubscription ? 'subscribe' : 'resolve'] = guarded(operation, requirement, inner) as never;
  }
}

function guarded(action: string, requirement: Requirement, inner: Resolve): Resolve {
  return (source, args, context, info) => {
    const principal = narrowedTo(context.principal, requirement);
    if (!principal || requirement.isSensitive) {
      const { organizationId, id } = args as { organizationId?: string; id?: string };
      context.accessLog.record({
        actor: context.principal.actor,
        action,
        outcome: principal ? 'granted' : 'denied',
        ...(typeof organizationId === 'string' && { organizationId }),
        ...(typeof id === 'string' && { resource: id }),
        ...(context.ip !== undefined && { ip: context.ip }),
        ...(!principal && { reason: 'permission' }),
      });
    }
    if (!principal) throw new ApiError('FORBIDDEN', refusal(requirement));
    // Only a caller with different permissions in different organizations is narrowed.
    return inner(source, args, principal === context.principal ? context : { ...context, principal }, info);
  };
}

const refusal = ({ needs }: Requirement): string =>
  needs === 'installation'
    ? 'only an administrator of the installation can do this'
    : `these credentials do not have the permission ${needs}`;
