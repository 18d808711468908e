import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { RecordedEvent } from '../../src/event-store/event-store.js';
import { RecentEvents } from '../../src/event-store/recent-events.js';

const MAX_EVENTS = 1_024;
const MAX_BYTES = 32 * 1024 * 1024;

const eventAt = (position: number): RecordedEvent => ({
  id: String(position),
  type: 'ScheduleReached',
  data: {},
  metadata: {},
  streamId: 'delivery-1',
  revision: 0,
  position: BigInt(position),
  created: '',
});
const positionsAfter = (recent: RecentEvents, position: number, limit: number) =>
  recent.after(position, limit)?.map((event) => Number(event.position));

/** Many small ones, some huge ones, and now and then a jump, as after a restart. */
const runs = fc.array(
  fc.record({
    jump: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: 1, max: 9 }) }),
    count: fc.integer({ min: 1, max: 5_000 }),
    bytes: fc.oneof(fc.integer({ min: 1, max: 2_000 }), fc.integer({ min: 1, max: 40 * 1024 * 1024 })),
  }),
  { minLength: 1, maxLength: 6 },
);

it('has the newest events without a gap, as many as its bounds allow and no more', () => {
  fc.assert(
    fc.property(runs, fc.integer({ min: 1, max: 600 }), (all, limit) => {
      const recent = new RecentEvents();
      let kept: { position: number; bytes: number }[] = [];
      let position = 0;
      for (const { jump, count, bytes } of all) {
        if (jump > 0) kept = [];
        position += jump;
        for (let index = 0; index < count; index++) {
          recent.add(eventAt(++position), bytes);
          kept.push({ position, bytes });
        }
        kept = kept.slice(-MAX_EVENTS);
        while (kept.reduce((sum, each) => sum + each.bytes, 0) > MAX_BYTES) kept.shift();
        const oldest = kept[0]?.position;
        if (oldest === undefined) expect(recent.after(position - 1, limit)).toBeUndefined();
        else {
          expect(recent.after(oldest - 2, limit)).toBeUndefined();
          expect(positionsAfter(recent, oldest - 1, limit)).toEqual(kept.slice(0, limit).map((each) => each.position));
          const middle = oldest + (kept.length >> 1);
          expect(positionsAfter(recent, middle - 1, limit)).toEqual(
            kept
              .filter((each) => each.position >= middle)
              .slice(0, limit)
              .map((each) => each.position),
          );
        }
        expect(recent.after(position, limit)).toBeUndefined();
      }
    }),
    { numRuns: 60 },
  );
});

it('forgets what everybody has had, and nothing else', () => {
  const step = fc.record({ count: fc.nat({ max: 2_000 }), had: fc.nat({ max: 3_000 }) });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 8 }), (steps) => {
      const recent = new RecentEvents();
      let [position, had] = [0, 0];
      for (const { count, had: more } of steps) {
        for (let index = 0; index < count; index++) recent.add(eventAt(++position), 100);
        had = Math.min(had + more, position);
        recent.forget(had);
        const oldest = Math.max(had, position - MAX_EVENTS);
        if (oldest > 0) expect(recent.after(oldest - 1, MAX_EVENTS)).toBeUndefined();
        const left = Array.from({ length: position - oldest }, (_, index) => oldest + index + 1);
        expect(positionsAfter(recent, oldest, MAX_EVENTS)).toEqual(left.length > 0 ? left : undefined);
        expect(recent.position).toBe(position);
      }
    }),
    { numRuns: 100 },
  );
});
