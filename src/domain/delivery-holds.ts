import type { DeliveryCommand, Existing, Result } from './delivery-commands.js';
import { record, reject } from './rejection.js';
import type { Instant } from './vocabulary.js';

export function reachSchedule(now: Instant, state: Existing): Result {
  if (state.tag !== 'held' || state.holds.schedule === undefined || now < state.holds.schedule) return record();
  return record({ type: 'ScheduleReached', at: now, data: {} });
}

export function resolveDependency(
  { now, deliveryId, failure }: Extract<DeliveryCommand, { type: 'ResolveDependency' }>,
  state: Existing,
): Result {
  if (state.tag !== 'held' || !state.holds.dependencies.includes(deliveryId)) return record();
  if (failure) return record({ type: 'DependencyFailed', at: now, data: { deliveryId, failure } });
  return record({ type: 'DependencySatisfied', at: now, data: { deliveryId } });
}

const noDecisionOpen = () => reject('CONFLICT', 'this delivery does not wait for an approval');

export function approve(
  { now, approver, comment }: Extract<DeliveryCommand, { type: 'Approve' }>,
  state: Existing,
): Result {
  const approval = state.tag === 'held' ? state.holds.approval : undefined;
  if (!approval) return noDecisionOpen();
  if (!approval.approvers.includes(approver)) return notAnApprover();
  if (approval.approvedBy.includes(approver)) return record();
  return record({
    type: 'ApprovalGranted',
    at: now,
    data: { approver, ...(comment !== undefined && { comment }) },
  });
}

export function rejectApproval(
  { now, approver, reason }: Extract<DeliveryCommand, { type: 'Reject' }>,
  state: Existing,
): Result {
  const approval = state.tag === 'held' ? state.holds.approval : undefined;
  if (!approval) return noDecisionOpen();
  if (!approval.approvers.includes(approver)) return notAnApprover();
  return record({ type: 'ApprovalRejected', at: now, data: { approver, reason } });
}

const notAnApprover = () => reject('FORBIDDEN', 'only a named approver can decide this');

export function timeOutApproval(now: Instant, state: Existing): Result {
  const deadline = state.tag === 'held' ? state.holds.approval?.deadline : undefined;
  if (deadline === undefined || now < deadline) return record();
  return record({ type: 'ApprovalTimedOut', at: now, data: {} });
}
