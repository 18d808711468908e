import { describe, expect, it } from 'vitest';
import type { DeliveryCommand } from '../../src/domain/delivery-commands.js';
import type { DeliveryEvent } from '../../src/domain/delivery-events.js';
import { deliveryStatus, holdsOf } from '../../src/domain/delivery-status.js';
import { at, cancelledBy, existing, failure, given, OTHER_DELIVERY, requested } from '../support/deliveries.js';

const THIRD_DELIVERY = 'd0000000-0000-4000-8000-000000000003';
const tooLate = failure('PERMANENT', 'DEPENDENCY_FAILED');

const reachSchedule = (now: string): DeliveryCommand => ({ type: 'ReachSchedule', now });
const resolve = (deliveryId: string, why?: typeof tooLate): DeliveryCommand => ({
  type: 'ResolveDependency',
  now: at(5),
  deliveryId,
  ...(why && { failure: why }),
});
const approve = (approver: string): DeliveryCommand => ({ type: 'Approve', now: at(5), approver });
const object = (approver: string): DeliveryCommand => ({ type: 'Reject', now: at(6), approver, reason: 'wrong year' });
const timeOut = (now: string): DeliveryCommand => ({ type: 'TimeOutApproval', now });

const scheduleReached: DeliveryEvent = { type: 'ScheduleReached', at: at(60), data: {} };
const satisfied = (deliveryId: string): DeliveryEvent => ({
  type: 'DependencySatisfied',
  at: at(5),
  data: { deliveryId },
});
const granted = (approver: string): DeliveryEvent => ({ type: 'ApprovalGranted', at: at(5), data: { approver } });
const objected: DeliveryEvent = {
  type: 'ApprovalRejected',
  at: at(6),
  data: { approver: 'bob', reason: 'wrong year' },
};
const timedOut: DeliveryEvent = { type: 'ApprovalTimedOut', at: at(300), data: {} };

const reasons = (...history: DeliveryEvent[]) => holdsOf(existing(given(...history).state)).map(({ reason }) => reason);
const status = (...history: DeliveryEvent[]) => deliveryStatus(existing(given(...history).state));

describe('a delivery scheduled for 12:01', () => {
  const scheduled = requested({ scheduledAt: at(60) });

  it('is released at its time, not before', () => {
    given(scheduled)
      .when(reachSchedule(at(59.999)))
      .thenNothing();
    given(scheduled)
      .when(reachSchedule(at(60)))
      .then(scheduleReached);
    expect(status(scheduled, scheduleReached)).toBe('QUEUED');
  });

  it('is released once', () => {
    given(scheduled, scheduleReached)
      .when(reachSchedule(at(61)))
      .thenNothing();
    given(scheduled, cancelledBy('ada'))
      .when(reachSchedule(at(61)))
      .thenNothing();
  });
});

describe('a delivery that waits for two others', () => {
  const waiting = requested({ dependsOn: [OTHER_DELIVERY, THIRD_DELIVERY] });

  it('is released when both have arrived', () => {
    given(waiting).when(resolve(OTHER_DELIVERY)).then(satisfied(OTHER_DELIVERY));
    expect(status(waiting, satisfied(OTHER_DELIVERY))).toBe('HELD');
    expect(status(waiting, satisfied(OTHER_DELIVERY), satisfied(THIRD_DELIVERY))).toBe('QUEUED');
  });

  it('does not hear of the same arrival twice, nor of deliveries it does not wait for', () => {
    given(waiting, satisfied(OTHER_DELIVERY)).when(resolve(OTHER_DELIVERY)).thenNothing();
    given(waiting, satisfied(OTHER_DELIVERY)).when(resolve(OTHER_DELIVERY, tooLate)).thenNothing();
    given(requested({ dependsOn: [THIRD_DELIVERY] }))
      .when(resolve(OTHER_DELIVERY))
      .thenNothing();
  });

  it('fails with one that can never arrive', () => {
    const verdict = given(waiting).when(resolve(THIRD_DELIVERY, tooLate));
    verdict.then({ type: 'DependencyFailed', at: at(5), data: { deliveryId: THIRD_DELIVERY, failure: tooLate } });
    expect(deliveryStatus(existing(verdict.state))).toBe('FAILED');
    expect(existing(verdict.state).legs[0]?.failure).toEqual(tooLate);
  });
});

describe('a delivery that two of Ada, Bob and Cy must approve by 12:05', () => {
  const approval = { approvers: ['ada', 'bob', 'cy'], minimum: 2, deadline: at(300) };
  const awaiting = requested({ approval });

  it('is released by the second approval', () => {
    given(awaiting).when(approve('ada')).then(granted('ada'));
    expect(status(awaiting, granted('ada'))).toBe('HELD');
    given(awaiting, granted('ada')).when(approve('bob')).then(granted('bob'));
    expect(status(awaiting, granted('ada'), granted('bob'))).toBe('QUEUED');
  });

  it('keeps what an approver remarks', () => {
    given(awaiting)
      .when({ type: 'Approve', now: at(5), approver: 'ada', comment: 'looks right' })
      .then({ type: 'ApprovalGranted', at: at(5), data: { approver: 'ada', comment: 'looks right' } });
  });

  it('does not count one approver twice', () => {
    given(awaiting, granted('ada')).when(approve('ada')).thenNothing();
  });

  it('lets nobody else decide', () => {
    given(awaiting).when(approve('mallory')).thenRejected('FORBIDDEN');
    given(awaiting).when(object('mallory')).thenRejected('FORBIDDEN');
  });

  it('is rejected by one of them, whoever approved before', () => {
    given(awaiting, granted('ada')).when(object('bob')).then(objected);
    expect(status(awaiting, granted('ada'), objected)).toBe('REJECTED');
  });

  it('is rejected when time is up, not before', () => {
    given(awaiting)
      .when(timeOut(at(299.999)))
      .thenNothing();
    given(awaiting)
      .when(timeOut(at(300)))
      .then(timedOut);
    expect(status(awaiting, timedOut)).toBe('REJECTED');
  });

  it('never times out without a deadline', () => {
    given(requested({ approval: { approvers: ['ada'], minimum: 1 } }))
      .when(timeOut(at(1e9)))
      .thenNothing();
  });

  describe('of two decisions at once, the first counts', () => {
    const approved = [awaiting, granted('ada'), granted('cy')];
    it.each<[string, DeliveryEvent[]]>([
      ['approval', approved],
      ['rejection', [awaiting, objected]],
      ['timeout', [awaiting, timedOut]],
      ['cancellation', [awaiting, cancelledBy('dee')]],
    ])('after the %s', (_, history) => {
      given(...history)
        .when(approve('bob'))
        .thenRejected('CONFLICT');
      given(...history)
        .when(object('bob'))
        .thenRejected('CONFLICT');
      given(...history)
        .when(timeOut(at(300)))
        .thenNothing();
    });
  });
});

describe('a delivery with every kind of hold', () => {
  const all = requested({
    scheduledAt: at(60),
    dependsOn: [OTHER_DELIVERY],
    approval: { approvers: ['ada'], minimum: 1, deadline: at(300) },
  });

  it('tells all of them, and is released by the last to go', () => {
    expect(reasons(all)).toEqual(['schedule', 'dependency', 'approval']);
    expect(reasons(all, granted('ada'))).toEqual(['schedule', 'dependency']);
    expect(reasons(all, granted('ada'), scheduleReached)).toEqual(['dependency']);
    expect(status(all, granted('ada'), scheduleReached)).toBe('HELD');
    expect(status(all, granted('ada'), scheduleReached, satisfied(OTHER_DELIVERY))).toBe('QUEUED');
  });

  it('says until when and whom it waits for', () => {
    expect(holdsOf(existing(given(all).state))).toEqual([
      { reason: 'schedule', until: at(60) },
      { reason: 'dependency', detail: { deliveryId: OTHER_DELIVERY } },
      { reason: 'approval', until: at(300), detail: { approvers: ['ada'], minimum: 1, approvedBy: [] } },
    ]);
  });

  it('makes no attempt while held', () => {
    given(all)
      .when({ type: 'StartAttempt', now: at(1), leg: 1, provider: 'webhook' })
      .thenRejected('CONFLICT');
  });

  it('still waits for its approval when a person retries it after a dependency has failed', () => {
    const failed = given(all).when(resolve(OTHER_DELIVERY, tooLate));
    const retried = given(all, ...failed.events).when({ type: 'Retry', now: at(70), by: 'dee' });
    expect(holdsOf(existing(retried.state)).map(({ reason }) => reason)).toContain('approval');
  });
});
