/**
 * Who may do what: permissions, the roles that group them, and what each operation of the API asks for. Checked in one
 * place, `guardOperations` (src/graphql/access-guard.ts), which refuses to start with an operation that has no row here.
 */

/**
 * Held per organization. The first seven are the product's own (seed 1, DeliveryPermissions). Two are ours: who decides
 * approvals must not thereby be able to retry or cancel, and who audits must see keys and roles without changing them.
 */
export const PERMISSIONS = [
  'CREATE_DELIVERY',
  'VIEW_DELIVERY',
  'MODIFY_DELIVERY',
  /** Deliveries are never deleted: this cancels them. */
  'DELETE_DELIVERY',
  'VIEW_ANALYTICS',
  /** Destinations, with their secrets and limits. */
  'MANAGE_PROVIDERS',
  /** Keys, roles and everything else that belongs to the organization alone. */
  'ADMIN',
  'APPROVE_DELIVERY',
  'VIEW_AUDIT',
] as const;
export type Permission = (typeof PERMISSIONS)[number];

/** Roles that every organization has; its own are added to them, and cannot take their names. */
export const BUILT_IN_ROLES: Readonly<Record<string, readonly Permission[]>> = {
  sender: ['CREATE_DELIVERY', 'VIEW_DELIVERY'],
  operator: ['VIEW_DELIVERY', 'MODIFY_DELIVERY', 'DELETE_DELIVERY', 'VIEW_ANALYTICS', 'MANAGE_PROVIDERS'],
  analyst: ['VIEW_ANALYTICS'],
  approver: ['VIEW_DELIVERY', 'APPROVE_DELIVERY'],
  auditor: ['VIEW_DELIVERY', 'VIEW_ANALYTICS', 'VIEW_AUDIT'],
  admin: PERMISSIONS,
};

/**
 * What a caller needs: a permission in the organization concerned; `installation` for what concerns all organizations at
 * once (read models, the engine, the log); `authenticated` for what is about the caller alone.
 */
export interface Requirement {
  readonly needs: Permission | 'installation' | 'authenticated';
  /** Each use is told to the access log, also when it is granted. */
  readonly isSensitive?: true;
}

const needs = (permission: Requirement['needs']): Requirement => ({ needs: permission });
const sensitive = (permission: Requirement['needs']): Requirement => ({ needs: permission, isSensitive: true });

/** Every query, mutation and subscription of src/graphql/schema.graphql. */
export const OPERATIONS: Readonly<Record<string, Requirement>> = {
  'Query.delivery': sensitive('VIEW_DELIVERY'),
  'Query.deliveryAsOf': sensitive('VIEW_DELIVERY'),
  'Query.deliveries': sensitive('VIEW_DELIVERY'),
  'Query.attemptsInDoubt': sensitive('VIEW_DELIVERY'),
  'Query.suspendedDeliveries': sensitive('installation'),
  'Query.destination': needs('VIEW_DELIVERY'),
  'Query.destinations': needs('VIEW_DELIVERY'),
  // Attempts name their providers, so whoever sees attempts may know how those are.
  'Query.providerHealth': needs('VIEW_DELIVERY'),
  'Query.dashboard': needs('VIEW_ANALYTICS'),
  'Query.projections': needs('installation'),

  'Mutation.createDestination': needs('MANAGE_PROVIDERS'),
  'Mutation.updateDestination': needs('MANAGE_PROVIDERS'),
  'Mutation.deleteDestination': needs('MANAGE_PROVIDERS'),
  'Mutation.testDestination': sensitive('MANAGE_PROVIDERS'),
  'Mutation.enableDestination': needs('MANAGE_PROVIDERS'),
  'Mutation.disableDestination': needs('MANAGE_PROVIDERS'),
  'Mutation.rotateDestinationSecret': sensitive('MANAGE_PROVIDERS'),
  'Mutation.requestDelivery': needs('CREATE_DELIVERY'),
  'Mutation.requestDeliveries': needs('CREATE_DELIVERY'),
  // Only those whom the delivery names as approvers can decide it; that is checked where it is decided.
  'Mutation.approveDelivery': needs('APPROVE_DELIVERY'),
  'Mutation.rejectDelivery': needs('APPROVE_DELIVERY'),
  'Mutation.cancelDelivery': needs('DELETE_DELIVERY'),
  'Mutation.retryDelivery': needs('MODIFY_DELIVERY'),
  'Mutation.resolveAttempt': needs('MODIFY_DELIVERY'),
  'Mutation.resumeDelivery': sensitive('installation'),
  'Mutation.skipSuspendedEvent': sensitive('installation'),
  'Mutation.rebuildProjection': sensitive('installation'),

  'Subscription.deliveryUpdated': sensitive('VIEW_DELIVERY'),
  'Subscription.projectionProgress': needs('installation'),
};
