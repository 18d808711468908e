import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { delivery } from '../../src/domain/delivery.js';
import type { RecordReport } from '../../src/domain/delivery-commands.js';
import type { DeliveryState } from '../../src/domain/delivery-state.js';
import { deliveryStatus } from '../../src/domain/delivery-status.js';
import type { ReportKind } from '../../src/domain/reports.js';
import { at, bySmtp, email, existing, leg, requested, started, succeeded } from '../support/deliveries.js';

/** Providers report in any order, late and twice; what a delivery comes to must not depend on it. */

const RECIPIENTS = 3;
const KINDS: readonly ReportKind[] = ['Delivered', 'Bounced', 'Complained', 'Opened', 'Clicked', 'OptedOut'];

const order = (state: DeliveryState, command: RecordReport): DeliveryState => {
  const decision = delivery.decide(command, state);
  if (!decision.ok) throw new Error(decision.rejection.message);
  return decision.events.reduce(delivery.evolve, state);
};

const report = fc.record({
  kind: fc.constantFrom(...KINDS),
  recipient: fc.constantFrom(...Array.from({ length: RECIPIENTS }, (_, index) => `r${index}`)),
  id: fc.nat({ max: 30 }),
  seconds: fc.nat({ max: 1_000 }),
});

const commandOf = ({ kind, recipient, id, seconds }: typeof report extends fc.Arbitrary<infer T> ? T : never) =>
  ({
    type: 'RecordReport',
    now: at(2_000),
    kind,
    leg: 1,
    round: 0,
    via: { channel: 'EMAIL', address: 'ada@example.com' },
    provider: 'smtp',
    // One id always means the same report.
    reportId: `${kind}/${recipient}/${id}/${seconds}`,
    happenedAt: at(seconds),
    recipient,
    ...(kind === 'Bounced' && {
      failure: { category: 'PERMANENT', code: `B_${id}`, message: 'no such mailbox' },
    }),
  }) as RecordReport;

const sent = (recipients: number): DeliveryState =>
  [requested({ legs: [{ ...leg(1, email), recipients }] }), started(bySmtp(1)), succeeded(bySmtp(1), false)].reduce(
    delivery.evolve,
    delivery.initial,
  );

describe('reports of a provider', () => {
  it('lead to the same in every order, and however often each comes', () => {
    fc.assert(
      fc.property(
        fc.array(report, { maxLength: 25 }).chain((reports) =>
          fc.record({
            reports: fc.constant(reports),
            shuffled: fc.shuffledSubarray([...reports, ...reports], {
              minLength: reports.length * 2,
              maxLength: reports.length * 2,
            }),
          }),
        ),
        ({ reports, shuffled }) => {
          const one = existing(reports.map(commandOf).reduce(order, sent(RECIPIENTS)));
          const other = existing(shuffled.map(commandOf).reduce(order, sent(RECIPIENTS)));
          const { seen: oneSeen = [], ...oneReports } = one.legs[0]?.reports ?? {};
          const { seen: otherSeen = [], ...otherReports } = other.legs[0]?.reports ?? {};
          expect(otherReports).toEqual(oneReports);
          // A second confirmation for one recipient is no news, whichever of the two came first.
          const told = (ids: readonly string[]) => ids.filter((id) => !id.startsWith('Delivered')).sort();
          expect(told(otherSeen)).toEqual(told(oneSeen));
          expect(deliveryStatus(other)).toBe(deliveryStatus(one));
          expect(other.legs[0]?.failure).toEqual(one.legs[0]?.failure);
        },
      ),
    );
  });

  it('only ever move the status on: sent, delivered, bounced', () => {
    const RANK = ['SENT', 'DELIVERED', 'BOUNCED'];
    fc.assert(
      fc.property(fc.array(report, { maxLength: 20 }), (reports) => {
        let state = sent(RECIPIENTS);
        let rank = 0;
        for (const command of reports.map(commandOf)) {
          state = order(state, command);
          const next = RANK.indexOf(deliveryStatus(existing(state)));
          expect(next).toBeGreaterThanOrEqual(rank);
          rank = next;
        }
      }),
    );
  });

  it('are remembered up to a bound', () => {
    let state = sent(1);
    for (let id = 0; id < 1_000; id++)
      state = order(state, commandOf({ kind: 'Opened', recipient: 'r0', id, seconds: id }));
    expect(existing(state).legs[0]?.reports).toMatchObject({ opens: 200 });
    state = order(state, commandOf({ kind: 'Delivered', recipient: 'r0', id: 1, seconds: 1 }));
    expect(deliveryStatus(existing(state))).toBe('DELIVERED');
  });
});

describe('a report', () => {
  const delivered = commandOf({ kind: 'Delivered', recipient: 'r0', id: 1, seconds: 1 });
  const bounced = commandOf({ kind: 'Bounced', recipient: 'r0', id: 2, seconds: 2 });
  const types = (state: DeliveryState, command: RecordReport) => {
    const decision = delivery.decide(command, state);
    return decision.ok ? decision.events.map(({ type }) => type) : decision.rejection.code;
  };

  it('confirms nothing until all recipients are confirmed', () => {
    const state = order(sent(2), delivered);
    expect(deliveryStatus(existing(state))).toBe('SENT');
    expect(deliveryStatus(existing(order(state, { ...delivered, recipient: 'r1', reportId: 'x' })))).toBe('DELIVERED');
  });

  it('that comes before the outcome of its own attempt is not lost', () => {
    const before = [requested({ legs: [leg(1, email)] }), started(bySmtp(1))].reduce(delivery.evolve, delivery.initial);
    const told = order(before, delivered);
    expect(existing(told).legs[0]?.progress.tag).toBe('attempting');
    expect(deliveryStatus(existing(delivery.evolve(told, succeeded(bySmtp(1), false))))).toBe('DELIVERED');
  });

  it('of a bounce goes on to the next route, and the confirmation of the one before changes nothing then', () => {
    const spare = { channel: 'SMS', address: '+14155552671' } as const;
    const state = [requested({ legs: [leg(1, email, spare)] }), started(bySmtp(1)), succeeded(bySmtp(1), false)].reduce(
      delivery.evolve,
      delivery.initial,
    );
    expect(types(state, bounced)).toEqual(['Bounced', 'FallbackChosen']);
    const after = order(state, bounced);
    expect(existing(after).legs[0]).toMatchObject({ route: 1, progress: { tag: 'ready' } });
    expect(existing(order(after, delivered)).legs[0]).toMatchObject({ route: 1, progress: { tag: 'ready' } });
    const other = order(order(state, delivered), bounced);
    expect(existing(other).legs[0]).toMatchObject({ route: 1, progress: { tag: 'ready' } });
  });

  it('can be answered by a person with another try', () => {
    const after = order(sent(1), bounced);
    expect(deliveryStatus(existing(after))).toBe('BOUNCED');
    const retried = delivery.decide({ type: 'Retry', now: at(9), by: 'ada' }, after);
    if (!retried.ok) throw new Error('refused');
    const again = existing(retried.events.reduce(delivery.evolve, after));
    expect(again.legs[0]).toMatchObject({ round: 1, progress: { tag: 'ready' } });
    // Late news of the first round is kept, and decides nothing.
    const late = existing(order(again, { ...delivered, reportId: 'late' }));
    expect(late.legs[0]).toMatchObject({ progress: { tag: 'ready' } });
  });

  it('about an attempt that never was is refused', () => {
    expect(types(sent(1), { ...delivered, leg: 2 })).toBe('NOT_FOUND');
    expect(types(sent(1), { ...delivered, round: 1 })).toBe('NOT_FOUND');
    expect(types(sent(1), { ...delivered, via: { channel: 'SMS' } })).toBe('NOT_FOUND');
    expect(types(delivery.initial, delivered)).toBe('NOT_FOUND');
  });
});
