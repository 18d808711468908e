import { describe, expect, it } from 'vitest';
import type { DeliveryEvent } from '../../src/domain/delivery-events.js';
import { deliveryStatus, holdsOf, isClosed, legStatus } from '../../src/domain/delivery-status.js';
import {
  at,
  byEmail,
  bySmtp,
  byWebhook,
  cancelledBy,
  deadLettered,
  existing,
  expired,
  failed,
  fellBack,
  given,
  gone,
  inDoubt,
  leg,
  OTHER_DELIVERY,
  requested,
  retriedBy,
  retryAt,
  started,
  succeeded,
  webhook,
  withFallback,
} from '../support/deliveries.js';

const two = requested({ legs: [leg(1, webhook), leg(2, webhook)] });
const second = { ...byWebhook(1), leg: 2 };
const rejected: DeliveryEvent = { type: 'ApprovalRejected', at: at(5), data: { approver: 'bob', reason: 'no' } };
const dependencyFailed: DeliveryEvent = {
  type: 'DependencyFailed',
  at: at(5),
  data: { deliveryId: OTHER_DELIVERY, failure: gone },
};
const lost = [failed(byWebhook(1), gone), deadLettered(gone)];
const secondLost = [failed(second, gone), deadLettered(gone, at(1), 2)];
const secondDoubtful = [started(second), inDoubt(second, 'hold')];

describe('the status of a delivery and of its legs', () => {
  it.each<[string, DeliveryEvent[], string, string[]]>([
    ['requested', [two], 'QUEUED', ['QUEUED', 'QUEUED']],
    ['held', [requested({ scheduledAt: at(60) })], 'HELD', ['HELD']],
    ['one attempt under way', [two, started(byWebhook(1))], 'PROCESSING', ['PROCESSING', 'QUEUED']],
    ['waiting for a retry', [requested(), failed(byWebhook(1)), retryAt(at(11))], 'PROCESSING', ['PROCESSING']],
    ['on its fallback', [withFallback, failed(byWebhook(1), gone), fellBack(gone)], 'PROCESSING', ['PROCESSING']],
    ['one arrived', [two, succeeded(byWebhook(1))], 'PROCESSING', ['DELIVERED', 'QUEUED']],
    ['both arrived', [two, succeeded(byWebhook(1)), succeeded(second)], 'DELIVERED', ['DELIVERED', 'DELIVERED']],
    ['one only accepted', [two, succeeded(byWebhook(1)), succeeded(second, false)], 'SENT', ['DELIVERED', 'SENT']],
    ['one failed, one open', [two, ...lost], 'PROCESSING', ['FAILED', 'QUEUED']],
    ['one failed, one arrived', [two, ...lost, succeeded(second)], 'FAILED', ['FAILED', 'DELIVERED']],
    ['both failed', [two, ...lost, ...secondLost], 'FAILED', ['FAILED', 'FAILED']],
    ['the only open one in doubt', [two, succeeded(byWebhook(1)), ...secondDoubtful], 'HELD', ['DELIVERED', 'HELD']],
    ['one in doubt, one open', [two, ...secondDoubtful], 'PROCESSING', ['QUEUED', 'HELD']],
    [
      'in doubt, to be sent again',
      [byEmail, started(bySmtp(1)), inDoubt(bySmtp(1), 'resend')],
      'PROCESSING',
      ['PROCESSING'],
    ],
    ['cancelled half way', [two, succeeded(byWebhook(1)), cancelledBy('ada')], 'CANCELLED', ['DELIVERED', 'CANCELLED']],
    ['expired', [two, failed(byWebhook(1)), expired], 'EXPIRED', ['EXPIRED', 'EXPIRED']],
    ['rejected', [requested({ approval: { approvers: ['bob'], minimum: 1 } }), rejected], 'REJECTED', ['REJECTED']],
    ['failed with another', [requested({ dependsOn: [OTHER_DELIVERY] }), dependencyFailed], 'FAILED', ['FAILED']],
    ['retried by a person', [requested(), ...lost, retriedBy('ada', 1)], 'PROCESSING', ['PROCESSING']],
  ])('%s', (_, history, whole, legs) => {
    const state = existing(given(...history).state);
    expect([deliveryStatus(state), state.legs.map((each) => legStatus(state, each))]).toEqual([whole, legs]);
    const final = ['SENT', 'DELIVERED', 'FAILED', 'CANCELLED', 'EXPIRED', 'REJECTED'];
    expect(isClosed(state)).toBe(final.includes(whole));
    expect(holdsOf(state).length > 0).toBe(legs.includes('HELD'));
  });
});
