import { describe, expect, it } from 'vitest';
import type { DeliveryCommand } from '../../src/domain/delivery-commands.js';
import type { DeliveryEvent } from '../../src/domain/delivery-events.js';
import { deliveryStatus, holdsOf, legStatus } from '../../src/domain/delivery-status.js';
import { retryPolicy } from '../../src/domain/retry-policy.js';
import type { ErrorCategory } from '../../src/domain/vocabulary.js';
import {
  accepted,
  at,
  busy,
  byEmail,
  bySmtp,
  byWebhook,
  cancelledBy,
  confirmed,
  deadLettered,
  existing,
  expired,
  failed,
  failure,
  fellBack,
  given,
  gone,
  inDoubt,
  leg,
  legOf,
  outcome,
  refused,
  requested,
  resolved,
  retriedBy,
  retryAt,
  started,
  succeeded,
  webhook,
  withFallback,
} from '../support/deliveries.js';

const start = (now = at(0), provider = 'smtp'): DeliveryCommand => ({ type: 'StartAttempt', now, leg: 1, provider });
const doubt = (resolution: 'resend' | 'hold'): DeliveryCommand => ({
  type: 'DeclareInDoubt',
  now: at(2),
  leg: 1,
  resolution,
});
const statusAfter = (...history: DeliveryEvent[]) => deliveryStatus(existing(given(...history).state));
const after = (first: DeliveryEvent, ...rest: DeliveryEvent[]) => given(first, ...rest).state;

describe('an attempt on a channel whose receiver recognizes repetitions (webhook)', () => {
  it('is recorded by its outcome alone', () => {
    given(requested())
      .when(outcome(byWebhook(1), confirmed))
      .then(succeeded(byWebhook(1)));
    expect(statusAfter(requested(), succeeded(byWebhook(1)))).toBe('DELIVERED');
  });

  it('is counted by its outcome', () => {
    expect(legOf(after(requested(), failed(byWebhook(1)), retryAt(at(11))))).toMatchObject({
      attempts: 1,
      routeAttempts: 1,
    });
  });
});

describe('an attempt on a channel where nothing protects the receiver (SMTP)', () => {
  it('is recorded before the call, with its number and provider', () => {
    given(byEmail)
      .when(start())
      .then(started(bySmtp(1)));
    expect(statusAfter(byEmail, started(bySmtp(1)))).toBe('PROCESSING');
  });

  it('is counted once, not again by its outcome', () => {
    const state = after(byEmail, started(bySmtp(1)), failed(bySmtp(1)), retryAt(at(11)));
    expect(legOf(state)).toMatchObject({ attempts: 1, routeAttempts: 1 });
    given(byEmail, started(bySmtp(1)), failed(bySmtp(1)), retryAt(at(11)))
      .when(start(at(11)))
      .then(started(bySmtp(2, 0, at(11))));
  });

  it.each<[string, DeliveryEvent[]]>([
    ['under way', [byEmail, started(bySmtp(1))]],
    ['sent', [byEmail, started(bySmtp(1)), succeeded(bySmtp(1), false)]],
    ['dead-lettered', [byEmail, failed(bySmtp(1), gone), deadLettered(gone)]],
    ['in doubt and held for a person', [byEmail, started(bySmtp(1)), inDoubt(bySmtp(1), 'hold')]],
    ['cancelled', [byEmail, cancelledBy('ada')]],
    ['expired', [byEmail, expired]],
  ])('is not started when the leg is %s', (_, history) => {
    given(...history)
      .when(start(at(20)))
      .thenRejected('CONFLICT');
  });

  it('is sent, not delivered, when the provider only accepts', () => {
    given(byEmail, started(bySmtp(1)))
      .when(outcome(bySmtp(1), accepted))
      .then(succeeded(bySmtp(1), false));
    expect(statusAfter(byEmail, started(bySmtp(1)), succeeded(bySmtp(1), false))).toBe('SENT');
  });

  it('keeps a warning of the provider', () => {
    const warning = 'one of two recipients was refused';
    const verdict = given(byEmail, started(bySmtp(1))).when(
      outcome(bySmtp(1), { kind: 'accepted', delivered: false, warning }),
    );
    expect(verdict.events[0]?.data).toMatchObject({ warning });
  });
});

describe('a failed attempt', () => {
  it.each<ErrorCategory>(['TEMPORARY', 'NETWORK', 'SYSTEM', 'RATE_LIMIT'])('for a %s reason is retried', (category) => {
    const why = failure(category);
    given(withFallback)
      .when(outcome(byWebhook(1), refused(why)))
      .then(failed(byWebhook(1), why), retryAt(at(11)));
  });

  it.each<ErrorCategory>(['PERMANENT', 'VALIDATION', 'AUTHENTICATION', 'CONFIGURATION'])(
    'for a %s reason goes to the next route at once',
    (category) => {
      const why = failure(category);
      given(withFallback)
        .when(outcome(byWebhook(1), refused(why)))
        .then(failed(byWebhook(1), why), fellBack(why));
    },
  );

  it('waits until the provider wants to be asked again, when that is later', () => {
    const later = given(requested()).when(outcome(byWebhook(1), refused(failure('RATE_LIMIT'), 60_000)));
    expect(later.events[0]?.data).toMatchObject({ retryAfterMs: 60_000 });
    expect(later.events[1]).toEqual(retryAt(at(61)));
    const sooner = given(requested()).when(outcome(byWebhook(1), refused(failure('RATE_LIMIT'), 2_000)));
    expect(sooner.events[1]).toEqual(retryAt(at(11)));
  });

  it('can be recorded whatever time the provider asks for', () => {
    const verdict = given(requested()).when(
      outcome(byWebhook(1), refused(failure('RATE_LIMIT'), Number.MAX_SAFE_INTEGER)),
    );
    expect(verdict.events.map(({ type }) => type)).toEqual(['AttemptFailed', 'RetryScheduled']);
  });

  it('spreads its retry within the jitter', () => {
    const policy = retryPolicy({ strategy: 'FIXED', initialDelayMs: 10_000, jitter: 0.2 });
    const dueWith = (random: number) =>
      given(requested()).when(outcome(byWebhook(1), refused(busy), { policy, random })).events[1];
    expect(dueWith(0)).toEqual(retryAt(at(9)));
    expect(dueWith(0.999999)).toEqual(retryAt(at(13)));
  });
});

describe('given a webhook with an e-mail fallback and three attempts each', () => {
  const secondFailure = [failed(byWebhook(1)), retryAt(at(11)), failed(byWebhook(2)), retryAt(at(21))];
  const atFallback = [withFallback, ...secondFailure, failed(byWebhook(3)), fellBack(busy)];

  it('when the webhook answers 410, then the e-mail is next and the receiver’s reason is kept', () => {
    const verdict = given(withFallback).when(outcome(byWebhook(1), refused(gone)));
    verdict.then(failed(byWebhook(1), gone), fellBack(gone));
    expect(legOf(verdict.state)).toMatchObject({ route: 1, attempts: 1, routeAttempts: 0, failure: gone });
    expect(deliveryStatus(existing(verdict.state))).toBe('PROCESSING');
  });

  it('when the webhook has failed three times, then the e-mail is next', () => {
    given(withFallback, ...secondFailure)
      .when(outcome(byWebhook(3), refused(busy)))
      .then(failed(byWebhook(3)), fellBack(busy));
  });

  it('when the e-mail fails too, then it has its own three attempts, counted on from the webhook’s', () => {
    const four = bySmtp(4, 1);
    given(...atFallback)
      .when(start())
      .then(started(four));
    given(...atFallback, started(four))
      .when(outcome(four, refused(busy)))
      .then(failed(four), retryAt(at(11)));
  });

  it('when the e-mail fails for good, then the leg is a dead letter with the last reason', () => {
    const four = bySmtp(4, 1);
    const bounced = failure('PERMANENT', 'SMTP_550');
    const verdict = given(...atFallback, started(four)).when(outcome(four, refused(bounced)));
    verdict.then(failed(four, bounced), deadLettered(bounced));
    expect(deliveryStatus(existing(verdict.state))).toBe('FAILED');
    expect(legOf(verdict.state).failure).toEqual(bounced);
  });

  it('when the e-mail is accepted, then nothing of the failure remains', () => {
    const four = bySmtp(4, 1);
    const { state } = given(...atFallback, started(four)).when(outcome(four, accepted));
    expect(deliveryStatus(existing(state))).toBe('SENT');
    expect(legOf(state)).not.toHaveProperty('failure');
  });
});

describe('an outcome that was recorded before', () => {
  it.each<[string, DeliveryEvent[]]>([
    ['a success', [requested(), succeeded(byWebhook(1))]],
    ['a failure with a retry', [requested(), failed(byWebhook(1)), retryAt(at(11))]],
    ['a failure with a fallback', [withFallback, failed(byWebhook(1), gone), fellBack(gone)]],
    ['a dead letter', [requested(), failed(byWebhook(1), gone), deadLettered(gone)]],
    ['a failure after a cancellation', [requested(), cancelledBy('ada'), failed(byWebhook(1))]],
    ['a success after a cancellation', [requested(), cancelledBy('ada'), succeeded(byWebhook(1))]],
    ['an earlier attempt than the one under way', [byEmail, failed(bySmtp(1)), retryAt(at(11)), started(bySmtp(2))]],
    [
      'an earlier attempt than the one in doubt',
      [byEmail, failed(bySmtp(1)), retryAt(at(11)), started(bySmtp(2)), inDoubt(bySmtp(2), 'hold')],
    ],
    [
      'a round before the present one',
      [requested(), failed(byWebhook(1), gone), deadLettered(gone), retriedBy('ada', 1)],
    ],
  ])('changes nothing: %s', (_, history) => {
    const first = history[0] === byEmail ? bySmtp(1) : byWebhook(1);
    given(...history)
      .when(outcome(first, confirmed, { now: at(90) }))
      .thenNothing();
    given(...history)
      .when(outcome(first, refused(busy), { now: at(90) }))
      .thenNothing();
  });
});

describe('an outcome that comes after the delivery has ended', () => {
  const endings: [string, DeliveryEvent][] = [
    ['was cancelled', cancelledBy('ada')],
    ['has expired', expired],
  ];

  it.each(endings)('is kept as the truth about the attempt and changes nothing else: the delivery %s', (_, ending) => {
    const success = given(requested(), ending).when(outcome(byWebhook(1), confirmed, { now: at(61) }));
    success.then(succeeded(byWebhook(1), true, at(61)));
    const state = existing(success.state);
    expect(state.tag).toBe('ended');
    expect(legStatus(state, legOf(state))).toBe('DELIVERED');
    expect(deliveryStatus(state)).toBe(ending.type === 'DeliveryCancelled' ? 'CANCELLED' : 'EXPIRED');
  });

  it.each(endings)('leads to no retry: the delivery %s', (_, ending) => {
    given(withFallback, ending)
      .when(outcome(byWebhook(1), refused(busy)))
      .then(failed(byWebhook(1)));
    given(byEmail, started(bySmtp(1)), ending)
      .when(outcome(bySmtp(1), refused(gone)))
      .then(failed(bySmtp(1), gone));
  });
});

describe('an attempt that a crash has left in doubt', () => {
  const underWay = [byEmail, started(bySmtp(1))];
  const held = [...underWay, inDoubt(bySmtp(1), 'hold')];

  it('is sent again where policy says so', () => {
    given(...underWay)
      .when(doubt('resend'))
      .then(inDoubt(bySmtp(1), 'resend'));
    given(...underWay, inDoubt(bySmtp(1), 'resend'))
      .when(start(at(3)))
      .then(started(bySmtp(2, 0, at(3))));
  });

  it('is held for a person where policy says so, and shown', () => {
    given(...underWay)
      .when(doubt('hold'))
      .then(inDoubt(bySmtp(1), 'hold'));
    const state = existing(given(...held).state);
    expect(deliveryStatus(state)).toBe('HELD');
    expect(holdsOf(state)).toEqual([{ reason: 'doubt', detail: { leg: 1, attempt: 1 } }]);
  });

  it('is declared once, and only while the attempt is under way', () => {
    given(...held)
      .when(doubt('hold'))
      .thenNothing();
    given(byEmail).when(doubt('hold')).thenNothing();
    given(...underWay, succeeded(bySmtp(1), false))
      .when(doubt('resend'))
      .thenNothing();
  });

  it('is settled by an outcome that comes after all', () => {
    given(...held)
      .when(outcome(bySmtp(1), accepted, { now: at(9) }))
      .then(succeeded(bySmtp(1), false, at(9)));
  });

  it('counts as one attempt when it turns out to have failed', () => {
    const policy = retryPolicy({ strategy: 'FIXED', maxAttempts: 2, initialDelayMs: 10_000, jitter: 0 });
    given(...held)
      .when(outcome(bySmtp(1), refused(busy), { policy }))
      .then(failed(bySmtp(1)), retryAt(at(11)));
  });

  it('can be sent again by a person', () => {
    given(...held)
      .when({ type: 'Retry', now: at(60), by: 'ada' })
      .then(retriedBy('ada', 1));
  });
});

describe('an attempt that is held in doubt, once a person has found out', () => {
  const held = [byEmail, started(bySmtp(1)), inDoubt(bySmtp(1), 'hold')];
  const find = (outcome: 'sent' | 'not-sent', { attempt = 1, note }: { attempt?: number; note?: string } = {}) =>
    ({
      type: 'ResolveAttempt',
      now: at(60),
      leg: 1,
      attempt,
      outcome,
      by: 'ada',
      ...(note !== undefined && { note }),
    }) as const;

  it('that it was sent, counts as sent, with who says so and why', () => {
    const verdict = given(...held).when(find('sent', { note: 'the recipient has it' }));
    verdict.then(resolved(bySmtp(1), 'sent', 'the recipient has it'));
    expect(deliveryStatus(existing(verdict.state))).toBe('SENT');
    expect(holdsOf(existing(verdict.state))).toEqual([]);
  });

  it('that it was sent, counts as delivered where acceptance is confirmation', () => {
    const verdict = given(requested(), started(byWebhook(1)), inDoubt(byWebhook(1), 'hold')).when(find('sent'));
    verdict.then(resolved(byWebhook(1), 'delivered'));
    expect(deliveryStatus(existing(verdict.state))).toBe('DELIVERED');
  });

  it('that it was not sent, is made again, as the next attempt', () => {
    given(...held)
      .when(find('not-sent'))
      .then(resolved(bySmtp(1), 'not-sent'));
    given(...held, resolved(bySmtp(1), 'not-sent'))
      .when(start(at(61)))
      .then(started(bySmtp(2, 0, at(61))));
  });

  it('goes the usual way when the next attempt fails', () => {
    const policy = retryPolicy({ strategy: 'FIXED', maxAttempts: 2, initialDelayMs: 10_000, jitter: 0 });
    given(...held, resolved(bySmtp(1), 'not-sent'), started(bySmtp(2)))
      .when(outcome(bySmtp(2), refused(busy), { policy }))
      .then(failed(bySmtp(2)), deadLettered(busy));
  });

  it('is settled once: the same again changes nothing, something else is a conflict', () => {
    const sent = given(...held, resolved(bySmtp(1), 'sent'));
    sent.when(find('sent')).thenNothing();
    sent.when(find('not-sent')).thenRejected('CONFLICT');
    const notSent = given(...held, resolved(bySmtp(1), 'not-sent'), started(bySmtp(2)));
    notSent.when(find('not-sent')).thenNothing();
    notSent.when(find('sent')).thenRejected('CONFLICT');
  });

  it.each<[string, DeliveryEvent[], string]>([
    ['under way', [byEmail, started(bySmtp(1))], 'CONFLICT'],
    ['sent again by policy', [byEmail, started(bySmtp(1)), inDoubt(bySmtp(1), 'resend')], 'CONFLICT'],
    ['sent again by a person', [...held, retriedBy('ada', 1)], 'CONFLICT'],
    ['settled by an outcome that came after all', [...held, succeeded(bySmtp(1), false)], 'CONFLICT'],
    ['not made yet', [byEmail], 'NOT_FOUND'],
  ])('is refused for one that is %s', (_, history, code) => {
    given(...history)
      .when(find('sent'))
      .thenRejected(code as 'CONFLICT');
  });

  it('is refused for a leg that there is not', () => {
    given(...held)
      .when({ ...find('sent'), leg: 2 })
      .thenRejected('NOT_FOUND');
  });

  it('is kept as the truth when the delivery has ended meanwhile, and nothing follows', () => {
    for (const [found, legIs] of [
      ['sent', 'SENT'],
      ['not-sent', 'CANCELLED'],
    ] as const) {
      const state = existing(given(...held, cancelledBy('ada')).when(find(found)).state);
      expect([deliveryStatus(state), legStatus(state, legOf(state))]).toEqual(['CANCELLED', legIs]);
    }
  });

  it('settles the attempt it is about: a late word on another one changes nothing', () => {
    const second = [...held, resolved(bySmtp(1), 'not-sent'), started(bySmtp(2)), inDoubt(bySmtp(2), 'hold')];
    given(...second)
      .when(find('sent'))
      .thenRejected('CONFLICT');
    given(...second)
      .when({ ...doubt('resend'), attempt: 1 } as DeliveryCommand)
      .thenNothing();
    given(...held.slice(0, 2))
      .when({ ...doubt('resend'), attempt: 2 } as DeliveryCommand)
      .thenNothing();
  });
});

describe('what an operator does with a suspended delivery', () => {
  it.each<DeliveryEvent>([
    { type: 'ProcessResumed', at: at(5), data: { by: 'admin', reason: 'a newer program' } },
    {
      type: 'EventSkipped',
      at: at(5),
      data: { revision: 3, eventType: 'Unheard', error: 'unknown', by: 'admin', reason: 'it was a mistake' },
    },
  ])('is in its history and nowhere else: $type', (event) => {
    const history = [byEmail, started(bySmtp(1))];
    expect(given(...history, event).state).toEqual(given(...history).state);
  });
});

describe('a delivery with two targets', () => {
  const both = requested({ legs: [leg(1, webhook), leg(2, webhook)] });
  const second = { ...byWebhook(1), leg: 2 };

  it('goes on for one while the other has arrived', () => {
    expect(statusAfter(both, succeeded(byWebhook(1)))).toBe('PROCESSING');
    expect(statusAfter(both, succeeded(byWebhook(1)), succeeded(second))).toBe('DELIVERED');
  });

  it('has failed when one of them has, once both have ended', () => {
    expect(statusAfter(both, failed(byWebhook(1), gone), deadLettered(gone))).toBe('PROCESSING');
    expect(statusAfter(both, failed(byWebhook(1), gone), deadLettered(gone), succeeded(second))).toBe('FAILED');
  });

  it('numbers the attempts of each by itself', () => {
    const state = after(both, failed(byWebhook(1)), retryAt(at(11)), succeeded(second));
    expect([legOf(state, 1).attempts, legOf(state, 2).attempts]).toEqual([1, 1]);
  });
});
