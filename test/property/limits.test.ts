import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Breaker, breakerDefaults } from '../../src/sagas/breaker.js';
import { Limiter, type Limits } from '../../src/sagas/limiter.js';
import { chooseProvider, type Obstacle, type Preference } from '../../src/sagas/provider-choice.js';

describe('a limiter', () => {
  function world(limits: Limits, { share = 1, breaker }: { share?: number; breaker?: Breaker } = {}) {
    let nowMs = 1_000_000;
    const limiter = new Limiter({ limits, nowMs: () => nowMs, share: () => share, ...(breaker && { breaker }) });
    const mayBegin = () => limiter.opensAtMs(nowMs) <= nowMs;
    const pass = (ms: number) => {
      nowMs += ms;
    };
    /** When it opens again, in milliseconds from now. */
    const opensInMs = () => limiter.opensAtMs(nowMs) - nowMs;
    return { limiter, mayBegin, opensInMs, pass };
  }

  it('never lets more begin in any time than its rate and its burst allow, nor less when they wait for it', () => {
    const waits = fc.array(fc.integer({ min: 0, max: 3_000 }), { minLength: 1, maxLength: 60 });
    const rate = fc.double({ min: 0.5, max: 50, noNaN: true });
    fc.assert(
      fc.property(
        waits,
        rate,
        fc.integer({ min: 1, max: 20 }),
        fc.constantFrom(1, 0.5, 0.25),
        (all, perSecond, burst, share) => {
          const { limiter, mayBegin, opensInMs, pass } = world({ perSecond, burst }, { share });
          const begun: number[] = [];
          let passedMs = 0;
          for (const waitMs of all) {
            while (mayBegin()) {
              limiter.end(limiter.begin(), 'good');
              begun.push(passedMs);
            }
            expect(opensInMs()).toBeLessThanOrEqual(1_000 / (perSecond * share) + 1e-6);
            pass(waitMs);
            passedMs += waitMs;
          }
          const most = Math.max(1, burst * share);
          for (const [first, fromMs] of begun.entries())
            for (const [last, toMs] of begun.entries())
              if (last >= first)
                expect(last - first + 1).toBeLessThanOrEqual(
                  most + ((toMs - fromMs) * perSecond * share) / 1_000 + 1e-6,
                );
        },
      ),
    );
  });

  it('lets its share of so many call at once, one at least', () => {
    for (const [concurrency, share, most] of [
      [8, 1, 8],
      [8, 0.25, 2],
      [3, 0.0625, 1],
    ] as const) {
      const { limiter, mayBegin, opensInMs } = world({ concurrency }, { share });
      const begun: number[] = [];
      while (mayBegin()) begun.push(limiter.begin());
      expect(begun.length).toBe(most);
      expect(opensInMs()).toBe(Number.POSITIVE_INFINITY);
      limiter.end(begun[0] as number, 'bad');
      expect(mayBegin()).toBe(true);
    }
  });

  it('leaves the other side alone for as long as it asks, within bounds', () => {
    const { limiter, opensInMs, mayBegin, pass } = world({});
    limiter.pause(30_000);
    limiter.pause(10_000);
    expect(opensInMs()).toBe(30_000);
    pass(30_000);
    expect(mayBegin()).toBe(true);
    limiter.pause(30 * 86_400_000);
    expect(opensInMs()).toBe(15 * 60_000);
  });

  it('is idle when nothing of it is worth keeping', () => {
    const breaker = new Breaker(breakerDefaults);
    const { limiter, pass } = world({ perSecond: 1, burst: 2 }, { breaker });
    expect(limiter.isIdle).toBe(true);
    const call = limiter.begin();
    expect(limiter.isIdle).toBe(false);
    limiter.end(call, 'good');
    expect(limiter.isIdle).toBe(false);
    pass(1_000);
    expect(limiter.isIdle).toBe(true);
    limiter.end(limiter.begin(), 'bad');
    pass(5_000);
    expect(limiter.isIdle).toBe(false);
  });
});

describe('a circuit breaker', () => {
  const options = { failureThreshold: 3, recoveryTimeoutMs: 1_000, halfOpenMaxCalls: 2 };
  function open() {
    const breaker = new Breaker(options);
    for (let call = 0; call < 3; call++) breaker.end(breaker.begin(), 'bad', call);
    return breaker;
  }

  it('has the defaults of seed 3', () => {
    expect(breakerDefaults).toEqual({ failureThreshold: 10, recoveryTimeoutMs: 300_000, halfOpenMaxCalls: 3 });
  });

  it('opens with the last of so many failures in a row; what says nothing neither counts nor interrupts', () => {
    const breaker = new Breaker(options);
    const turns = (['bad', 'bad', 'good', 'bad', 'neutral', 'bad', 'bad'] as const).map((verdict, nowMs) =>
      breaker.end(breaker.begin(), verdict, nowMs),
    );
    expect(turns).toEqual([false, false, false, false, false, false, true]);
    expect(breaker.stateAt(6)).toBe('open');
    expect(breaker.opensAtMs(6)).toBe(1_006);
    expect(breaker.failing).toEqual({ sinceMs: 3, failures: 3 });
  });

  it('is tried out by so many calls at once, and closes when all of them succeed', () => {
    const breaker = open();
    expect(breaker.stateAt(1_002)).toBe('half-open');
    const calls = [breaker.begin(), breaker.begin()];
    expect(breaker.opensAtMs(1_002)).toBe(Number.POSITIVE_INFINITY);
    expect(calls.map((call) => breaker.end(call, 'good', 1_010))).toEqual([false, true]);
    expect([breaker.stateAt(1_010), breaker.opensAtMs(1_010), breaker.failing]).toEqual(['closed', 0, undefined]);
  });

  it('gives back a try that says nothing', () => {
    const breaker = open();
    const calls = [breaker.begin(), breaker.begin()];
    expect(breaker.end(calls[0] as number, 'neutral', 1_010)).toBe(false);
    expect(breaker.opensAtMs(1_010)).toBe(0);
  });

  it('opens again with the first failure, and remembers since when it fails', () => {
    const breaker = open();
    breaker.end(breaker.begin(), 'good', 1_010);
    expect(breaker.end(breaker.begin(), 'bad', 1_020)).toBe(true);
    expect(breaker.opensAtMs(1_020)).toBe(2_020);
    expect(breaker.failing).toEqual({ sinceMs: 0, failures: 4 });
  });

  it('is moved by no call that began before it last turned', () => {
    const breaker = new Breaker(options);
    const early = [breaker.begin(), breaker.begin()];
    for (let call = 0; call < 3; call++) breaker.end(breaker.begin(), 'bad', call);
    expect(early.map((call) => breaker.end(call, 'good', 10))).toEqual([false, false]);
    expect(breaker.stateAt(10)).toBe('open');
  });

  it('goes on where another process has left it', () => {
    const breaker = new Breaker(options);
    breaker.restore(5_000, { sinceMs: 1, failures: 60 });
    expect([breaker.stateAt(4_999), breaker.stateAt(5_000)]).toEqual(['open', 'half-open']);
    expect(breaker.failing).toEqual({ sinceMs: 1, failures: 60 });
  });
});

describe('the choice of a provider', () => {
  const choose = (
    providers: Preference[],
    {
      obstacles = {},
      region,
      random = 0,
    }: { obstacles?: Record<string, Obstacle>; region?: string; random?: number } = {},
  ) => {
    const choice = chooseProvider(providers, ({ name }) => obstacles[name], { region, random });
    return choice && [choice.provider.name, choice.reason];
  };
  const [a, b, c] = ['a', 'b', 'c'].map((name) => ({ name })) as [Preference, Preference, Preference];

  it('is by priority, then region, then cost', () => {
    expect(choose([a])).toEqual(['a', 'the only one']);
    expect(choose([{ ...a, priority: 2 }, b])).toEqual(['b', 'priority']);
    expect(
      choose(
        [
          { ...a, region: 'us' },
          { ...b, region: 'eu', cost: 9 },
        ],
        { region: 'eu' },
      ),
    ).toEqual(['b', 'region']);
    expect(
      choose([
        { ...a, cost: 2 },
        { ...b, cost: 1 },
      ]),
    ).toEqual(['b', 'cost']);
  });

  it('passes over those that cannot be used, and says why', () => {
    const providers = [{ ...a, priority: 0 }, b, { ...c, priority: 2 }];
    const obstacles = { a: 'circuit open', b: 'tried' } as const;
    expect(choose(providers, { obstacles })).toEqual(['c', 'the only one; a: circuit open, b: tried']);
    expect(choose(providers, { obstacles: { ...obstacles, c: 'limit reached' } })).toBeUndefined();
  });

  it('is shared by weight among those that are alike', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(9), { minLength: 1, maxLength: 5 }), (weights) => {
        const providers = weights.map((weight, index) => ({ name: `${index}`, weight }));
        const sum = weights.reduce((total, weight) => total + weight, 0);
        const counts = new Map<string, number>();
        for (let step = 0; step < sum; step++) {
          const name = choose(providers, { random: (step + 0.5) / sum })?.[0] as string;
          counts.set(name, (counts.get(name) ?? 0) + 1);
        }
        for (const [index, weight] of weights.entries()) expect(counts.get(`${index}`) ?? 0).toBe(weight);
        expect(choose(providers)).toBeDefined();
      }),
    );
  });
});
