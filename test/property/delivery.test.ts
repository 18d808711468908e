import fc from 'fast-check';
import { expect, it } from 'vitest';
import { decide } from '../../src/domain/delivery.js';
import { nextAttempt } from '../../src/domain/delivery-attempts.js';
import type { DeliveryCommand } from '../../src/domain/delivery-commands.js';
import type { AttemptRef, DeliveryEvent, DeliveryRequested, Route } from '../../src/domain/delivery-events.js';
import { absent, type DeliveryState, evolve, type Leg } from '../../src/domain/delivery-state.js';
import { deliveryStatus, holdsOf, isClosed } from '../../src/domain/delivery-status.js';
import { type RetryPolicy, retryPolicy } from '../../src/domain/retry-policy.js';
import { ERROR_CATEGORIES } from '../../src/domain/vocabulary.js';
import { react } from '../../src/sagas/delivery-process.js';
import {
  accepted,
  at,
  confirmed,
  DELIVERY,
  email,
  existing,
  failure,
  leg,
  OTHER_DELIVERY,
  outcome,
  refused,
  requested,
  webhook,
} from '../support/deliveries.js';

/**
 * A delivery's life as a list of moves at times that only go forward. Moves know states that may be old (`staleness`
 * moves ago), as instances do that believe they still own the delivery.
 */
interface Move {
  readonly what:
    | 'schedule'
    | 'dependency'
    | 'approve'
    | 'reject'
    | 'timeout'
    | 'start'
    | 'outcome'
    | 'doubt'
    | 'resolve'
    | 'expire'
    | 'cancel'
    | 'retry';
  readonly afterSeconds: number;
  readonly leg: number;
  readonly staleness: number;
  readonly how: number;
}
interface Life {
  readonly request: DeliveryRequested['data'];
  readonly policy: RetryPolicy;
  readonly moves: readonly Move[];
}

const routes = fc.array(fc.constantFrom<Route>(webhook, email), { minLength: 1, maxLength: 3 });
const requests = fc
  .record(
    {
      plans: fc.array(routes, { minLength: 1, maxLength: 3 }),
      scheduledAt: fc.integer({ min: 0, max: 100 }).map(at),
      expiresAt: fc.integer({ min: 101, max: 500 }).map(at),
      dependsOn: fc.constant([OTHER_DELIVERY]),
      approval: fc.record({
        approvers: fc.constant(['ada', 'bob']),
        minimum: fc.integer({ min: 1, max: 2 }),
        deadline: fc.integer({ min: 1, max: 300 }).map(at),
      }),
    },
    { requiredKeys: ['plans'] },
  )
  .chain(({ plans, ...rest }) => {
    const legs = plans.map((plan, index) => leg(index + 1, ...plan));
    // Most of those that are held never come to an attempt.
    return fc.constantFrom({}, rest).map((holds) => requested({ legs, ...holds }).data);
  });

const often = <Value>(weight: number, value: Value) => ({ weight, arbitrary: fc.constant(value) });
const move: fc.Arbitrary<Move> = fc.record({
  what: fc.oneof(
    often(8, 'outcome' as const),
    ...(['start', 'doubt', 'resolve'] as const).map((what) => often(4, what)),
    ...(['schedule', 'dependency', 'approve', 'retry'] as const).map((what) => often(2, what)),
    ...(['reject', 'timeout', 'expire', 'cancel'] as const).map((what) => often(1, what)),
  ),
  afterSeconds: fc.integer({ min: 0, max: 30 }),
  leg: fc.nat(),
  staleness: fc.oneof(often(3, 0), { weight: 1, arbitrary: fc.nat({ max: 4 }) }),
  how: fc.nat({ max: 1_000 }),
});
const lives: fc.Arbitrary<Life> = fc.record({
  request: requests,
  policy: fc.integer({ min: 1, max: 3 }).map((maxAttempts) => retryPolicy({ maxAttempts })),
  moves: fc.array(move, { maxLength: 40, size: 'max' }),
});

/** The attempt that the engine makes, or has made, of this leg in this state. */
function attemptOf(state: DeliveryState, { progress, ...rest }: Leg, now: string): AttemptRef | undefined {
  if (progress.tag === 'attempting' || progress.tag === 'doubtful') return progress.attempt;
  const isWanted = state.tag === 'active' && (progress.tag === 'ready' || progress.tag === 'retrying');
  return isWanted ? nextAttempt({ progress, ...rest }, 'smtp', now) : undefined;
}

const outcomes = [confirmed, accepted, ...ERROR_CATEGORIES.map((category) => refused(failure(category)))];

function commandOf(
  { what, leg: which, how }: Move,
  now: string,
  seen: DeliveryState,
  policy: RetryPolicy,
): DeliveryCommand | undefined {
  const { legs } = existing(seen);
  const chosen = legs[which % legs.length] as Leg;
  const approver = how % 2 === 0 ? 'ada' : 'bob';
  /** Rarely any leg would do for the rarer moves. */
  const legThatIs = (tag: Leg['progress']['tag']) => legs.find(({ progress }) => progress.tag === tag) ?? chosen;
  const commands: Record<Move['what'], () => DeliveryCommand | undefined> = {
    schedule: () => ({ type: 'ReachSchedule', now }),
    dependency: () => ({
      type: 'ResolveDependency',
      now,
      deliveryId: OTHER_DELIVERY,
      ...(how % 4 === 0 && { failure: failure('PERMANENT') }),
    }),
    approve: () => ({ type: 'Approve', now, approver }),
    reject: () => ({ type: 'Reject', now, approver, reason: 'no' }),
    timeout: () => ({ type: 'TimeOutApproval', now }),
    start: () => ({ type: 'StartAttempt', now, leg: chosen.leg, provider: 'smtp' }),
    outcome: () => {
      const attempt = attemptOf(seen, chosen, now);
      if (!attempt) return undefined;
      return outcome(attempt, outcomes[how % outcomes.length] as (typeof outcomes)[number], { now, policy });
    },
    doubt: () => ({
      type: 'DeclareInDoubt',
      now,
      leg: legThatIs('attempting').leg,
      resolution: how % 2 === 0 ? 'resend' : 'hold',
    }),
    resolve: () => {
      const { leg: number, attempts } = legThatIs('doubtful');
      const attempt = Math.max(1, attempts - (how % 3 === 0 ? 1 : 0));
      return {
        type: 'ResolveAttempt',
        now,
        leg: number,
        attempt,
        outcome: how % 2 === 0 ? 'sent' : 'not-sent',
        by: 'ada',
      };
    },
    expire: () => ({ type: 'Expire', now }),
    cancel: () => ({ type: 'Cancel', now, by: 'ada' }),
    retry: () => ({ type: 'Retry', now, by: 'ada' }),
  };
  return commands[what]();
}

interface Step {
  readonly command: DeliveryCommand;
  readonly now: string;
  readonly before: DeliveryState;
  readonly events: readonly DeliveryEvent[];
  readonly state: DeliveryState;
}

const fold = (events: readonly DeliveryEvent[], from: DeliveryState = absent) => events.reduce(evolve, from);

/** Lives it; fails of itself when deciding or folding throws. */
function live({ request, policy, moves }: Life): Step[] {
  const first: DeliveryCommand = { type: 'RequestDelivery', id: DELIVERY, now: at(0), request };
  const steps: Step[] = [];
  const take = (command: DeliveryCommand, now: string, before: DeliveryState) => {
    const decision = decide(command, before);
    const events = decision.ok ? decision.events : [];
    steps.push({ command, now, before, events, state: fold(events, before) });
  };
  take(first, at(0), absent);
  let seconds = 0;
  for (const each of moves) {
    seconds += each.afterSeconds;
    const seen = steps.at(-1 - Math.min(each.staleness, steps.length - 1)) as Step;
    const last = steps.at(-1) as Step;
    const command = commandOf(each, at(seconds), seen.state, policy);
    if (command) take(command, at(seconds), last.state);
  }
  return steps;
}

const eventsOf = (steps: readonly Step[]) => steps.flatMap(({ events }) => events);
const always = (property: (steps: Step[], life: Life) => void) =>
  fc.assert(
    fc.property(lives, (life) => property(live(life), life)),
    { numRuns: 1_000 },
  );

it('a delivery that has ended stays so, unless a person retries it', () => {
  always((steps) => {
    for (const { before, state, command } of steps)
      if (isClosed(before) && command.type !== 'Retry') expect(isClosed(state)).toBe(true);
  });
});

it('its status never goes from one end to another, unless a person retries it', () => {
  always((steps) => {
    for (const { before, state, command } of steps)
      if (isClosed(before) && command.type !== 'Retry')
        expect(deliveryStatus(existing(state))).toBe(deliveryStatus(existing(before)));
  });
});

it('attempts of a leg are numbered upwards, and each has at most one outcome', () => {
  always((steps) => {
    const newest = new Map<number, number>();
    const answered = new Set<string>();
    for (const { type, data } of eventsOf(steps)) {
      if (type === 'AttemptStarted') {
        expect(data.number).toBe((newest.get(data.leg) ?? 0) + 1);
        newest.set(data.leg, data.number);
      }
      if (type !== 'AttemptSucceeded' && type !== 'AttemptFailed' && type !== 'AttemptResolved') continue;
      expect(data.number - (newest.get(data.leg) ?? 0)).toBeOneOf([0, 1]);
      newest.set(data.leg, data.number);
      expect(answered).not.toContain(`${data.leg}/${data.number}`);
      answered.add(`${data.leg}/${data.number}`);
    }
  });
});

it('no route is failed more often than its policy allows, in one round', () => {
  always((steps, { policy }) => {
    const failures = new Map<string, number>();
    for (const { before, events } of steps)
      for (const { type, data } of events) {
        if (type !== 'AttemptFailed') continue;
        const round = existing(before).legs.find((each) => each.leg === data.leg)?.round;
        const key = `${data.leg}/${data.route}/${round}`;
        failures.set(key, (failures.get(key) ?? 0) + 1);
        expect(failures.get(key)).toBeLessThanOrEqual(policy.maxAttempts);
      }
  });
});

it('an outcome that was recorded is never recorded again, whatever happened since', () => {
  always((steps) => {
    const recorded: DeliveryCommand[] = [];
    for (const { command, events, state } of steps) {
      if (command.type === 'RecordOutcome' && events.length > 0) recorded.push(command);
      for (const again of recorded) expect(decide(again, state)).toEqual({ ok: true, events: [] });
    }
  });
});

it('what a person has found out about an attempt is asked for once, and taken as often as it is said', () => {
  always((steps) => {
    const resolved = new Set<string>();
    for (const { command, before, events, state } of steps) {
      if (command.type !== 'ResolveAttempt' || events.length === 0) continue;
      const wasHeld = holdsOf(existing(before)).some(({ detail }) => detail?.leg === command.leg);
      expect(wasHeld).toBe(true);
      expect(holdsOf(existing(state)).some(({ detail }) => detail?.leg === command.leg)).toBe(false);
      expect(resolved).not.toContain(`${command.leg}/${command.attempt}`);
      resolved.add(`${command.leg}/${command.attempt}`);
      expect(decide(command, state)).toEqual({ ok: true, events: [] });
      const contrary = { ...command, outcome: command.outcome === 'sent' ? 'not-sent' : 'sent' } as const;
      expect(decide(contrary, state)).toMatchObject({ ok: false, rejection: { code: 'CONFLICT' } });
    }
  });
});

it('its stream, read back from JSON, folds to the same state', () => {
  always((steps) => {
    const stored = JSON.parse(JSON.stringify(eventsOf(steps))) as DeliveryEvent[];
    expect(fold(stored)).toEqual(steps.at(-1)?.state);
  });
});

it('one that has not ended always goes on by itself or shows what it waits for', () => {
  always((steps) => {
    for (const { state, now } of steps) {
      if (state.tag === 'absent' || isClosed(state)) continue;
      const { commands, attempts, wakeAt, awaits } = react(state, now, () => false);
      const underWay = state.legs.filter(({ progress }) => progress.tag === 'attempting');
      const reasons = [
        ...commands,
        ...attempts,
        ...awaits,
        ...underWay,
        ...holdsOf(state),
        ...(wakeAt ? [wakeAt] : []),
      ];
      expect(reasons).not.toEqual([]);
      if (wakeAt !== undefined) expect(wakeAt > now).toBe(true);
    }
  });
});

it('what the process manager asks for is never refused, so that it does not ask for it again and again', () => {
  always((steps) => {
    for (const { state, now } of steps) {
      const { commands, attempts } = react(state, now, () => false);
      const starts = attempts.map(
        (each): DeliveryCommand => ({ type: 'StartAttempt', now, leg: each.leg, provider: 'smtp' }),
      );
      for (const command of [...commands, ...starts])
        expect(decide(command, state)).toMatchObject({ ok: true, events: [expect.anything()] });
    }
  });
});

it('lives long enough to be worth looking at', () => {
  const types = new Set<string>();
  const attempts: AttemptRef[] = [];
  for (const life of fc.sample(lives, { numRuns: 500, seed: 7 }))
    for (const { type, data } of eventsOf(live(life))) {
      types.add(type);
      if (type === 'AttemptFailed') attempts.push(data);
    }
  expect(types.size).toBe(18);
  expect(Math.max(...attempts.map(({ number }) => number))).toBeGreaterThanOrEqual(4);
});
