import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { UsableDestination } from '../../../src/commands/destination-directory.js';
import type { Route } from '../../../src/domain/delivery-events.js';
import type { Leg } from '../../../src/domain/delivery-state.js';
import type { OpenCircuit } from '../../../src/domain/provider.js';
import type { Content, Priority } from '../../../src/domain/vocabulary.js';
import type { Verdict } from '../../../src/sagas/breaker.js';
import { Dispatcher } from '../../../src/sagas/dispatcher.js';
import type { GatedProvider, Subject } from '../../../src/sagas/gates.js';
import type { Limits } from '../../../src/sagas/limiter.js';
import type { Pass } from '../../../src/sagas/route-gate.js';
import { existing } from '../../support/deliveries.js';

/** The dispatcher on a clock that tests move, with destinations in a table and a record that is a list. */
const RECOVERY_MS = 1_000;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

interface Made {
  readonly name: string;
  readonly pass: Pass;
  readonly end: (verdict: Verdict) => Promise<void>;
}

function world({
  providers = [] as GatedProvider[],
  concurrency = 16,
  largeConcurrency = 1,
  stored = {} as Record<string, OpenCircuit>,
} = {}) {
  const table = new Map<string, UsableDestination>();
  const recorded: string[] = [];
  const disabled: string[] = [];
  let isLogThere = true;
  let onChange: (id: string) => void = () => undefined;
  const nameOf = (subject: Subject) => ('provider' in subject ? subject.provider : subject.destinationId);
  const record = async (subject: Subject, circuit: OpenCircuit | undefined) => {
    if (!isLogThere) throw new Error('the log does not answer');
    recorded.push(`${nameOf(subject)} ${circuit ? 'opened' : 'closed'}`);
    if ('destinationId' in subject) change(subject.destinationId, { circuit });
  };
  function change(
    id: string,
    { limits, circuit, disabled }: { limits?: Limits; circuit?: OpenCircuit | undefined; disabled?: string },
  ) {
    const definition = { ...table.get(id)?.definition, ...(limits && { limits }) };
    table.set(id, {
      id,
      definition,
      config: {},
      ...(circuit && { circuit }),
      ...(disabled && { disabled }),
    } as unknown as UsableDestination);
    onChange(id);
  }
  const dispatcher = new Dispatcher(
    { concurrency, largeConcurrency, largeBytes: 1_000 },
    {
      destinations: {
        peek: () => undefined,
        find: async (id) => table.get(id),
        set onChange(listener: (id: string) => void) {
          onChange = listener;
        },
      },
      providers,
      record: {
        opened: record,
        closed: (subject) => record(subject, undefined),
        disable: async (id, reason) => {
          disabled.push(`${id}: ${reason}`);
          change(id, { disabled: reason });
        },
        circuitOf: async (name) => stored[name],
      },
      options: {
        destinationConcurrency: 4,
        breaker: { failureThreshold: 3, recoveryTimeoutMs: RECOVERY_MS, halfOpenMaxCalls: 2 },
        disableAfter: { failures: 5, hours: 1 },
      },
      log: { info: () => undefined, warn: () => undefined, error: () => undefined },
      nowMs: () => Date.now(),
    },
  );
  dispatcher.gates.start();
  const made: Made[] = [];
  const add = (
    name: string,
    routes: readonly Route[],
    { priority = 'NORMAL' as Priority, content = {} as Content, tried = [] as string[] } = {},
  ) => {
    const leg = { leg: 1, routes, route: 0, progress: { tag: 'retrying', dueAt: '', tried } } as unknown as Leg;
    const state = { request: { priority, organizationId: 'o', content } } as unknown as ReturnType<typeof existing>;
    return dispatcher.add(
      state,
      leg,
      (pass) =>
        new Promise((resolve) => {
          const end = async (verdict: Verdict) => {
            made.splice(made.indexOf(call), 1);
            pass.end(verdict);
            resolve();
            await turn();
            await turn();
          };
          const call: Made = { name, pass, end };
          made.push(call);
        }),
    );
  };
  const names = () => made.map(({ name }) => name);
  const endAll = async (verdict: Verdict) => {
    for (const { end } of [...made]) await end(verdict);
  };
  const setLog = (there: boolean) => {
    isLogThere = there;
  };
  return { dispatcher, made, names, add, endAll, recorded, disabled, change, setLog };
}

const to = (destinationId: string): Route[] => [{ channel: 'WEBHOOK', destinationId }];
const withFallback = (destinationId: string): Route[] => [
  ...to(destinationId),
  { channel: 'EMAIL', address: 'a@b.example' },
];
const host = (address: string): Route[] => [{ channel: 'WEBHOOK', address }];
const mail: Route[] = [{ channel: 'EMAIL', address: 'a@b.example' }];

describe('limits', () => {
  it('of a destination hold; until they are known, one call is made at a time', async () => {
    const { names, add, change } = world();
    change('d', { limits: { concurrency: 2 } });
    for (const name of ['1', '2', '3']) add(name, to('d'));
    expect(names()).toEqual(['1']);
    await turn();
    expect(names()).toEqual(['1', '2']);
    change('d', { limits: { concurrency: 3 } });
    await turn();
    expect(names()).toEqual(['1', '2', '3']);
  });

  it('a slow destination or host takes its own places and no more', async () => {
    const { names, add, made } = world();
    for (let index = 0; index < 10; index++) add(`slow ${index}`, host('https://slow.example/a'));
    add('also slow', host('https://slow.example/b'));
    add('quick', host('https://quick.example/a'));
    expect(names()).toEqual(['slow 0', 'slow 1', 'slow 2', 'slow 3', 'quick']);
    await made[1]?.end('bad');
    expect(names()).toEqual(['slow 0', 'slow 2', 'slow 3', 'quick', 'slow 4']);
  });

  it('of a rate let calls begin when their time has come', async () => {
    const { names, add, change, endAll } = world();
    change('d', { limits: { perSecond: 2 } });
    await turn();
    for (let index = 0; index < 5; index++) add(`${index}`, to('d'));
    await turn();
    await endAll('good');
    expect(names()).toEqual([]);
    await vi.advanceTimersByTimeAsync(499);
    expect(names()).toEqual([]);
    await vi.advanceTimersByTimeAsync(2);
    expect(names()).toEqual(['2']);
    await vi.advanceTimersByTimeAsync(500);
    expect(names()).toEqual(['2', '3']);
  });

  it('are divided by how much of the work is this instance’s', async () => {
    const { dispatcher, names, add } = world();
    dispatcher.gates.share = 0.5;
    for (let index = 0; index < 4; index++) add(`${index}`, host('https://a.example/'));
    expect(names()).toEqual(['0', '1']);
  });

  it('that the other side asks for (429, Retry-After) hold for all calls to it, and for nobody else', async () => {
    const { names, add, made } = world();
    add('asked', host('https://a.example/'));
    made[0]?.pass.pause(2_000);
    await made[0]?.end('neutral');
    add('waits', host('https://a.example/'));
    add('other', host('https://b.example/'));
    expect(names()).toEqual(['other']);
    await vi.advanceTimersByTimeAsync(2_001);
    expect(names()).toEqual(['other', 'waits']);
  });

  it('large attachments have places of their own, and plain messages never wait for them', async () => {
    const { names, add, endAll } = world({ concurrency: 1 });
    const content = { attachments: [{ filename: 'f', contentType: 'text/plain', base64: 'A'.repeat(2_000) }] };
    const small = { attachments: [{ filename: 'f', contentType: 'text/plain', base64: 'A' }] };
    for (const name of ['large 1', 'large 2']) add(name, host('https://a.example/'), { content });
    add('plain', host('https://a.example/'), { content: small });
    expect(names()).toEqual(['large 1', 'plain']);
    await endAll('good');
    expect(names()).toEqual(['large 2']);
  });
});

describe('the circuit of a destination', () => {
  async function opened(more: Parameters<typeof world>[0] = {}) {
    const it = world(more);
    it.change('d', {});
    for (let call = 0; call < 3; call++) {
      it.add(`failing ${call}`, to('d'));
      await turn();
      await it.endAll('bad');
    }
    return it;
  }

  it('opens after failures in a row, is recorded once, and holds back what waits for it only', async () => {
    const { names, add, recorded, dispatcher } = await opened();
    expect(recorded).toEqual(['d opened']);
    add('waits', to('d'), { priority: 'URGENT' });
    add('other', host('https://a.example/'));
    expect(names()).toEqual(['other']);
    expect(dispatcher).toMatchObject({ running: 1, waiting: 1 });
  });

  it('is half-open after a while: so many calls try it, and close it when they succeed', async () => {
    const { names, add, recorded, endAll } = await opened();
    for (const name of ['1', '2', '3', '4']) add(name, to('d'));
    await vi.advanceTimersByTimeAsync(RECOVERY_MS);
    expect(names()).toEqual(['1', '2']);
    await endAll('good');
    expect(names()).toEqual(['3', '4']);
    expect(recorded).toEqual(['d opened', 'd closed']);
  });

  it('opens again when such a call fails', async () => {
    const { names, add, made } = await opened();
    for (const name of ['1', '2', '3']) add(name, to('d'));
    await vi.advanceTimersByTimeAsync(RECOVERY_MS);
    await made[0]?.end('bad');
    await made[0]?.end('good');
    expect(names()).toEqual([]);
    await vi.advanceTimersByTimeAsync(RECOVERY_MS);
    expect(names()).toEqual(['3']);
  });

  it('makes who has another route take it, and lets them wait again when it is half-open', async () => {
    const { names, add, made } = await opened();
    add('detour', withFallback('d'));
    add('waits', to('d'));
    expect(names()).toEqual(['detour']);
    expect(made[0]?.pass.detour?.code).toBe('CIRCUIT_OPEN');
    await made[0]?.end('neutral');
    await vi.advanceTimersByTimeAsync(RECOVERY_MS);
    expect(names()).toEqual(['waits']);
    add('tries', withFallback('d'));
    expect(made[1]?.pass.detour).toBeUndefined();
  });

  it('closes at once when the log says so: somebody has repaired or enabled it', async () => {
    const { names, add, change } = await opened();
    add('waits', to('d'));
    change('d', {});
    await turn();
    expect(names()).toEqual(['waits']);
  });

  it('is recorded when the log is there again', async () => {
    const { add, endAll, recorded, setLog, change } = world();
    change('d', {});
    setLog(false);
    for (let call = 0; call < 3; call++) {
      add(`${call}`, to('d'));
      await turn();
      await endAll('bad');
    }
    setLog(true);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(recorded).toEqual(['d opened']);
  });

  it('is as another process has left it', async () => {
    const { names, add, change, endAll, recorded } = world();
    const failingSince = new Date(Date.now() - 60_000).toISOString();
    change('d', {
      circuit: { reason: 'r', until: new Date(Date.now() + 500).toISOString(), failingSince, failures: 3 },
    });
    add('asks', to('d'));
    await turn();
    await endAll('neutral');
    add('waits', to('d'));
    expect(names()).toEqual([]);
    await vi.advanceTimersByTimeAsync(501);
    expect(names()).toEqual(['waits']);
    await endAll('good');
    add('last try', to('d'));
    await endAll('good');
    expect(recorded).toEqual(['d closed']);
  });

  it('that fails for long disables the destination; what waits is told by being let through', async () => {
    const { names, add, disabled, endAll } = await opened();
    for (const name of ['1', '2', '3', '4', '5', '6']) add(name, to('d'));
    await vi.advanceTimersByTimeAsync(RECOVERY_MS);
    await endAll('bad');
    expect(disabled).toEqual([]);
    await vi.advanceTimersByTimeAsync(3_600_000);
    await endAll('bad');
    await turn();
    expect(disabled[0]).toMatch(/^d: \d+ failures in a row since 20/);
    expect(names()).toEqual(['5', '6']);
  });
});

describe('providers of a channel', () => {
  const [main, spare]: GatedProvider[] = [
    { name: 'main', channel: 'EMAIL' },
    { name: 'spare', channel: 'EMAIL', priority: 2 },
  ] as [GatedProvider, GatedProvider];

  it('are chosen by preference, and the decision is handed on', async () => {
    const { made, add } = world({ providers: [main as GatedProvider, spare as GatedProvider] });
    add('any', mail);
    add('named', [{ ...mail[0], provider: 'spare' } as Route]);
    expect(made.map(({ pass }) => pass.provider)).toEqual([
      { name: 'main', reason: 'priority' },
      { name: 'spare', reason: 'named in the request' },
    ]);
  });

  it('one that has just failed it is passed over, unless there is no other', async () => {
    const { made, add, dispatcher } = world({ providers: [main as GatedProvider, spare as GatedProvider] });
    add('again', mail, { tried: ['main'] });
    add('once more', mail, { tried: ['main', 'spare'] });
    expect(made.map(({ pass }) => pass.provider)).toEqual([
      { name: 'spare', reason: 'the only one; main: tried' },
      { name: 'main', reason: 'priority' },
    ]);
    const leg = { routes: mail, route: 0 } as unknown as Leg;
    expect([['main'], ['main', 'spare']].map((tried) => dispatcher.gates.hasOther(leg, tried))).toEqual([true, false]);
  });

  it('those with an open circuit or a limit reached are passed over; with none left, it waits', async () => {
    const providers = [{ ...main, limits: { concurrency: 1 } }, spare] as GatedProvider[];
    const { made, add, recorded, names } = world({ providers });
    add('1', mail);
    add('2', mail);
    expect(made[1]?.pass.provider).toEqual({ name: 'spare', reason: 'the only one; main: limit reached' });
    await made[1]?.end('good');
    await made[0]?.end('bad');
    for (const name of ['3', '4']) {
      add(name, mail);
      await made[0]?.end('bad');
    }
    expect(recorded).toEqual(['main opened']);
    add('5', mail);
    expect(made[0]?.pass.provider).toEqual({ name: 'spare', reason: 'the only one; main: circuit open' });
    made[0]?.pass.pause(500);
    add('6', mail);
    expect(names()).toEqual(['5']);
    await vi.advanceTimersByTimeAsync(501);
    expect(names()).toEqual(['5', '6']);
  });

  it('whose circuit was open when the process ended are not called at its next start', async () => {
    const until = new Date(Date.now() + 500).toISOString();
    const circuit = { reason: 'r', until, failingSince: until, failures: 3 };
    const { made, add } = world({ providers: [main, spare] as GatedProvider[], stored: { main: circuit } });
    await turn();
    add('1', mail);
    expect(made[0]?.pass.provider?.name).toBe('spare');
  });
});
