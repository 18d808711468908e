import { delivery } from '../../src/domain/delivery.js';
import type { AttemptOutcome, DeliveryCommand } from '../../src/domain/delivery-commands.js';
import type { AttemptRef, DeliveryEvent, DeliveryRequested, LegPlan, Route } from '../../src/domain/delivery-events.js';
import type { DeliveryState, Leg } from '../../src/domain/delivery-state.js';
import { type RetryPolicy, retryPolicy } from '../../src/domain/retry-policy.js';
import type { ErrorCategory, Failure, Instant } from '../../src/domain/vocabulary.js';
import { specification } from './given.js';

/** The deliveries that the tests in `domain/` tell of, and the words to tell it in. */

export const ORGANIZATION = 'a0000000-0000-4000-8000-00000000000a';
export const DELIVERY = 'd0000000-0000-4000-8000-000000000001';
export const OTHER_DELIVERY = 'd0000000-0000-4000-8000-000000000002';
export const HOOK = 'e0000000-0000-4000-8000-000000000001';

export const webhook: Route = { channel: 'WEBHOOK', destinationId: HOOK };
export const email: Route = { channel: 'EMAIL', address: 'ada@example.com', provider: 'smtp' };

/** Seconds after noon of the day on which all deliveries of the tests are requested. */
export const at = (seconds: number): Instant => new Date(Date.UTC(2026, 2, 2, 12) + seconds * 1_000).toISOString();

export const leg = (number: number, ...routes: Route[]): LegPlan => ({ leg: number, routes, recipients: 1 });

export const requested = (data: Partial<DeliveryRequested['data']> = {}): DeliveryRequested => ({
  type: 'DeliveryRequested',
  at: at(0),
  data: {
    organizationId: ORGANIZATION,
    priority: 'NORMAL',
    legs: [leg(1, webhook)],
    content: { subject: 'Figures', data: { total: 42 } },
    tags: [],
    ...data,
  },
});

/** One delivery by webhook that falls back to e-mail. */
export const withFallback = requested({ legs: [leg(1, webhook, email)] });
export const byEmail = requested({ legs: [leg(1, email)] });

export const byWebhook = (number: number, startedAt = at(0)): AttemptRef => ({
  leg: 1,
  number,
  route: 0,
  channel: 'WEBHOOK',
  provider: 'webhook',
  destinationId: HOOK,
  startedAt,
});
export const bySmtp = (number: number, route = 0, startedAt = at(0)): AttemptRef => ({
  leg: 1,
  number,
  route,
  channel: 'EMAIL',
  provider: 'smtp',
  startedAt,
});

export const failure = (category: ErrorCategory, code = 'HTTP_503'): Failure => ({
  category,
  code,
  message: `the receiver answered ${code}`,
});
export const busy = failure('TEMPORARY');
export const gone = failure('PERMANENT', 'HTTP_410');

export const confirmed: AttemptOutcome = { kind: 'accepted', providerMessageId: 'm-1', delivered: true };
export const accepted: AttemptOutcome = { kind: 'accepted', providerMessageId: 'm-1', delivered: false };
export const refused = (why: Failure, retryAfterMs?: number): AttemptOutcome => ({
  kind: 'rejected',
  failure: why,
  ...(retryAfterMs !== undefined && { retryAfterMs }),
});

/** Three attempts, ten seconds apart: delays that a reader can add up. */
export const patient = retryPolicy({ strategy: 'FIXED', maxAttempts: 3, initialDelayMs: 10_000, jitter: 0 });

export const outcome = (
  attempt: AttemptRef,
  what: AttemptOutcome,
  { now = at(1), policy = patient, random = 0.5 }: { now?: Instant; policy?: RetryPolicy; random?: number } = {},
): DeliveryCommand => ({ type: 'RecordOutcome', now, attempt, outcome: what, policy, random });

export const started = (attempt: AttemptRef): DeliveryEvent => ({
  type: 'AttemptStarted',
  at: attempt.startedAt,
  data: attempt,
});
export const succeeded = (attempt: AttemptRef, delivered = true, time = at(1)): DeliveryEvent => ({
  type: 'AttemptSucceeded',
  at: time,
  data: { ...attempt, providerMessageId: 'm-1', delivered },
});
export const failed = (attempt: AttemptRef, why: Failure = busy, time = at(1)): DeliveryEvent => ({
  type: 'AttemptFailed',
  at: time,
  data: { ...attempt, failure: why },
});
export const retryAt = (dueAt: Instant, time = at(1)): DeliveryEvent => ({
  type: 'RetryScheduled',
  at: time,
  data: { leg: 1, dueAt },
});
export const fellBack = (why: Failure, time = at(1)): DeliveryEvent => ({
  type: 'FallbackChosen',
  at: time,
  data: { leg: 1, route: 1, failure: why },
});
export const deadLettered = (why: Failure, time = at(1), number = 1): DeliveryEvent => ({
  type: 'LegDeadLettered',
  at: time,
  data: { leg: number, failure: why },
});
export const inDoubt = (attempt: AttemptRef, resolution: 'resend' | 'hold', time = at(2)): DeliveryEvent => ({
  type: 'AttemptInDoubt',
  at: time,
  data: { ...attempt, resolution },
});
export const resolved = (
  attempt: AttemptRef,
  outcome: 'sent' | 'delivered' | 'not-sent',
  note?: string,
  time = at(60),
): DeliveryEvent => ({
  type: 'AttemptResolved',
  at: time,
  data: { ...attempt, outcome, by: 'ada', ...(note !== undefined && { note }) },
});
export const retriedBy = (by: string, round: number, legs = [1], time = at(60)): DeliveryEvent => ({
  type: 'DeliveryRetried',
  at: time,
  data: { legs, round, by },
});
export const cancelledBy = (by: string, time = at(1)): DeliveryEvent => ({
  type: 'DeliveryCancelled',
  at: time,
  data: { by },
});
export const expired: DeliveryEvent = { type: 'DeliveryExpired', at: at(60), data: {} };

export const given = specification<DeliveryState, DeliveryCommand, DeliveryEvent>(delivery);

export type Existing = Exclude<DeliveryState, { tag: 'absent' }>;

export function existing(state: DeliveryState): Existing {
  if (state.tag === 'absent') throw new Error('this delivery was never requested');
  return state;
}

export function legOf(state: DeliveryState, number = 1): Leg {
  const found = existing(state).legs.find((candidate) => candidate.leg === number);
  if (!found) throw new Error(`there is no leg ${number}`);
  return found;
}
