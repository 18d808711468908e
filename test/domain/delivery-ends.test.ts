import { describe, expect, it } from 'vitest';
import type { DeliveryCommand } from '../../src/domain/delivery-commands.js';
import type { DeliveryEvent } from '../../src/domain/delivery-events.js';
import { attemptKey } from '../../src/domain/delivery-state.js';
import { deliveryStatus } from '../../src/domain/delivery-status.js';
import {
  at,
  busy,
  byEmail,
  bySmtp,
  byWebhook,
  cancelledBy,
  confirmed,
  DELIVERY,
  deadLettered,
  existing,
  expired,
  failed,
  fellBack,
  given,
  gone,
  leg,
  legOf,
  OTHER_DELIVERY,
  outcome,
  refused,
  requested,
  retriedBy,
  retryAt,
  started,
  succeeded,
  webhook,
  withFallback,
} from '../support/deliveries.js';

const cancel = (by = 'ada'): DeliveryCommand => ({ type: 'Cancel', now: at(1), by });
const expire = (now: string): DeliveryCommand => ({ type: 'Expire', now });
const retry = (by = 'ada'): DeliveryCommand => ({ type: 'Retry', now: at(60), by });

const delivered = [requested(), succeeded(byWebhook(1))];
const sent = [byEmail, started(bySmtp(1)), succeeded(bySmtp(1), false)];
const deadLetter = [requested(), failed(byWebhook(1), gone), deadLettered(gone)];
const rejectedByBob: DeliveryEvent[] = [
  requested({ approval: { approvers: ['bob'], minimum: 1 } }),
  { type: 'ApprovalRejected', at: at(5), data: { approver: 'bob', reason: 'wrong year' } },
];
const failedWithAnother: DeliveryEvent[] = [
  requested({ dependsOn: [OTHER_DELIVERY] }),
  { type: 'DependencyFailed', at: at(5), data: { deliveryId: OTHER_DELIVERY, failure: gone } },
];

describe('cancelling', () => {
  it.each<[string, DeliveryEvent[]]>([
    ['is queued', [requested()]],
    ['is held', [requested({ scheduledAt: at(60) })]],
    ['waits for a retry', [requested(), failed(byWebhook(1)), retryAt(at(11))]],
    ['is being attempted', [byEmail, started(bySmtp(1))]],
  ])('ends a delivery that %s', (_, history) => {
    const verdict = given(...history).when(cancel());
    verdict.then(cancelledBy('ada'));
    expect(deliveryStatus(existing(verdict.state))).toBe('CANCELLED');
  });

  it('keeps the reason', () => {
    given(requested())
      .when({ type: 'Cancel', now: at(1), by: 'ada', reason: 'sent by post' })
      .then({ type: 'DeliveryCancelled', at: at(1), data: { by: 'ada', reason: 'sent by post' } });
  });

  it('twice changes nothing the second time', () => {
    given(requested(), cancelledBy('ada')).when(cancel('bob')).thenNothing();
  });

  it.each<[string, DeliveryEvent[]]>([
    ['delivered', delivered],
    ['sent', sent],
    ['failed', deadLetter],
    ['expired', [requested({ expiresAt: at(60) }), expired]],
    ['rejected', rejectedByBob],
    ['failed with another', failedWithAnother],
  ])('comes too late for one that is %s', (_, history) => {
    given(...history)
      .when(cancel())
      .thenRejected('CONFLICT');
  });
});

describe('expiring', () => {
  const perishable = requested({ expiresAt: at(60) });

  it('ends a delivery at its time, not before', () => {
    given(perishable)
      .when(expire(at(59.999)))
      .thenNothing();
    const verdict = given(perishable).when(expire(at(60)));
    verdict.then(expired);
    expect(deliveryStatus(existing(verdict.state))).toBe('EXPIRED');
  });

  it('also ends one that is held or waits for a retry', () => {
    given(requested({ expiresAt: at(60), dependsOn: [OTHER_DELIVERY] }))
      .when(expire(at(60)))
      .then(expired);
    given(perishable, failed(byWebhook(1)), retryAt(at(90)))
      .when(expire(at(60)))
      .then(expired);
  });

  it('does not touch one that has ended, nor one without a time', () => {
    given(perishable, succeeded(byWebhook(1)))
      .when(expire(at(61)))
      .thenNothing();
    given(perishable, cancelledBy('ada'))
      .when(expire(at(61)))
      .thenNothing();
    given(requested())
      .when(expire(at(1e9)))
      .thenNothing();
  });
});

describe('retrying by a person', () => {
  it('starts a new round on the first route, with attempts numbered on and a new key', () => {
    const bounced = bySmtp(2, 1);
    const history = [
      withFallback,
      failed(byWebhook(1), gone),
      fellBack(gone),
      failed(bounced, gone),
      deadLettered(gone),
    ];
    const verdict = given(...history).when(retry());
    verdict.then(retriedBy('ada', 1));
    const before = legOf(given(...history).state);
    const again = legOf(verdict.state);
    expect(again).toMatchObject({ route: 0, round: 1, attempts: 2, routeAttempts: 0, progress: { tag: 'ready' } });
    expect(attemptKey(DELIVERY, again)).not.toBe(attemptKey(DELIVERY, before));
    expect(deliveryStatus(existing(verdict.state))).toBe('PROCESSING');
  });

  it('gives the route all its attempts again', () => {
    const round = [...deadLetter, retriedBy('ada', 1)];
    given(...round)
      .when(outcome(byWebhook(2), refused(busy)))
      .then(failed(byWebhook(2)), retryAt(at(11)));
  });

  it('counts the rounds', () => {
    const again = [...deadLetter, retriedBy('ada', 1), failed(byWebhook(2), gone), deadLettered(gone)];
    given(...again)
      .when(retry())
      .then(retriedBy('ada', 2));
  });

  it('tries only the legs that have failed, also while others are still on their way', () => {
    const two = requested({ legs: [leg(1, webhook), leg(2, webhook)] });
    given(two, failed(byWebhook(1), gone), deadLettered(gone))
      .when(retry())
      .then(retriedBy('ada', 1, [1]));
    const state = existing(given(two, failed(byWebhook(1), gone), deadLettered(gone)).when(retry()).state);
    expect(legOf(state, 2)).toMatchObject({ round: 0 });
  });

  it('revives a delivery that failed because another did', () => {
    const verdict = given(...failedWithAnother).when(retry());
    verdict.then(retriedBy('ada', 1));
    expect(deliveryStatus(existing(verdict.state))).toBe('QUEUED');
  });

  it.each<[string, DeliveryEvent[]]>([
    ['nothing failed yet', [requested()]],
    ['it waits for a retry by itself', [requested(), failed(byWebhook(1)), retryAt(at(11))]],
    ['it is held', [requested({ scheduledAt: at(60) })]],
    ['it has arrived', delivered],
    ['it was cancelled', [requested(), cancelledBy('ada')]],
    ['it has expired', [requested({ expiresAt: at(60) }), expired]],
    ['it was rejected', rejectedByBob],
  ])('is refused when %s', (_, history) => {
    given(...history)
      .when(retry())
      .thenRejected('CONFLICT');
  });

  it('arrives after all', () => {
    const { state } = given(...deadLetter, retriedBy('ada', 1)).when(outcome(byWebhook(2), confirmed));
    expect(deliveryStatus(existing(state))).toBe('DELIVERED');
  });
});

it('the key of an attempt is the same for every attempt of a round, and of its own for every leg and round', () => {
  const keys = [
    { leg: 1, round: 0 },
    { leg: 2, round: 0 },
    { leg: 1, round: 1 },
    { leg: 1, round: 2 },
    { leg: 11, round: 0 },
  ].map((which) => attemptKey(DELIVERY, which));
  expect(new Set(keys).size).toBe(keys.length);
  const once = legOf(given(requested()).state);
  const later = legOf(given(requested(), failed(byWebhook(1)), retryAt(at(11))).state);
  expect(attemptKey(DELIVERY, later)).toBe(attemptKey(DELIVERY, once));
});
