import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PRIORITIES, type Priority } from '../../src/domain/vocabulary.js';
import { AttemptQueue } from '../../src/sagas/attempt-queue.js';
import { Gate, type Ticket, WEIGHTS } from '../../src/sagas/fair-queue.js';

interface Pass {
  readonly gate: Door;
}

/** Lets so many through at once. */
class Door extends Gate<Pass> {
  readonly #pass: Pass = { gate: this };
  most: number;
  inside = 0;

  constructor(most = Number.POSITIVE_INFINITY) {
    super();
    this.most = most;
  }

  enter(): Pass | undefined {
    if (this.inside >= this.most) return undefined;
    this.inside++;
    return this.#pass;
  }

  leave(): void {
    this.inside--;
    this.wake();
  }

  set width(most: number) {
    this.most = most;
    this.wake();
  }
}

/** A queue, and attempts that end when told. */
function world(concurrency: number) {
  const queue = new AttemptQueue<Pass>(concurrency);
  const started: string[] = [];
  const running: { readonly name: string; readonly end: () => void }[] = [];
  const add = (name: string, priority: Priority, organizationId: string, gate: Door): Ticket<Pass> =>
    queue.add({
      priority,
      organizationId,
      gate,
      run: async (pass) => {
        started.push(name);
        await new Promise<void>((resolve) => running.push({ name, end: resolve }));
        pass.gate.leave();
      },
    });
  const finish = async (which = 0) => {
    running.splice(which, 1)[0]?.end();
    await turn();
  };
  const finishAll = async () => {
    while (running.length > 0) await finish();
  };
  return { queue, started, running, add, finish, finishAll };
}

const laneOf = (name: string): string => name.split('/').slice(0, 3).join();

type Step =
  | { readonly do: 'add'; readonly priority: Priority; readonly organization: number; readonly door: number }
  | { readonly do: 'finish'; readonly which: number }
  | { readonly do: 'withdraw'; readonly which: number }
  | { readonly do: 'widen'; readonly door: number; readonly most: number };

const DOORS = 4;
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('add' as const),
        priority: fc.constantFrom(...PRIORITIES),
        organization: fc.nat(2),
        door: fc.nat(DOORS - 1),
      }),
    },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('finish' as const), which: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('withdraw' as const), which: fc.nat() }) },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant('widen' as const), door: fc.nat(DOORS - 1), most: fc.nat(3) }),
    },
  ),
  { maxLength: 120, size: 'max' },
);

describe('whatever is added, withdrawn, ended and shut', () => {
  it('each attempt starts once unless it was withdrawn, in order at its door, and never more than may', async () => {
    await fc.assert(
      fc.asyncProperty(steps, fc.integer({ min: 1, max: 6 }), async (all, concurrency) => {
        const { queue, started, running, add, finish, finishAll } = world(concurrency);
        const doors = Array.from({ length: DOORS }, (_, index) => new Door(index));
        const tickets: { readonly name: string; readonly ticket: Ticket<Pass> }[] = [];
        const withdrawn = new Set<string>();
        const most = Math.ceil(concurrency * 0.75);
        const check = () => {
          expect(queue.running).toBe(running.length);
          expect(queue.running).toBeLessThanOrEqual(concurrency);
          expect(queue.waiting).toBe(tickets.length - started.length - withdrawn.size);
          for (const organization of [0, 1, 2])
            expect(running.filter(({ name }) => name.split('/')[0] === `${organization}`).length).toBeLessThanOrEqual(
              most,
            );
          expect(
            doors.every(
              ({ inside }, index) => inside === running.filter(({ name }) => name.split('/')[1] === `${index}`).length,
            ),
          ).toBe(true);
          // Nobody waits who could start.
          const names = tickets
            .map(({ name }) => name)
            .filter((name) => !started.includes(name) && !withdrawn.has(name));
          const mayStart = (name: string) => {
            const [organization = '', index = ''] = name.split('/');
            const door = doors[Number(index)] as Door;
            const own = running.filter((each) => each.name.split('/')[0] === organization).length;
            return door.inside < door.most && own < most && running.length < concurrency;
          };
          expect(names.filter(mayStart)).toEqual([]);
        };
        for (const step of all) {
          if (step.do === 'add') {
            const name = `${step.organization}/${step.door}/${step.priority}/${tickets.length}`;
            tickets.push({ name, ticket: add(name, step.priority, `${step.organization}`, doors[step.door] as Door) });
          }
          if (step.do === 'finish') await finish(step.which % Math.max(1, running.length));
          const chosen = step.do === 'withdraw' ? tickets[step.which % Math.max(1, tickets.length)] : undefined;
          if (chosen && queue.withdraw(chosen.ticket)) withdrawn.add(chosen.name);
          if (step.do === 'widen') (doors[step.door] as Door).width = step.most;
          check();
        }
        for (const door of doors) door.width = 2;
        await finishAll();
        check();
        expect([queue.running, queue.waiting]).toEqual([0, 0]);
        expect([...started].sort()).toEqual(
          tickets
            .map(({ name }) => name)
            .filter((name) => !withdrawn.has(name))
            .sort(),
        );
        for (const lane of new Set(started.map(laneOf))) {
          const order = started.filter((name) => laneOf(name) === lane).map((name) => Number(name.split('/')[3]));
          expect(order).toEqual([...order].sort((a, b) => a - b));
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('the order of starts', () => {
  /** One place, taken; then everything is added, and starts one after the other. */
  async function orderOf(waiting: readonly (readonly [Priority, string, Door])[]): Promise<string[]> {
    const { started, add, finishAll } = world(1);
    add('first', 'NORMAL', 'nobody', new Door());
    for (const [index, [priority, organization, door]] of waiting.entries())
      add(`${priority} ${organization} ${index}`, priority, organization, door);
    await finishAll();
    return started.slice(1);
  }
  const times = <T>(count: number, item: T): T[] => Array.from({ length: count }, () => item);

  it('is by weight between priorities, the urgent first in each round', async () => {
    const door = new Door();
    const order = await orderOf(
      PRIORITIES.toReversed().flatMap((priority) => times(40, [priority, 'a', door] as const)),
    );
    const round = PRIORITIES.flatMap((priority) => times(WEIGHTS[priority], priority));
    expect(order.slice(0, 2 * round.length).map((name) => name.split(' ')[0])).toEqual([...round, ...round]);
  });

  it('gives the low ones all there is when nothing else waits', async () => {
    const order = await orderOf(times(30, ['LOW', 'a', new Door()] as const));
    expect(order).toEqual(times(30, 0).map((_, index) => `LOW a ${index}`));
  });

  it('takes turns between organizations, whatever each has waiting, and between doors within one', async () => {
    const [one, other] = [new Door(), new Door()];
    const order = await orderOf([
      ...times(10, ['NORMAL', 'a', one] as const),
      ...times(3, ['NORMAL', 'b', one] as const),
      ...times(3, ['NORMAL', 'a', other] as const),
    ]);
    expect(order.slice(0, 9).map((name) => name.split(' ')[1])).toEqual(['a', 'b', 'a', 'b', 'a', 'b', 'a', 'a', 'a']);
    expect(
      order
        .slice(0, 7)
        .map((name) => Number(name.split(' ')[2]))
        .filter((index) => index < 10 || index > 12),
    ).toEqual([0, 13, 1, 14]);
  });

  it('passes by whom its door keeps waiting, who goes on when it opens', async () => {
    const { started, add, finish, queue } = world(1);
    const shut = new Door(0);
    add('first', 'NORMAL', 'a', new Door());
    for (const name of ['shut 1', 'shut 2']) add(name, 'URGENT', 'a', shut);
    add('open', 'LOW', 'a', new Door());
    await finish();
    expect(started).toEqual(['first', 'open']);
    await finish();
    expect(queue).toMatchObject({ running: 0, waiting: 2 });
    shut.width = 1;
    expect(started.at(-1)).toBe('shut 1');
    await finish();
    expect(started.at(-1)).toBe('shut 2');
    await finish();
  });

  it('lets the next one through a door when the one that was called is withdrawn', async () => {
    const { queue, started, add, finish } = world(1);
    const door = new Door(0);
    const called = add('called', 'NORMAL', 'a', door);
    add('next', 'NORMAL', 'b', door);
    add('takes the room', 'NORMAL', 'a', new Door());
    door.width = 1;
    expect(queue.withdraw(called)).toBe(true);
    expect(queue.withdraw(called)).toBe(false);
    await finish();
    expect(started).toEqual(['takes the room', 'next']);
    await finish();
  });

  it.each([true, false])(
    'lets the next one through a door when enough is under way of the one that was called (something else waits: %s)',
    async (isMore) => {
      const { started, add, finishAll } = world(4);
      const door = new Door(0);
      add('called', 'NORMAL', 'a', door);
      add('next', 'NORMAL', 'b', door);
      for (const name of ['1', '2', '3']) add(name, 'NORMAL', 'a', new Door());
      if (isMore) add('more', 'NORMAL', 'a', new Door());
      door.width = 1;
      expect(started).toEqual(['1', '2', '3', 'next']);
      await finishAll();
      expect(started.slice(4).toSorted()).toEqual(isMore ? ['called', 'more'] : ['called']);
    },
  );

  it('at a door that two queues share, the one without room does not hold up the other', async () => {
    const [full, free] = [world(1), world(1)];
    const door = new Door(0);
    full.add('takes the room', 'NORMAL', 'a', new Door());
    full.add('full', 'NORMAL', 'a', door);
    free.add('free', 'NORMAL', 'a', door);
    door.width = 1;
    expect([full.started, free.started]).toEqual([['takes the room'], ['free']]);
    await free.finish();
    await full.finish();
    expect(full.started).toEqual(['takes the room', 'full']);
  });

  it('leaves a quarter of the places to other organizations', async () => {
    const { started, add, finishAll } = world(8);
    for (let index = 0; index < 20; index++) add(`a${index}`, 'URGENT', 'a', new Door());
    expect(started.length).toBe(6);
    for (const name of ['b0', 'b1', 'b2']) add(name, 'LOW', 'b', new Door());
    expect(started.slice(6)).toEqual(['b0', 'b1']);
    await finishAll();
    expect(started.length).toBe(23);
  });
});

it('when closed, starts nothing more and waits for what is under way', async () => {
  const { queue, started, add, finish } = world(2);
  const door = new Door();
  for (const name of ['a', 'b', 'c']) add(name, 'NORMAL', 'a', door);
  let isClosed = false;
  const closing = queue.close().then(() => {
    isClosed = true;
  });
  add('d', 'URGENT', 'b', door);
  await finish();
  expect(isClosed).toBe(false);
  await finish();
  await closing;
  expect(started).toEqual(['a', 'b']);
  await new AttemptQueue(1).close();
});

it('gives a place away as soon as the call has ended, while not too many outcomes wait to be stored', async () => {
  const queue = new AttemptQueue<Pass>(2);
  const door = new Door();
  const callEnds: (() => void)[] = [];
  const stores: (() => void)[] = [];
  const run = async (_pass: Pass, callEnded: () => void) => {
    callEnds.push(callEnded);
    await new Promise<void>((resolve) => stores.push(resolve));
  };
  for (let n = 0; n < 40; n++)
    queue.add({ priority: 'NORMAL', organizationId: n % 2 === 0 ? 'one' : 'other', gate: door, run });
  expect(callEnds).toHaveLength(2);
  for (let n = 0; n < callEnds.length; n++) callEnds[n]?.();
  expect(callEnds).toHaveLength(16);
  expect(queue).toMatchObject({ running: 16, waiting: 24 });
  stores[0]?.();
  await turn();
  expect(callEnds).toHaveLength(17);
  for (let n = 0; n < 40; n++) {
    callEnds[n]?.();
    stores[n]?.();
    await turn();
  }
  await queue.close();
  expect(queue).toMatchObject({ running: 0, waiting: 0 });
});
