import type { RetryPolicy } from '../../src/domain/retry-policy.js';
import {
  type Channel,
  ERROR_CATEGORIES,
  type ErrorCategory,
  PRIORITIES,
  type Priority,
} from '../../src/domain/vocabulary.js';
import { Random } from './random.js';

/** What a provider does with one call. */
export type Fate =
  | { readonly does: 'accept'; readonly afterMs: number }
  | {
      readonly does: 'refuse';
      readonly category: ErrorCategory;
      readonly afterMs: number;
      readonly retryAfterMs?: number;
      /** The receiver is gone for good: its destination is to be disabled. */
      readonly gone?: boolean;
    }
  /** No answer ever comes, whether it had accepted or not. */
  | { readonly does: 'keep silent'; readonly accepts: boolean }
  /** The connection breaks before the answer. */
  | { readonly does: 'break off'; readonly accepts: boolean; readonly afterMs: number };

export interface PlannedRoute {
  readonly channel: SimulatedChannel;
  /** Index of a destination; without one the route is a bare address. */
  readonly destination?: number;
  /** What becomes of the first calls; every later one is accepted. */
  readonly fates: readonly Fate[];
}

export const SIMULATED_CHANNELS = ['WEBHOOK', 'SFTP', 'EMAIL', 'SMS'] as const satisfies readonly Channel[];
export type SimulatedChannel = (typeof SIMULATED_CHANNELS)[number];

export interface PlannedDestination {
  readonly channel: SimulatedChannel;
  readonly retry: Partial<RetryPolicy>;
}

export interface PlannedRequest {
  readonly do: 'request';
  /** The delivery's number: `D3` is 3. */
  readonly delivery: number;
  readonly hasKey: boolean;
  readonly priority: Priority;
  readonly legs: readonly (readonly PlannedRoute[])[];
  readonly scheduledInMs?: number;
  readonly expiresInMs?: number;
  readonly approval?: { readonly minimum: number; readonly timeoutSeconds?: number };
  readonly dependsOn: readonly number[];
}

export type Change = 'cancel' | 'approve' | 'reject' | 'retry' | 'say it was sent' | 'say it was not sent';

export type Action =
  | PlannedRequest
  /** The same key again, with the same body or another one. */
  | { readonly do: 'request again'; readonly delivery: number; readonly isSame: boolean }
  | { readonly do: Change; readonly delivery: number; readonly by: number }
  | { readonly do: 'enable'; readonly destination: number }
  | { readonly do: 'disable'; readonly destination: number }
  | { readonly do: 'crash'; readonly instance: number; readonly backAfterMs: number; readonly isSameOwner: boolean }
  | { readonly do: 'shut down'; readonly instance: number; readonly backAfterMs: number }
  | { readonly do: 'stop'; readonly instance: number; readonly forMs: number; readonly timersFirst: boolean }
  | { readonly do: 'clock jump'; readonly instance: number; readonly byMs: number; readonly forMs: number }
  /** A newer program has written what this one does not know. */
  | { readonly do: 'poison'; readonly delivery: number }
  | { readonly do: 'truncate' }
  | { readonly do: 'disturb'; readonly instance: number; readonly how: 'error' | 'end' | 'repeat' }
  | { readonly do: 'stall'; readonly instance: number; readonly forMs: number }
  | {
      readonly do: 'weather';
      readonly of: 'log' | 'database';
      /** One instance's connection, or everybody's. */
      readonly instance?: number;
      readonly isDown: boolean;
      readonly slowMs: number;
      readonly lostReplies: number;
      readonly forMs: number;
    };

export type PlannedStep = { readonly atMs: number } & Action;

export interface Plan {
  readonly seed: number;
  readonly instances: number;
  /** One instance at a time, proved by a lock: leases are for ever. */
  readonly isAlone: boolean;
  /** What the database's clock is ahead of the true time. */
  readonly databaseAheadMs: number;
  readonly concurrency: number;
  /** Failures in a row that open a circuit. */
  readonly failureThreshold: number;
  readonly checkpointIntervalMs: number;
  /** How many calls end in doubt without any fault of their own. */
  readonly doubtful: number;
  readonly destinations: readonly PlannedDestination[];
  readonly steps: readonly PlannedStep[];
}

export const APPROVERS = ['ada', 'bob', 'eve'] as const;

const KINDS = {
  request: 56,
  again: 5,
  change: 16,
  destination: 3,
  instance: 8,
  subscription: 5,
  weather: 6,
  truncate: 1,
  poison: 1,
};
const CHANGES: Readonly<Record<Change, number>> = {
  ...{ approve: 4, cancel: 2, reject: 1, retry: 3 },
  ...{ 'say it was sent': 1, 'say it was not sent': 1 },
};
/** Mean time between two steps. */
const GAP_MS = 1_300;

/** Everything that will be done to the system, drawn from the seed: the same seed and length, the same plan. */
export function planOf(seed: number, length: number): Plan {
  const random = new Random(seed, 'plan');
  const instances = random.int(1, 3);
  const isAlone = instances === 1 && random.chance(0.5);
  const destinations = Array.from({ length: 4 }, () => destination(random));
  const steps: PlannedStep[] = [];
  let atMs = random.between(0, 3_000);
  let deliveries = 0;
  while (steps.length < length) {
    const kind = deliveries === 0 ? 'request' : random.weighted(KINDS);
    const action =
      kind === 'request' ? request(random, deliveries++, destinations) : other(random, kind, deliveries, instances);
    steps.push({ atMs, ...action });
    if (action.do === 'request')
      for (const { atMs: afterMs, ...next } of followUps(random, action, instances))
        if (steps.length < length) steps.push({ atMs: atMs + afterMs, ...next });
    // Some things happen at once.
    if (!random.chance(0.3)) atMs += -Math.log(1 - random.next()) * GAP_MS;
  }
  steps.sort((one, other) => one.atMs - other.atMs);
  return {
    ...{ seed, instances, isAlone, destinations, steps },
    databaseAheadMs: random.between(-3_000, 3_000),
    concurrency: random.pick([1, 2, 4, 16]),
    failureThreshold: random.pick([2, 4, 10]),
    checkpointIntervalMs: random.pick([300, 1_000, 1_000, 2_000]),
    doubtful: random.pick([0, 0, 0.005, 0.03]),
  };
}

const destination = (random: Random): PlannedDestination => ({
  channel: random.pick(SIMULATED_CHANNELS),
  retry: {
    strategy: random.pick(['FIXED', 'LINEAR', 'EXPONENTIAL']),
    maxAttempts: random.int(1, 4),
    initialDelayMs: random.pick([0, 500, 3_000, 9_000]),
    maxDelayMs: 20_000,
    jitter: random.pick([0, 0.2, 1]),
  },
});

function request(random: Random, delivery: number, destinations: readonly PlannedDestination[]): PlannedRequest {
  // Each destination at most once in a delivery, so that a call tells which leg and route it is for.
  const free = destinations.map((_, index) => index);
  const route = (): PlannedRoute => {
    const fates = Array.from({ length: random.weighted({ '0': 5, '1': 3, '2': 2, '6': 1 }) as unknown as number });
    const common = { fates: fates.map(() => fate(random)) };
    if (free.length === 0 || random.chance(0.4)) return { channel: random.pick(SIMULATED_CHANNELS), ...common };
    const [index] = free.splice(random.int(0, free.length - 1), 1) as [number];
    return { channel: (destinations[index] as PlannedDestination).channel, destination: index, ...common };
  };
  const count = random.chance(0.25) ? random.int(2, 3) : 1;
  const legs = Array.from({ length: count }, () =>
    Array.from({ length: random.chance(0.3) ? random.int(2, 3) : 1 }, route),
  );
  const scheduledInMs = random.chance(0.2)
    ? random.weighted({ '1500': 1, '8000': 2, '40000': 2, '90000': 1 })
    : undefined;
  const expiresInMs = random.chance(0.12) ? Number(scheduledInMs ?? 0) + random.between(2_000, 40_000) : undefined;
  const approval = random.chance(0.12)
    ? { minimum: random.int(1, 2), ...(random.chance(0.6) && { timeoutSeconds: random.int(2, 40) }) }
    : undefined;
  const isDependent = delivery > 0 && random.chance(0.22);
  const dependsOn = isDependent
    ? Array.from({ length: random.int(1, 2) }, () => random.int(Math.max(0, delivery - 8), delivery - 1))
    : [];
  return {
    do: 'request',
    delivery,
    hasKey: random.chance(0.85),
    priority: random.pick(PRIORITIES),
    legs,
    dependsOn: [...new Set(dependsOn)],
    ...(scheduledInMs !== undefined && { scheduledInMs: Number(scheduledInMs) }),
    ...(expiresInMs !== undefined && { expiresInMs }),
    ...(approval && { approval }),
  };
}

/** What is done about a request soon after, with times from then on: some of it at the moment its time is over. */
function followUps(random: Random, { delivery, approval }: PlannedRequest, instances: number): PlannedStep[] {
  const steps: PlannedStep[] = [];
  if (approval && random.chance(0.6)) {
    const overMs = random.chance(0.3) ? (approval.timeoutSeconds ?? 5) * 1_000 : random.between(100, 3_000);
    for (let count = random.int(1, 4); count > 0; count--) {
      const what = random.chance(0.85) ? 'approve' : 'reject';
      steps.push({ atMs: overMs + random.between(-20, 20), do: what, delivery, by: random.int(0, 1) });
    }
  }
  if (random.chance(0.08)) {
    // While an attempt may be under way, or at any time.
    const atMs = random.between(5, random.chance(0.6) ? 35 : 300);
    steps.push({ atMs, do: 'cancel', delivery, by: 0 });
    if (random.chance(0.6)) {
      const instance = random.int(0, instances - 1);
      const common = { instance, backAfterMs: random.between(50, 2_000), isSameOwner: random.chance(0.6) };
      steps.push({ atMs: atMs + random.between(0, 20), do: 'crash', ...common });
    }
  }
  return steps;
}

function fate(random: Random): Fate {
  const afterMs = random.chance(0.1) ? random.between(500, 7_000) : random.between(2, 120);
  switch (random.weighted({ refuse: 6, silent: 1, broken: 2, accept: 2 })) {
    case 'refuse': {
      const category = random.pick(ERROR_CATEGORIES);
      const hasWish = category === 'RATE_LIMIT' || random.chance(0.1);
      return {
        ...{ does: 'refuse', category, afterMs },
        ...(hasWish && { retryAfterMs: random.int(100, 12_000) }),
        ...(category === 'PERMANENT' && random.chance(0.3) && { gone: true }),
      };
    }
    case 'silent':
      return { does: 'keep silent', accepts: random.chance(0.5) };
    case 'broken':
      return { does: 'break off', accepts: random.chance(0.5), afterMs };
    case 'accept':
      return { does: 'accept', afterMs };
  }
}

type OtherKind = Exclude<keyof typeof KINDS, 'request'>;

function other(random: Random, kind: OtherKind, deliveries: number, instances: number): Action {
  const delivery = random.chance(0.6) ? Math.max(deliveries - random.int(1, 3), 0) : random.int(0, deliveries - 1);
  const instance = random.int(0, instances - 1);
  switch (kind) {
    case 'again':
      return { do: 'request again', delivery, isSame: random.chance(0.8) };
    case 'change':
      return {
        do: random.weighted(CHANGES),
        ...{ delivery, by: random.int(0, APPROVERS.length - 1) },
      };
    case 'destination':
      return { do: random.chance(0.6) ? 'enable' : 'disable', destination: random.int(0, 3) };
    case 'instance':
      return ofInstance(random, instance);
    case 'subscription':
      return random.chance(0.7)
        ? { do: 'disturb', instance, how: random.pick(['error', 'end', 'repeat', 'repeat']) }
        : { do: 'stall', instance, forMs: random.between(500, 8_000) };
    case 'weather':
      return weather(random, instance);
    case 'truncate':
      return { do: 'truncate' };
    case 'poison':
      return { do: 'poison', delivery };
  }
}

function ofInstance(random: Random, instance: number): Action {
  const backAfterMs = random.chance(0.2) ? random.between(10_000, 25_000) : random.between(50, 4_000);
  switch (random.weighted({ crash: 5, down: 1, stop: 3, jump: 1 })) {
    case 'crash':
      return { do: 'crash', instance, backAfterMs, isSameOwner: random.chance(0.6) };
    case 'down':
      return { do: 'shut down', instance, backAfterMs };
    case 'stop':
      return {
        ...{ do: 'stop', instance, timersFirst: random.chance(0.5) },
        forMs: random.pick([300, 3_000, 9_000, 15_000, 60_000]) * random.between(0.8, 1.2),
      };
    case 'jump':
      return {
        ...{ do: 'clock jump', instance, forMs: random.between(2_000, 30_000) },
        byMs: random.pick([-600_000, -30_000, 30_000, 600_000]),
      };
  }
}

function weather(random: Random, instance: number): Action {
  const of = random.pick(['log', 'database'] as const);
  const common = { do: 'weather', of, ...(random.chance(0.5) && { instance }) } as const;
  const good = { isDown: false, slowMs: 0, lostReplies: 0 };
  switch (random.weighted({ down: 3, slow: 3, lost: 2 })) {
    case 'down':
      return { ...common, ...good, isDown: true, forMs: random.pick([200, 2_000, 14_000]) * random.between(0.5, 1.5) };
    case 'slow':
      return { ...common, ...good, slowMs: random.pick([100, 1_000, 4_000]), forMs: random.between(1_000, 12_000) };
    case 'lost':
      return { ...common, ...good, lostReplies: random.pick([0.3, 1]), forMs: random.between(200, 6_000) };
  }
}
