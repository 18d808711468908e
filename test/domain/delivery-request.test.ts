import { describe, expect, it } from 'vitest';
import type { DeliveryCommand } from '../../src/domain/delivery-commands.js';
import type { DeliveryRequested } from '../../src/domain/delivery-events.js';
import { deliveryStatus } from '../../src/domain/delivery-status.js';
import {
  at,
  byWebhook,
  DELIVERY,
  existing,
  given,
  leg,
  OTHER_DELIVERY,
  requested,
  succeeded,
  webhook,
} from '../support/deliveries.js';

const request = (data: Partial<DeliveryRequested['data']> = {}, now = at(0)): DeliveryCommand => ({
  type: 'RequestDelivery',
  id: DELIVERY,
  now,
  request: requested(data).data,
});

describe('a request', () => {
  it('is recorded as it was made', () => {
    const full = { tags: ['q1'], scheduledAt: at(60), expiresAt: at(120), slaSeconds: 300, metadata: { ward: 7 } };
    given().when(request(full)).then(requested(full));
  });

  it.each([
    ['nothing to wait for', {}, 'QUEUED'],
    ['a time', { scheduledAt: at(60) }, 'HELD'],
    ['another delivery', { dependsOn: [OTHER_DELIVERY] }, 'HELD'],
    ['an approval', { approval: { approvers: ['ada'], minimum: 1 } }, 'HELD'],
  ])('with %s is %3$s', (_, data, status) => {
    expect(deliveryStatus(existing(given().when(request(data)).state))).toBe(status);
  });

  it.each<[string, Partial<DeliveryRequested['data']>, string[]]>([
    ['a schedule in the past', { scheduledAt: at(-1) }, ['scheduledAt']],
    ['an expiry in the past', { expiresAt: at(-1) }, ['expiresAt']],
    ['an expiry at this moment', { expiresAt: at(0) }, ['expiresAt']],
    ['an expiry before its schedule', { scheduledAt: at(60), expiresAt: at(30) }, ['expiresAt']],
    ['an expiry at the time of its schedule', { scheduledAt: at(60), expiresAt: at(60) }, ['expiresAt']],
    ['a dependency on itself', { dependsOn: [OTHER_DELIVERY, DELIVERY] }, ['dependsOn.1']],
    ['more approvals than approvers', { approval: { approvers: ['ada'], minimum: 2 } }, ['approval.minimum']],
    ['two problems', { scheduledAt: at(-2), dependsOn: [DELIVERY] }, ['scheduledAt', 'dependsOn.0']],
  ])('with %s is refused', (_, data, paths) => {
    given()
      .when(request(data))
      .thenRejected('BAD_USER_INPUT', ...paths);
  });

  it('may be scheduled for this very moment', () => {
    given()
      .when(request({ scheduledAt: at(0) }))
      .then(requested({ scheduledAt: at(0) }));
  });
});

describe('a repeated request', () => {
  const first = requested({ idempotencyKey: 'invoice-7', fingerprint: 'of-the-first', scheduledAt: at(60) });

  it('with the same content changes nothing, also after the delivery has arrived and its times have passed', () => {
    given(first).when(request(first.data)).thenNothing();
    given(first, { type: 'ScheduleReached', at: at(60), data: {} }, succeeded(byWebhook(1)))
      .when(request(first.data, at(3_600)))
      .thenNothing();
  });

  it('with other content is a conflict about the key', () => {
    given(first)
      .when(request({ ...first.data, fingerprint: 'of-another' }))
      .thenRejected('IDEMPOTENCY_CONFLICT', 'idempotencyKey');
  });
});

describe('a delivery that was never requested', () => {
  it.each<DeliveryCommand>([
    { type: 'ReachSchedule', now: at(0) },
    { type: 'ResolveDependency', now: at(0), deliveryId: OTHER_DELIVERY },
    { type: 'Approve', now: at(0), approver: 'ada' },
    { type: 'Reject', now: at(0), approver: 'ada', reason: 'no' },
    { type: 'TimeOutApproval', now: at(0) },
    { type: 'StartAttempt', now: at(0), leg: 1, provider: 'webhook' },
    { type: 'DeclareInDoubt', now: at(0), leg: 1, resolution: 'hold' },
    { type: 'Expire', now: at(0) },
    { type: 'Cancel', now: at(0), by: 'ada' },
    { type: 'Retry', now: at(0), by: 'ada' },
  ])('refuses $type', (command) => {
    given().when(command).thenRejected('NOT_FOUND');
  });

  it('cannot have a history', () => {
    expect(() => given(succeeded(byWebhook(1)))).toThrow('never requested');
  });
});

it('a delivery to nobody else than its legs: an unknown leg is a broken invariant', () => {
  const { when } = given(requested({ legs: [leg(1, webhook)] }));
  expect(() => when({ type: 'StartAttempt', now: at(0), leg: 2, provider: 'webhook' })).toThrow('no leg 2');
});
