import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  RETRY_STRATEGIES,
  type RetryPolicy,
  retryDelayMs,
  retryPolicy,
  retryPolicyProblems,
} from '../../src/domain/retry-policy.js';

const delayMs = fc.integer({ min: 0, max: 7 * 24 * 3_600_000 });
const policies: fc.Arbitrary<RetryPolicy> = fc.record({
  strategy: fc.constantFrom(...RETRY_STRATEGIES),
  maxAttempts: fc.integer({ min: 1, max: 100 }),
  initialDelayMs: delayMs,
  maxDelayMs: delayMs,
  multiplier: fc.double({ min: 1, max: 100, noNaN: true }),
  jitter: fc.double({ min: 0, max: 1, noNaN: true }),
  scheduleMs: fc.array(delayMs, { minLength: 1, maxLength: 10 }),
});
const failures = fc.integer({ min: 1, max: 120 });
const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const retryAfter = fc.option(fc.integer({ min: 0, max: 30 * 24 * 3_600_000 }), { nil: undefined });

describe('the delay before the next attempt', () => {
  it('is there exactly as long as the policy has attempts left', () => {
    fc.assert(
      fc.property(policies, failures, random, retryAfter, (policy, failed, chance, wish) => {
        expect(retryDelayMs(policy, failed, chance, wish) === undefined).toBe(failed >= policy.maxAttempts);
      }),
    );
  });

  it('is a whole number of milliseconds, from 0 to the longest, whatever the jitter', () => {
    fc.assert(
      fc.property(policies, failures, random, (policy, failed, chance) => {
        const delay = retryDelayMs(policy, failed, chance) ?? 0;
        expect(Number.isInteger(delay)).toBe(true);
        expect(delay).toBeGreaterThanOrEqual(0);
        expect(delay).toBeLessThanOrEqual(policy.maxDelayMs);
      }),
    );
  });

  it('stays within the jitter around the delay without jitter', () => {
    fc.assert(
      fc.property(policies, failures, random, (policy, failed, chance) => {
        const steady = retryDelayMs({ ...policy, jitter: 0 }, failed, chance);
        const spread = retryDelayMs(policy, failed, chance);
        if (steady === undefined || spread === undefined) return;
        // 1 ms for the rounding of each of the two.
        expect(spread).toBeGreaterThanOrEqual(steady * (1 - policy.jitter) - 1);
        expect(spread).toBeLessThanOrEqual(steady * (1 + policy.jitter) + 1);
      }),
    );
  });

  it('never undercuts what the provider asks for, and is not changed by a wish that is shorter', () => {
    fc.assert(
      fc.property(policies, failures, random, fc.nat(7 * 86_400_000), (policy, failed, chance, wish) => {
        const own = retryDelayMs(policy, failed, chance);
        const wished = retryDelayMs(policy, failed, chance, wish);
        expect(wished).toBe(own === undefined ? undefined : Math.max(own, wish));
      }),
    );
  });

  it.each(['EXPONENTIAL', 'LINEAR'] as const)('never shrinks from one attempt to the next: %s', (strategy) => {
    fc.assert(
      fc.property(policies, failures, random, (policy, failed, chance) => {
        const steady = { ...policy, strategy, jitter: 0, maxAttempts: 200 };
        expect(retryDelayMs(steady, failed + 1, chance)).toBeGreaterThanOrEqual(
          retryDelayMs(steady, failed, chance) as number,
        );
      }),
    );
  });

  it.each<[string, Partial<RetryPolicy>, (number | undefined)[]]>([
    ['doubles', {}, [1_000, 2_000, 4_000, 8_000, undefined]],
    ['doubles up to the longest', { maxDelayMs: 3_000 }, [1_000, 2_000, 3_000, 3_000, undefined]],
    ['triples', { multiplier: 3, maxAttempts: 4 }, [1_000, 3_000, 9_000, undefined]],
    ['grows evenly', { strategy: 'LINEAR', maxAttempts: 4 }, [1_000, 2_000, 3_000, undefined]],
    ['stays', { strategy: 'FIXED', maxAttempts: 3 }, [1_000, 1_000, undefined]],
    ['keeps a schedule', { strategy: 'SCHEDULE', scheduleMs: [5, 50] }, [5, 50, undefined]],
    [
      'repeats the last delay',
      { strategy: 'SCHEDULE', scheduleMs: [5, 50], maxAttempts: 5 },
      [5, 50, 50, 50, undefined],
    ],
    // Longer than the default maxDelayMs of 5 minutes: seed 2 wants these delays as they are.
    ['is seed 2’s', { strategy: 'SCHEDULE' }, [300_000, 900_000, 3_600_000, undefined]],
    ['is none', { maxAttempts: 1 }, [undefined]],
  ])('%s', (_, partial, expected) => {
    const policy = retryPolicy({ ...partial, jitter: 0 });
    expect(retryPolicyProblems(policy)).toEqual([]);
    expect(expected.map((_, index) => retryDelayMs(policy, index + 1, 0.5))).toEqual(expected);
  });
});

describe('a policy', () => {
  it('that is within its limits has no problems', () => {
    fc.assert(
      fc.property(policies, (policy) => {
        expect(retryPolicyProblems(policy)).toEqual([]);
      }),
    );
  });

  it.each<[string, Partial<RetryPolicy>]>([
    ['maxAttempts', { maxAttempts: 0 }],
    ['maxAttempts', { maxAttempts: 101 }],
    ['maxAttempts', { maxAttempts: Number.NaN }],
    ['maxAttempts', { maxAttempts: 2.5 }],
    ['initialDelayMs', { initialDelayMs: -1 }],
    ['initialDelayMs', { initialDelayMs: 0.5 }],
    ['maxDelayMs', { maxDelayMs: 8 * 24 * 3_600_000 }],
    ['multiplier', { multiplier: 0.5 }],
    ['multiplier', { multiplier: Number.POSITIVE_INFINITY }],
    ['jitter', { jitter: 1.1 }],
    ['jitter', { jitter: -0.1 }],
    ['scheduleMs', { strategy: 'SCHEDULE', scheduleMs: [] }],
    ['scheduleMs', { strategy: 'SCHEDULE', scheduleMs: [1, -1] }],
    ['scheduleMs', { scheduleMs: Array(101).fill(1) }],
  ])('with a bad %s is refused: %j', (path, partial) => {
    expect(retryPolicyProblems(retryPolicy(partial)).map((problem) => problem.path)).toEqual([path]);
  });
});
