import { once } from 'node:events';
import { afterEach, expect, it, vi } from 'vitest';
import { withDeadline } from '../../../src/channels/deadline.js';
import { Halt } from '../../../src/sagas/halt.js';
import { collectingGarbage } from '../../support/garbage.js';

afterEach(() => {
  vi.useRealTimers();
});

/** Says why it was ended. */
const waits = async (signal: AbortSignal): Promise<unknown> => {
  if (!signal.aborted) await once(signal, 'abort');
  return signal.reason;
};

it('what takes too long is ended, whatever is collected as garbage meanwhile', async () => {
  const reason = await collectingGarbage(() => withDeadline(300, new AbortController().signal, waits));
  expect(reason).toMatchObject({ name: 'TimeoutError' });
});

it('what is halted ends with the reason, also when it was halted before it began', async () => {
  const halt = new Halt();
  const stop = new Error('stop');
  const ended = withDeadline(60_000, halt, waits);
  halt.abort(stop);
  expect(await ended).toBe(stop);
  expect(await withDeadline(60_000, halt, waits)).toBe(stop);
});

it('what has ended in time, or failed, is not halted later', async () => {
  vi.useFakeTimers();
  const controller = new AbortController();
  let given: AbortSignal | undefined;
  const at = (work: () => Promise<string>) =>
    withDeadline(50, controller.signal, (signal) => {
      given = signal;
      return work();
    });
  expect(await at(async () => 'done')).toBe('done');
  vi.advanceTimersByTime(100);
  expect(given?.aborted).toBe(false);
  await expect(at(async () => Promise.reject(new Error('refused')))).rejects.toThrow('refused');
  controller.abort();
  vi.advanceTimersByTime(100);
  expect(given?.aborted).toBe(false);
  expect(vi.getTimerCount()).toBe(0);
});
