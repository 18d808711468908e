import { afterEach, beforeEach, expect, it } from 'vitest';
import { firstAttempt, owner } from '../../support/attempts.js';
import { type CommandSide, commandSide } from '../../support/commands.js';

let side: CommandSide;
beforeEach(async () => {
  side = await commandSide();
});
afterEach(() => side.close());

const ignore = () => undefined;

/** The signals of two attempts, one after the other, of which the first did that with its own. */
async function signalsOf(first: (signal: AbortSignal) => void) {
  const signals: AbortSignal[] = [];
  const attempts = owner(side, ({ signal }) => {
    if (signals.push(signal) === 1) first(signal);
  });
  for (const _ of [1, 2]) await attempts.run(await firstAttempt(side));
  return { attempts, signals };
}

it('the signal of an attempt that has ended serves the next one', async () => {
  const { signals } = await signalsOf((signal) => {
    signal.addEventListener('abort', ignore);
    signal.removeEventListener('abort', ignore);
  });
  expect(signals[0]).toBe(signals[1]);
});

it('a signal somebody still listens to is no other attempt’s', async () => {
  const { signals } = await signalsOf((signal) => signal.addEventListener('abort', ignore));
  expect(signals[0]).not.toBe(signals[1]);
});

it('attempts at the same time have signals of their own, and shutdown ends them all', async () => {
  const signals: AbortSignal[] = [];
  const attempts = owner(side, ({ signal }) => {
    signals.push(signal);
    return new Promise((resolve) => signal.addEventListener('abort', () => resolve()));
  });
  const works = [await firstAttempt(side), await firstAttempt(side)];
  const running = Promise.all(works.map((work) => attempts.run(work)));
  await expect.poll(() => signals.length).toBe(2);
  expect(signals[0]).not.toBe(signals[1]);
  attempts.abort();
  await running;
  expect(signals.every(({ aborted }) => aborted)).toBe(true);
});

it('a signal that was aborted is never used again', async () => {
  const signals: AbortSignal[] = [];
  const attempts = owner(side, ({ signal }) => {
    signals.push(signal);
    if (signals.length === 1) attempts.abort();
  });
  for (const _ of [1, 2]) await attempts.run(await firstAttempt(side));
  expect(signals[1]?.aborted).toBe(false);
});
