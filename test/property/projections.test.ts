import fc from 'fast-check';
import { expect, it } from 'vitest';
import { delivery } from '../../src/domain/delivery.js';
import { nextAttempt } from '../../src/domain/delivery-attempts.js';
import type { DeliveryCommand } from '../../src/domain/delivery-commands.js';
import type { DeliveryRequested, LegPlan } from '../../src/domain/delivery-events.js';
import type { DeliveryState } from '../../src/domain/delivery-state.js';
import { retryPolicy } from '../../src/domain/retry-policy.js';
import { CHANNELS, ERROR_CATEGORIES, PRIORITIES } from '../../src/domain/vocabulary.js';
import { EventCodec } from '../../src/event-store/codec.js';
import type { EventReader, RecordedEvent } from '../../src/event-store/event-store.js';
import { attemptsOf } from '../../src/projections/attempts.js';
import { type Contribution, contributions, difference } from '../../src/projections/dashboard.js';
import { deliveryRow } from '../../src/projections/deliveries.js';
import { Folder } from '../../src/projections/runner/fold.js';
import type { DeliveryView } from '../../src/projections/views.js';

const codec = new EventCodec();
const START = Date.UTC(2026, 2, 2, 12);

/** What somebody or something does to one of the deliveries, `afterMs` after what was done before. */
interface Step {
  readonly delivery: number;
  readonly afterMs: number;
  readonly what: 'attempt' | 'start' | 'approve' | 'reject' | 'cancel' | 'retry' | 'expire' | 'schedule' | 'doubt';
  readonly leg: number;
  readonly accepted: boolean;
  readonly delivered: boolean;
  readonly category: (typeof ERROR_CATEGORIES)[number];
}

const route = fc.record({ channel: fc.constantFrom(...CHANNELS) });
const legs = fc
  .array(fc.array(route, { minLength: 1, maxLength: 2 }), { minLength: 1, maxLength: 2 })
  .map((plans) => plans.map((routes, index): LegPlan => ({ leg: index + 1, routes, recipients: index + 1 })));
const request = fc.record({
  organizationId: fc.constantFrom('one', 'two'),
  priority: fc.constantFrom(...PRIORITIES),
  legs,
  slaSeconds: fc.option(fc.integer({ min: 1, max: 600 }), { nil: undefined }),
  isScheduled: fc.boolean(),
  needsApproval: fc.boolean(),
});
const step: fc.Arbitrary<Step> = fc.record({
  delivery: fc.nat(4),
  afterMs: fc.integer({ min: 0, max: 1_000_000 }),
  what: fc.constantFrom(
    ...([
      'attempt',
      'attempt',
      'start',
      'approve',
      'reject',
      'cancel',
      'retry',
      'expire',
      'schedule',
      'doubt',
    ] as const),
  ),
  leg: fc.integer({ min: 1, max: 2 }),
  accepted: fc.boolean(),
  delivered: fc.boolean(),
  category: fc.constantFrom(...ERROR_CATEGORIES),
});

/** Whatever the domain decides when these steps are taken, as the log would have it. */
const history = fc
  .tuple(fc.array(request, { minLength: 1, maxLength: 5 }), fc.array(step, { maxLength: 40 }))
  .map(([requests, steps]) => {
    const log = new Log();
    for (const [index, { isScheduled, needsApproval, slaSeconds, ...wanted }] of requests.entries()) {
      const data: DeliveryRequested['data'] = {
        ...wanted,
        content: {},
        tags: [],
        expiresAt: new Date(START + 86_400_000).toISOString(),
        ...(slaSeconds !== undefined && { slaSeconds }),
        ...(isScheduled && { scheduledAt: new Date(START + 60_000).toISOString() }),
        ...(needsApproval && { approval: { approvers: ['ada'], minimum: 1 } }),
      };
      log.execute(index, { type: 'RequestDelivery', id: log.id(index), now: log.now(), request: data });
    }
    for (const one of steps) {
      log.elapsedMs += one.afterMs;
      const command = commandOf(one, log.states[one.delivery], log.now());
      if (command) log.execute(one.delivery, command);
    }
    return log;
  });

function commandOf(one: Step, state: DeliveryState | undefined, now: string): DeliveryCommand | undefined {
  if (state === undefined || state.tag === 'absent') return undefined;
  const leg = state.legs.find((candidate) => candidate.leg === one.leg);
  switch (one.what) {
    case 'attempt': {
      if (state.tag === 'held' || !leg) return undefined;
      const attempt = leg.progress.tag === 'attempting' ? leg.progress.attempt : nextAttempt(leg, 'p', now);
      const failure = { category: one.category, code: 'X', message: 'x' };
      const outcome = one.accepted
        ? ({ kind: 'accepted', delivered: one.delivered } as const)
        : ({ kind: 'rejected', failure } as const);
      return { type: 'RecordOutcome', now, attempt, outcome, policy: retryPolicy({ maxAttempts: 2 }), random: 0.5 };
    }
    case 'start':
      return leg && { type: 'StartAttempt', now, leg: one.leg, provider: 'p' };
    case 'doubt':
      return leg && { type: 'DeclareInDoubt', now, leg: one.leg, resolution: one.accepted ? 'resend' : 'hold' };
    case 'approve':
      return { type: 'Approve', now, approver: 'ada' };
    case 'reject':
      return { type: 'Reject', now, approver: 'ada', reason: 'no' };
    case 'cancel':
      return { type: 'Cancel', now, by: 'ada' };
    case 'retry':
      return { type: 'Retry', now, by: 'ada' };
    case 'expire':
      return { type: 'Expire', now };
    case 'schedule':
      return { type: 'ReachSchedule', now };
  }
}

class Log implements Pick<EventReader, 'readStream'> {
  readonly events: RecordedEvent[] = [];
  readonly states: DeliveryState[] = [];
  elapsedMs = 0;

  now = (): string => new Date(START + this.elapsedMs).toISOString();
  id = (index: number): string => `d0000000-0000-4000-8000-00000000000${index}`;

  execute(index: number, command: DeliveryCommand): void {
    const decision = delivery.decide(command, this.states[index] ?? delivery.initial);
    if (!decision.ok) return;
    for (const event of decision.events) {
      this.states[index] = delivery.evolve(this.states[index] ?? delivery.initial, event);
      const streamId = `delivery-${this.id(index)}`;
      const encoded = codec.encode(event, `event-${this.events.length}`, {
        organizationId: 'one',
        commandId: 'c',
        actor: 'a',
      });
      this.events.push({
        ...encoded,
        streamId,
        revision: this.events.filter((before) => before.streamId === streamId).length,
        position: BigInt(this.events.length + 1),
        created: event.at,
      });
    }
  }

  async readStream(streamId: string, { limit = Number.POSITIVE_INFINITY } = {}): Promise<RecordedEvent[]> {
    return this.events.filter((event) => event.streamId === streamId).slice(0, limit);
  }
}

/** The same log, cut into batches of these sizes and folded with a cache that forgets. */
async function folded(log: Log, sizes: readonly number[], cachedViews: number) {
  const folder = new Folder(log as unknown as EventReader, codec, cachedViews);
  const batches = [];
  for (let at = 0, batch = 0; at < log.events.length; batch++) {
    const size = sizes[batch % sizes.length] as number;
    const changes = await folder.fold(log.events.slice(at, at + size));
    expect(changes.poison).toEqual([]);
    batches.push(changes.deliveries);
    at += size;
  }
  const views = new Map<string, DeliveryView>();
  for (const { id, after } of batches.flat()) views.set(id, after);
  return { batches, views: [...views.values()] };
}

/** Buckets by name, without counters that are zero. */
function summed(rows: readonly Contribution[]): Record<string, Record<string, number>> {
  const buckets: Record<string, Record<string, number>> = {};
  for (const { organizationId, hour, channel, counts } of rows) {
    const key = [organizationId, hour, channel].join(' ');
    buckets[key] ??= {};
    const bucket = buckets[key];
    for (const [counter, count = 0] of Object.entries(counts)) bucket[counter] = (bucket[counter] ?? 0) + count;
  }
  for (const bucket of Object.values(buckets))
    for (const [counter, count] of Object.entries(bucket)) if (count === 0) delete bucket[counter];
  return buckets;
}

const sizes = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 });
const cache = fc.integer({ min: 1, max: 5 });

it('the dashboard is the sum over all deliveries, however history was cut into batches', async () => {
  await fc.assert(
    fc.asyncProperty(history, sizes, cache, async (log, cuts, cachedViews) => {
      const { batches, views } = await folded(log, cuts, cachedViews);
      const added = batches.flatMap((changes) => difference(changes as never));
      expect(summed(added)).toEqual(summed(views.flatMap(contributions)));
    }),
    { numRuns: 300 },
  );
});

it('rows of deliveries and attempts do not depend on how history was cut into batches', async () => {
  await fc.assert(
    fc.asyncProperty(history, sizes, cache, async (log, cuts, cachedViews) => {
      const cut = await folded(log, cuts, cachedViews);
      const whole = await folded(log, [1_000], 100);
      expect(cut.views.map(deliveryRow).sort(byId)).toEqual(whole.views.map(deliveryRow).sort(byId));
      const attempts = ({ batches }: typeof cut) => {
        const rows = new Map(
          batches.flatMap((changes) =>
            changes.flatMap(({ id, events }) => attemptsOf(id, events).map((row) => [row.id, row] as const)),
          ),
        );
        return [...rows.values()].sort(byId);
      };
      expect(attempts(cut)).toEqual(attempts(whole));
    }),
    { numRuns: 200 },
  );
});

it('every leg is counted once, in at most one of delivered, failed and pending', async () => {
  await fc.assert(
    fc.asyncProperty(history, async (log) => {
      for (const view of (await folded(log, [1_000], 100)).views)
        for (const { counts } of contributions(view)) {
          const { delivered = 0, failed = 0, pending = 0 } = counts;
          expect(counts.total).toBe(1);
          expect(delivered + failed + pending).toBe(deliveryRow(view).status === 'CANCELLED' ? delivered + failed : 1);
        }
    }),
    { numRuns: 100 },
  );
});

const byId = (a: { id: string }, b: { id: string }): number => (a.id < b.id ? -1 : 1);
