import type { Permission } from '../domain/vocabulary.js';

/**
 * Which permission each operation of the API asks for (the permissions and roles are in src/domain/vocabulary.ts). Checked in one
 * place, `guardOperations` (src/graphql/access-guard.ts), which refuses to start with an operation that has no row here.
 */

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
  'Query.attempts': sensitive('VIEW_DELIVERY'),
  'Query.attemptsInDoubt': sensitive('VIEW_DELIVERY'),
  'Query.suspendedDeliveries': sensitive('installation'),
  'Query.destination': needs('VIEW_DELIVERY'),
  'Query.destinations': needs('VIEW_DELIVERY'),
  // Attempts name their providers, so whoever sees attempts may know how those are.
  'Query.providerHealth': needs('VIEW_DELIVERY'),
  'Query.dashboard': needs('VIEW_ANALYTICS'),
  'Query.statusWebhooks': needs('VIEW_DELIVERY'),
  'Query.engagement': needs('VIEW_ANALYTICS'),
  'Query.complianceReport': sensitive('VIEW_AUDIT'),
  'Query.suppressions': sensitive('VIEW_DELIVERY'),
  'Query.legs': needs('VIEW_DELIVERY'),
  'Query.deadLetters': needs('VIEW_DELIVERY'),
  'Query.slaLegs': needs('VIEW_ANALYTICS'),
  'Query.sla': needs('VIEW_ANALYTICS'),
  'Query.providerPerformance': needs('VIEW_ANALYTICS'),
  'Query.deliveryPerformance': needs('VIEW_ANALYTICS'),
  'Query.projections': needs('installation'),
  'Query.parkedEvents': needs('installation'),
  'Query.apiKeys': sensitive('VIEW_AUDIT'),
  'Query.roles': needs('VIEW_AUDIT'),
  'Query.roleAssignments': sensitive('VIEW_AUDIT'),
  'Query.me': needs('authenticated'),
  // What they answer is about everybody's entries, and tells nothing of any.
  'Query.auditCheckpoint': needs('VIEW_AUDIT'),
  'Query.verifyAudit': needs('VIEW_AUDIT'),
  'Query.auditProof': needs('VIEW_AUDIT'),
  'Query.auditTrail': sensitive('VIEW_AUDIT'),
  // Everybody's entries, as they are recorded.
  'Query.auditBundle': sensitive('installation'),
  'Query.subjectReport': sensitive('VIEW_AUDIT'),
  'Query.retention': needs('VIEW_AUDIT'),
  'Query.disposals': needs('VIEW_AUDIT'),

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
  'Mutation.createApiKey': sensitive('ADMIN'),
  'Mutation.rotateApiKey': sensitive('ADMIN'),
  'Mutation.revokeApiKey': sensitive('ADMIN'),
  'Mutation.defineRole': sensitive('ADMIN'),
  'Mutation.removeRole': sensitive('ADMIN'),
  'Mutation.assignRoles': sensitive('ADMIN'),
  'Mutation.eraseSubject': sensitive('ADMIN'),
  'Mutation.placeLegalHold': sensitive('ADMIN'),
  'Mutation.releaseLegalHold': sensitive('ADMIN'),
  'Mutation.setRetention': sensitive('ADMIN'),
  'Mutation.disposeExpired': sensitive('ADMIN'),
  'Mutation.resumeDelivery': sensitive('installation'),
  'Mutation.skipSuspendedEvent': sensitive('installation'),
  // Whoever may choose where deliveries go may also choose where news of them go.
  'Mutation.createStatusWebhook': needs('MANAGE_PROVIDERS'),
  'Mutation.deleteStatusWebhook': needs('MANAGE_PROVIDERS'),
  'Mutation.suppressAddress': needs('MODIFY_DELIVERY'),
  'Mutation.releaseAddress': sensitive('MODIFY_DELIVERY'),
  'Mutation.rebuildProjection': sensitive('installation'),
  'Mutation.rebuildProjections': sensitive('installation'),
  'Mutation.verifyProjection': sensitive('installation'),
  'Mutation.rollbackProjection': sensitive('installation'),
  'Mutation.cancelRebuild': sensitive('installation'),
  'Mutation.makeAuditCheckpoint': needs('installation'),
  'Mutation.retryParked': sensitive('installation'),
  'Mutation.skipParked': sensitive('installation'),

  // One's own inbox, which the credentials name.
  'Query.inbox': needs('authenticated'),
  'Mutation.markInboxRead': needs('authenticated'),
  'Mutation.markInboxUnread': needs('authenticated'),
  'Subscription.inboxChanged': needs('authenticated'),
  // Whoever has the link has the file.
  'Query.downloads': sensitive('VIEW_DELIVERY'),
  'Query.inboxPresence': needs('VIEW_DELIVERY'),
  // VIEW_DELIVERY as well: that is checked where it is made.
  'Mutation.createInboxToken': sensitive('CREATE_DELIVERY'),

  'Subscription.deliveryUpdated': sensitive('VIEW_DELIVERY'),
  'Subscription.projectionProgress': needs('installation'),
};
