import { describe, expect, it } from 'vitest';
import type { Failover } from '../../src/domain/delivery-commands.js';
import type { AttemptRef, DeliveryEvent } from '../../src/domain/delivery-events.js';
import {
  at,
  busy,
  byWebhook,
  deadLettered,
  failed,
  failure,
  fellBack,
  given,
  leg,
  legOf,
  outcome,
  refused,
  requested,
  retryAt,
  succeeded,
  withFallback,
} from '../support/deliveries.js';

/** Several providers for one channel: who is next is found out by the engine and decided here. */

const mail = requested({ legs: [leg(1, { channel: 'EMAIL', address: 'ada@example.com' })] });
const by = (provider: string, number: number): AttemptRef => ({
  leg: 1,
  number,
  route: 0,
  channel: 'EMAIL',
  provider,
  providerReason: 'priority',
  startedAt: at(0),
});
const next = (...tried: string[]): Failover => ({ tag: 'next', tried });
const over = (...tried: string[]): DeliveryEvent => ({
  type: 'RetryScheduled',
  at: at(1),
  data: { leg: 1, dueAt: at(1), tried },
});
const badKey = failure('AUTHENTICATION', 'HTTP_401');
const failing = (attempt: AttemptRef, why = busy, failover?: Failover) => ({
  ...outcome(attempt, refused(why)),
  ...(failover && { failover }),
});

describe('given an e-mail with two providers', () => {
  it.each([busy, badKey])('when the first fails ($category), then the second is tried at once', (why) => {
    const verdict = given(mail).when(failing(by('main', 1), why, next('main')));
    verdict.then(failed(by('main', 1), why), over('main'));
    expect(legOf(verdict.state).progress).toEqual({ tag: 'retrying', dueAt: at(1), tried: ['main'] });
  });

  it('when the second fails too, then they are tried again as the policy says, and none counts as tried', () => {
    const verdict = given(mail, failed(by('main', 1)), over('main')).when(failing(by('spare', 2)));
    verdict.then(failed(by('spare', 2)), retryAt(at(11)));
    expect(legOf(verdict.state).progress).toEqual({ tag: 'retrying', dueAt: at(11) });
  });

  it('when the second cannot be used at all, then what may pass with the first is waited for', () => {
    given(mail, failed(by('main', 1)), over('main'))
      .when(failing(by('spare', 2), badKey, { tag: 'again' }))
      .then(failed(by('spare', 2), badKey), retryAt(at(11)));
  });

  it('when neither can be used, then the leg has failed', () => {
    given(mail, failed(by('main', 1), badKey), over('main'))
      .when(failing(by('spare', 2), badKey))
      .then(failed(by('spare', 2), badKey), deadLettered(badKey));
  });

  it('when the second succeeds, then who sent it and why is recorded', () => {
    const verdict = given(mail, failed(by('main', 1)), over('main')).when(
      outcome(by('spare', 2), { kind: 'accepted', providerMessageId: 'm-1', delivered: true }),
    );
    verdict.then(succeeded(by('spare', 2)));
    expect(verdict.events[0]?.data).toMatchObject({ provider: 'spare', providerReason: 'priority' });
  });
});

describe('given a destination with an open circuit', () => {
  const open = failure('TEMPORARY', 'CIRCUIT_OPEN');
  const detour = { type: 'TakeDetour', now: at(1), leg: 1, route: 0, failure: open } as const;

  it('then the next route is taken, and no attempt is counted', () => {
    const verdict = given(withFallback).when(detour);
    verdict.then(fellBack(open));
    expect(legOf(verdict.state)).toMatchObject({ route: 1, attempts: 0 });
  });

  it('then nothing happens when there is no other route, or it was taken already', () => {
    given(mail).when(detour).thenNothing();
    given(withFallback, fellBack(open)).when(detour).thenNothing();
    given(withFallback, succeeded(byWebhook(1)))
      .when(detour)
      .thenNothing();
  });
});
