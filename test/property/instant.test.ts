import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dayOf, instantNow, instantOf, millisOf } from '../../src/domain/instant.js';

const millis = fc.oneof(
  fc.integer({ min: -8_640_000_000_000_000, max: 8_640_000_000_000_000 }),
  // Close together, as they come.
  fc.integer({ min: 1_795_305_599_000, max: 1_795_305_601_000 }),
);

/** As `toISOString` writes it, with one character another one. */
const spoilt = fc
  .record({ ms: fc.integer({ min: 0, max: 4e12 }), at: fc.nat(23), char: fc.constantFrom(...'0123456789-+:.TZ /e') })
  .map(({ ms, at, char }) => {
    const text = new Date(ms).toISOString();
    return text.slice(0, at) + char + text.slice(at + 1);
  });

describe('an instant', () => {
  it('is written as a Date writes it', () => {
    fc.assert(
      fc.property(millis, (ms) => {
        expect(instantOf(ms)).toBe(new Date(ms).toISOString());
      }),
    );
  });

  it('is on the day that a Date says', () => {
    fc.assert(
      fc.property(millis, (ms) => {
        expect(`${dayOf(ms)}T`).toBe(/^.*T/.exec(new Date(ms).toISOString())?.[0]);
      }),
    );
    expect(() => dayOf(Number.NaN)).toThrow(RangeError);
  });

  it('is now, when nothing else is said', () => {
    const before = Date.now();
    const now = Date.parse(instantNow());
    expect(now).toBeGreaterThanOrEqual(before);
    expect(now).toBeLessThanOrEqual(Date.now());
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, 8_640_000_000_001_000])('is not %s', (ms) => {
    expect(() => instantOf(ms)).toThrow(RangeError);
  });

  it('is read as it was written', () => {
    fc.assert(
      fc.property(millis, (ms) => {
        expect(millisOf(instantOf(ms))).toBe(ms);
      }),
    );
  });

  it('is read as Date.parse reads it, whatever it is', () => {
    const texts = fc.oneof(
      spoilt,
      fc.string(),
      fc.constantFrom('2026-02-30T00:00:00.000Z', '2026-13-01T00:00:00.000Z'),
    );
    fc.assert(
      fc.property(texts, (text) => {
        expect(millisOf(text)).toBe(Date.parse(text));
      }),
      { numRuns: 2_000 },
    );
  });
});
