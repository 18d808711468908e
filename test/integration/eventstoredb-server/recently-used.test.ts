import fc from 'fast-check';
import { expect, it } from 'vitest';
import { RecentlyUsed } from '../../support/eventstoredb/recently-used.js';

const KEPT = 8;
const key = fc.integer({ min: 0, max: 40 }).map(String);

it('a map of what was used last has it, has what is needed, and not much more', () => {
  const step = fc.record({ key, kind: fc.constantFrom('set', 'set', 'need', 'release', 'get', 'delete') });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const map = new RecentlyUsed<{ needed: boolean }>(KEPT, ({ needed }) => needed);
      /** Everything there should be, the least recently used first. */
      const model = new Map<string, { needed: boolean }>();
      for (const { key, kind } of steps) {
        const known = model.get(key);
        if (kind === 'set' || kind === 'need') {
          const value = { needed: kind === 'need' };
          map.set(key, value);
          model.delete(key);
          model.set(key, value);
        } else if (kind === 'delete') {
          map.delete(key);
          model.delete(key);
        } else if (kind === 'release' && known) known.needed = false;
        const got = map.get(key);
        if (got) expect(got).toBe(model.get(key));
        const newest = [...model.keys()].slice(-KEPT + 1);
        if (known && model.has(key) && (newest.includes(key) || known.needed)) expect(got).toBeDefined();
        if (got) {
          model.delete(key);
          model.set(key, got);
        } else model.delete(key);
      }
    }),
  );
  const map = new RecentlyUsed<object>(KEPT);
  const all = Array.from({ length: 1_000 }, (_, index) => String(index));
  for (const name of all) map.set(name, {});
  const left = all.filter((name) => map.get(name)).length;
  expect(left).toBeGreaterThanOrEqual(KEPT - 1);
  expect(left).toBeLessThanOrEqual(2 * KEPT);
});
