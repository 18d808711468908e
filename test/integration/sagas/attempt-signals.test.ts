import { afterEach, beforeEach, expect, it } from 'vitest';
import type { SendOptions } from '../../../src/channels/channel.js';
import { Call } from '../../../src/sagas/halt.js';
import { firstAttempt, owner } from '../../support/attempts.js';
import { type CommandSide, commandSide } from '../../support/commands.js';

let side: CommandSide;
beforeEach(async () => {
  side = await commandSide();
});
afterEach(() => side.close());

it.each(['signal', 'halt'] as const)(
  'attempts at the same time are all ended by shutdown, who listen to their %s',
  async (what) => {
    const calls: SendOptions[] = [];
    const attempts = owner(side, (options) => {
      calls.push(options);
      return new Promise((resolve) => options[what]?.addEventListener('abort', () => resolve()));
    });
    const works = [await firstAttempt(side), await firstAttempt(side)];
    const running = Promise.all(works.map((work) => attempts.run(work)));
    await expect.poll(() => calls.length).toBe(2);
    expect(calls[0]?.signal).not.toBe(calls[1]?.signal);
    attempts.abort();
    await running;
    for (const { signal, halt } of calls) expect([signal.aborted, halt?.aborted]).toEqual([true, true]);
  },
);

it('one attempt that was ended ends no other', async () => {
  const calls: SendOptions[] = [];
  const attempts = owner(side, (options) => {
    if (calls.push(options) === 1) attempts.abort();
  });
  for (const _ of [1, 2]) await attempts.run(await firstAttempt(side));
  expect(calls.map(({ signal, halt }) => [signal.aborted, halt?.aborted])).toEqual([
    [true, true],
    [false, false],
  ]);
});

const call = () => new Call('key', new Date());
const reason = new DOMException('it took too long', 'TimeoutError');

it('who asks for the signal when all is over gets one that says so, and why', () => {
  const late = call();
  late.halt.abort(reason);
  expect(late.signal.aborted).toBe(true);
  expect(late.signal.reason).toBe(reason);
});

it('there is one signal for a call, and its reason is the first', () => {
  const one = call();
  const { signal } = one;
  one.halt.abort(reason);
  one.halt.abort(new Error('later'));
  expect(one.signal).toBe(signal);
  expect(signal.reason).toBe(reason);
});

it('who has left hears nothing, the others hear it once', () => {
  const heard: string[] = [];
  const { halt } = call();
  const [stays, leaves] = [() => heard.push('stays'), () => heard.push('leaves')];
  for (const listener of [stays, leaves]) halt.addEventListener('abort', listener);
  halt.removeEventListener('abort', leaves);
  halt.removeEventListener('abort', () => undefined);
  for (const _ of [1, 2]) halt.abort(reason);
  expect(heard).toEqual(['stays']);
});
