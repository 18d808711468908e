import { describe, expect, it } from 'vitest';
import type { DeliveryEvent } from '../../src/domain/delivery-events.js';
import { absent } from '../../src/domain/delivery-state.js';
import { dependencyOutcome, react } from '../../src/sagas/delivery-process.js';
import {
  at,
  byEmail,
  bySmtp,
  byWebhook,
  cancelledBy,
  deadLettered,
  expired,
  failed,
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
} from '../support/deliveries.js';

/** What the process manager wants at a moment, in a form that reads well: commands by type, attempts by leg. */
function reaction(history: DeliveryEvent[], now: string, busyLegs: number[] = []) {
  const { commands, attempts, ...rest } = react(given(...history).state, now, (number) => busyLegs.includes(number));
  for (const command of commands) expect(command).toEqual({ type: command.type, now });
  return { commands: commands.map(({ type }) => type), attempts: attempts.map((each) => each.leg), ...rest };
}
const idle = { commands: [], attempts: [], awaits: [] };

it('a failure that is read without what follows from it calls for nothing yet', () => {
  expect(reaction([requested(), failed(byWebhook(1))], at(1))).toEqual(idle);
});

const two = requested({ legs: [leg(1, webhook), leg(2, webhook)] });
const rejected: DeliveryEvent = { type: 'ApprovalRejected', at: at(5), data: { approver: 'ada', reason: 'no' } };
const awaitingAda = requested({ approval: { approvers: ['ada'], minimum: 1, deadline: at(300) } });
const failedForGood = [requested(), failed(byWebhook(1), gone), deadLettered(gone)];

describe('a delivery that waits', () => {
  const all = requested({
    scheduledAt: at(60),
    expiresAt: at(600),
    dependsOn: [OTHER_DELIVERY],
    approval: { approvers: ['ada'], minimum: 1, deadline: at(300) },
  });

  it('wakes at the nearest of its times and asks after its dependencies', () => {
    const awaits = [OTHER_DELIVERY];
    expect(reaction([all], at(1))).toEqual({ ...idle, awaits, wakeAt: at(60) });
    expect(reaction([all, { type: 'ScheduleReached', at: at(60), data: {} }], at(61))).toEqual({
      ...idle,
      awaits,
      wakeAt: at(300),
    });
  });

  it('decides what is due', () => {
    expect(reaction([all], at(60))).toMatchObject({ commands: ['ReachSchedule'], wakeAt: at(300) });
    expect(reaction([awaitingAda], at(300))).toEqual({ ...idle, commands: ['TimeOutApproval'] });
  });

  it('does nothing else once it has expired', () => {
    expect(reaction([all], at(600))).toEqual({ ...idle, commands: ['Expire'] });
  });
});

describe('a delivery on its way', () => {
  it('attempts every leg that is ready and not being attempted', () => {
    expect(reaction([two], at(1))).toEqual({ ...idle, attempts: [1, 2] });
    expect(reaction([two], at(1), [1])).toEqual({ ...idle, attempts: [2] });
    expect(reaction([two, succeeded(byWebhook(1))], at(1))).toEqual({ ...idle, attempts: [2] });
  });

  it('waits for a retry until it is due', () => {
    const waiting = [two, failed(byWebhook(1)), retryAt(at(11)), succeeded({ ...byWebhook(1), leg: 2 })];
    expect(reaction(waiting, at(10.999))).toEqual({ ...idle, wakeAt: at(11) });
    expect(reaction(waiting, at(11))).toEqual({ ...idle, attempts: [1] });
    expect(reaction(waiting, at(11), [1])).toEqual(idle);
  });

  it('wakes for its expiry when that comes before the retry', () => {
    const perishable = requested({ expiresAt: at(60) });
    expect(reaction([perishable, failed(byWebhook(1)), retryAt(at(90))], at(2))).toEqual({ ...idle, wakeAt: at(60) });
    expect(reaction([perishable, failed(byWebhook(1)), retryAt(at(90))], at(60))).toEqual({
      ...idle,
      commands: ['Expire'],
    });
  });

  it('does not expire while an attempt is on its way', () => {
    const perishable = requested({ expiresAt: at(60) });
    expect(reaction([perishable], at(61), [1])).toEqual(idle);
    expect(reaction([byEmail, started(bySmtp(1))], at(61))).toEqual(idle);
    const underWay = [requested({ expiresAt: at(60), legs: byEmail.data.legs }), started(bySmtp(1))];
    expect(reaction(underWay, at(61))).toEqual(idle);
  });

  it('starts nothing more after its expiry, though another leg is still on its way', () => {
    const perishable = requested({ ...two.data, expiresAt: at(60) });
    expect(reaction([perishable], at(61), [1]).attempts).toEqual([]);
  });

  it('leaves an attempt in doubt to policy, and after that to a person', () => {
    expect(reaction([byEmail, started(bySmtp(1)), inDoubt(bySmtp(1), 'resend')], at(3)).attempts).toEqual([1]);
    expect(reaction([byEmail, started(bySmtp(1)), inDoubt(bySmtp(1), 'hold')], at(3))).toEqual(idle);
  });

  it('attempts what a person wants retried', () => {
    expect(reaction([...failedForGood, retriedBy('ada', 1)], at(61)).attempts).toEqual([1]);
  });
});

describe('a delivery that has ended, or that is not known', () => {
  it.each<[string, DeliveryEvent[]]>([
    ['delivered', [requested({ expiresAt: at(60) }), succeeded(byWebhook(1))]],
    ['failed', failedForGood],
    ['cancelled', [two, cancelledBy('ada')]],
    ['expired', [two, expired]],
    ['rejected', [awaitingAda, rejected]],
    ['unknown', []],
  ])('calls for nothing: %s', (_, history) => {
    expect(reaction(history, at(1e6))).toEqual(idle);
  });
});

describe('what the end of a delivery means for another that depends on it', () => {
  it.each<[string, DeliveryEvent[], unknown]>([
    ['on its way: not known yet', [requested()], undefined],
    ['held: not known yet', [requested({ scheduledAt: at(60) })], undefined],
    ['delivered: go', [requested(), succeeded(byWebhook(1))], {}],
    ['failed: a person may still retry it', failedForGood, undefined],
    ['sent, but not confirmed: not known yet', [byEmail, started(bySmtp(1)), succeeded(bySmtp(1), false)], undefined],
  ])('%s', (_, history, expected) => {
    expect(dependencyOutcome(given(...history).state)).toEqual(expected);
  });

  it.each<[string, DeliveryEvent[]]>([
    ['cancelled', [requested(), cancelledBy('ada')]],
    ['expired', [requested(), expired]],
    ['rejected', [awaitingAda, rejected]],
  ])('%s: it will never arrive', (word, history) => {
    expect(dependencyOutcome(given(...history).state)).toEqual({
      failure: { category: 'PERMANENT', code: 'DEPENDENCY_FAILED', message: expect.stringContaining(word) },
    });
  });

  it('unknown: not known yet', () => {
    expect(dependencyOutcome(absent)).toBeUndefined();
  });
});
