import {
  declareInDoubt,
  recordOutcome,
  recordReport,
  resolveAttempt,
  startAttempt,
  takeDetour,
} from './delivery-attempts.js';
import type { DeliveryCommand, Existing, Result } from './delivery-commands.js';
import type { DeliveryRequested } from './delivery-events.js';
import { approve, reachSchedule, rejectApproval, resolveDependency, timeOutApproval } from './delivery-holds.js';
import { absent, type DeliveryState, evolve, legIsOpen } from './delivery-state.js';
import { badInput, record, reject } from './rejection.js';
import { FORGOTTEN } from './retention.js';
import { type FieldProblem, type Instant } from './vocabulary.js';

export function decide(command: DeliveryCommand, state: DeliveryState): Result {
  if (command.type === 'RequestDelivery') return request(command, state);
  if (state.tag === 'absent') return reject('NOT_FOUND', 'there is no such delivery');
  switch (command.type) {
    case 'ReachSchedule':
      return reachSchedule(command.now, state);
    case 'ResolveDependency':
      return resolveDependency(command, state);
    case 'Approve':
      return approve(command, state);
    case 'Reject':
      return rejectApproval(command, state);
    case 'TimeOutApproval':
      return timeOutApproval(command.now, state);
    case 'StartAttempt':
      return startAttempt(command, state);
    case 'RecordOutcome':
      return recordOutcome(command, state);
    case 'TakeDetour':
      return takeDetour(command, state);
    case 'DeclareInDoubt':
      return declareInDoubt(command, state);
    case 'ResolveAttempt':
      return resolveAttempt(command, state);
    case 'RecordReport':
      return recordReport(command, state);
    case 'Expire':
      return expire(command.now, state);
    case 'Cancel':
      return cancel(command, state);
    case 'Retry':
      return retry(command, state);
  }
}

export const delivery = {
  category: 'delivery',
  initial: absent,
  decide,
  evolve,
  /** Who was erased gets no new key for what providers still have to say. */
  subject: (state: DeliveryState): string | undefined => {
    if (state.tag === 'absent') return undefined;
    return state.request.erased ? FORGOTTEN : state.request.subject;
  },
} as const;

/** Problems that depend on the clock or on the delivery's own identity; the shape was checked at intake. */
function timeProblems(id: string, request: DeliveryRequested['data'], now: Instant): FieldProblem[] {
  const problems: FieldProblem[] = [];
  const { scheduledAt, expiresAt, dependsOn = [], approval } = request;
  if (scheduledAt !== undefined && scheduledAt < now) problems.push({ path: 'scheduledAt', problem: 'is in the past' });
  if (expiresAt !== undefined && expiresAt <= now) problems.push({ path: 'expiresAt', problem: 'is in the past' });
  if (scheduledAt !== undefined && expiresAt !== undefined && expiresAt <= scheduledAt)
    problems.push({ path: 'expiresAt', problem: 'must be after scheduledAt' });
  for (const [index, dependency] of dependsOn.entries())
    if (dependency === id) problems.push({ path: `dependsOn.${index}`, problem: 'a delivery cannot depend on itself' });
  if (approval && approval.minimum > approval.approvers.length)
    problems.push({ path: 'approval.minimum', problem: 'is more than there are approvers' });
  return problems;
}

function request(command: Extract<DeliveryCommand, { type: 'RequestDelivery' }>, state: DeliveryState): Result {
  if (state.tag !== 'absent') return repeat(state, command.request.fingerprint);
  const problems = timeProblems(command.id, command.request, command.now);
  if (problems.length > 0) return badInput(problems);
  return record({ type: 'DeliveryRequested', at: command.now, data: command.request });
}

/** The key is known: the same request again changes nothing, another one is a mistake. */
export function repeat(state: Existing, fingerprint: string | undefined): Result {
  if (state.request.fingerprint === fingerprint) return record();
  const problem = 'was used before, for another request';
  return reject('IDEMPOTENCY_CONFLICT', `this idempotency key ${problem}`, [{ path: 'idempotencyKey', problem }]);
}

function expire(now: Instant, state: Existing): Result {
  const { expiresAt } = state.request;
  const isOpen = state.tag === 'held' || state.tag === 'active';
  if (!isOpen || expiresAt === undefined || now < expiresAt) return record();
  return record({ type: 'DeliveryExpired', at: now, data: {} });
}

function cancel({ now, by, reason }: Extract<DeliveryCommand, { type: 'Cancel' }>, state: Existing): Result {
  if (state.tag === 'ended' && state.as === 'CANCELLED') return record();
  if (state.tag !== 'held' && state.tag !== 'active')
    return reject('CONFLICT', 'this delivery has ended and can no longer be cancelled');
  return record({ type: 'DeliveryCancelled', at: now, data: { by, ...(reason !== undefined && { reason }) } });
}

const RETRIABLE: ReadonlySet<string> = new Set(['failed', 'bounced', 'doubtful']);

function retry({ now, by }: Extract<DeliveryCommand, { type: 'Retry' }>, state: Existing): Result {
  if (state.tag === 'ended' && state.as !== 'FAILED')
    return reject('CONFLICT', `this delivery is ${state.as.toLowerCase()} and cannot be retried; request it again`);
  if (state.request.erased) return reject('CONFLICT', 'the data of whoever this delivery was for was erased');
  if (state.tag === 'held') return reject('CONFLICT', 'this delivery is held and was not attempted yet');
  const legs = state.legs.filter(({ progress }) => RETRIABLE.has(progress.tag));
  const chosen = state.tag === 'ended' ? state.legs.filter(legIsOpen) : legs;
  if (chosen.length === 0) return reject('CONFLICT', 'no leg of this delivery has failed');
  const round = Math.max(...state.legs.map((leg) => leg.round)) + 1;
  return record({ type: 'DeliveryRetried', at: now, data: { legs: chosen.map((leg) => leg.leg), round, by } });
}
