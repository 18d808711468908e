import type { ErrorCategory, FieldProblem } from './vocabulary.js';

export const RETRY_STRATEGIES = ['EXPONENTIAL', 'LINEAR', 'FIXED', 'SCHEDULE'] as const;
export type RetryStrategy = (typeof RETRY_STRATEGIES)[number];

/** How often and how patiently one route is tried before the next one is. */
export interface RetryPolicy {
  readonly strategy: RetryStrategy;
  /** All attempts on one route, the first included. */
  readonly maxAttempts: number;
  /** Delay before the second attempt. */
  readonly initialDelayMs: number;
  /** No delay is longer, except one the provider asked for. */
  readonly maxDelayMs: number;
  /** EXPONENTIAL: each delay is this many times the one before. */
  readonly multiplier: number;
  /** 0.1 spreads each delay evenly over ±10 %. */
  readonly jitter: number;
  /** SCHEDULE: the delay before attempt 2, 3, …; the last one repeats. */
  readonly scheduleMs: readonly number[];
}

/** Seed 3 (RetryConfig): 5 attempts, 1 s doubling up to 5 minutes, ±10 %. */
export const defaultRetryPolicy: RetryPolicy = {
  strategy: 'EXPONENTIAL',
  maxAttempts: 5,
  initialDelayMs: 1_000,
  maxDelayMs: 300_000,
  multiplier: 2,
  jitter: 0.1,
  scheduleMs: [],
};

/** Seed 2: 5 minutes, 15 minutes, 1 hour; what SCHEDULE means when no schedule is given. */
export const defaultScheduleMs: readonly number[] = [300_000, 900_000, 3_600_000];

const LONGEST_DELAY_MS = 7 * 24 * 3_600_000;

/**
 * Completes a partial policy with the defaults. A SCHEDULE without `maxAttempts` makes one attempt more than it has
 * delays.
 */
export function retryPolicy(partial: Partial<RetryPolicy> = {}): RetryPolicy {
  const scheduleMs =
    partial.scheduleMs ?? (partial.strategy === 'SCHEDULE' ? defaultScheduleMs : defaultRetryPolicy.scheduleMs);
  const maxAttempts =
    partial.maxAttempts ?? (partial.strategy === 'SCHEDULE' ? scheduleMs.length + 1 : defaultRetryPolicy.maxAttempts);
  // A cap nobody asked for must not shorten the delays that somebody did ask for.
  const asked = [partial.initialDelayMs ?? 0, ...scheduleMs];
  const maxDelayMs = partial.maxDelayMs ?? Math.max(defaultRetryPolicy.maxDelayMs, ...asked);
  return { ...defaultRetryPolicy, ...partial, scheduleMs, maxAttempts, maxDelayMs };
}

/** What is wrong with a policy, `path` relative to it. */
export function retryPolicyProblems(policy: RetryPolicy): FieldProblem[] {
  const problems: FieldProblem[] = [];
  const check = (ok: boolean, path: string, problem: string) => {
    if (!ok) problems.push({ path, problem });
  };
  const isDelay = (ms: number) => Number.isInteger(ms) && ms >= 0 && ms <= LONGEST_DELAY_MS;
  check(
    Number.isInteger(policy.maxAttempts) && policy.maxAttempts >= 1 && policy.maxAttempts <= 100,
    'maxAttempts',
    'must be a whole number from 1 to 100',
  );
  check(isDelay(policy.initialDelayMs), 'initialDelayMs', `must be from 0 to ${LONGEST_DELAY_MS} (7 days)`);
  check(isDelay(policy.maxDelayMs), 'maxDelayMs', `must be from 0 to ${LONGEST_DELAY_MS} (7 days)`);
  check(policy.multiplier >= 1 && policy.multiplier <= 100, 'multiplier', 'must be from 1 to 100');
  check(policy.jitter >= 0 && policy.jitter <= 1, 'jitter', 'must be from 0 to 1');
  check(policy.scheduleMs.length <= 100, 'scheduleMs', 'must have at most 100 delays');
  check(policy.scheduleMs.every(isDelay), 'scheduleMs', `every delay must be from 0 to ${LONGEST_DELAY_MS} (7 days)`);
  check(
    policy.strategy !== 'SCHEDULE' || policy.scheduleMs.length > 0,
    'scheduleMs',
    'must have at least one delay when the strategy is SCHEDULE',
  );
  return problems;
}

function plainDelayMs(policy: RetryPolicy, failedAttempts: number): number {
  switch (policy.strategy) {
    case 'FIXED':
      return policy.initialDelayMs;
    case 'LINEAR':
      return policy.initialDelayMs * failedAttempts;
    case 'EXPONENTIAL':
      return policy.initialDelayMs * policy.multiplier ** (failedAttempts - 1);
    case 'SCHEDULE':
      return policy.scheduleMs[Math.min(failedAttempts, policy.scheduleMs.length) - 1] ?? 0;
  }
}

/**
 * Milliseconds until the next attempt on the same route, or undefined when the policy is exhausted.
 *
 * @param failedAttempts attempts made on this route so far, at least 1
 * @param random from 0 (inclusive) to 1 (exclusive), decides the jitter
 * @param retryAfterMs the provider's own wish; never undercut, up to 7 days
 */
export function retryDelayMs(
  policy: RetryPolicy,
  failedAttempts: number,
  random: number,
  retryAfterMs = 0,
): number | undefined {
  if (failedAttempts >= policy.maxAttempts) return undefined;
  const spread = 1 + policy.jitter * (2 * random - 1);
  const delay = Math.min(plainDelayMs(policy, failedAttempts) * spread, policy.maxDelayMs);
  return Math.max(Math.round(delay), Math.min(retryAfterMs, LONGEST_DELAY_MS));
}

/**
 * What a failure of each category calls for (seed 1 section 5, seed 2 "Error Categories", seed 3 "Error Categories"):
 * `retry` the same route as the policy says, or go to the `next` route at once because trying again changes nothing.
 */
export const reactionTo: Readonly<Record<ErrorCategory, 'retry' | 'next'>> = {
  TEMPORARY: 'retry',
  NETWORK: 'retry',
  SYSTEM: 'retry',
  RATE_LIMIT: 'retry',
  PERMANENT: 'next',
  VALIDATION: 'next',
  AUTHENTICATION: 'next',
  CONFIGURATION: 'next',
};
