import type { Halting } from './channel.js';

/**
 * Does what has to end in time: the signal it is given aborts after `ms` with a TimeoutError, or with `halt`.
 *
 * Not by a timeout among the sources of AbortSignal.any: Node keeps no hold of those, and once it is collected as garbage
 * the work is never ended (https://github.com/nodejs/node/issues/57736, in Node 20.20 too).
 */
export async function withDeadline<Result>(
  ms: number,
  halt: Halting | undefined,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const deadline = new AbortController();
  const stop = () => deadline.abort(halt?.reason);
  if (halt?.aborted) stop();
  const timer = setTimeout(() => deadline.abort(new DOMException('it took too long', 'TimeoutError')), ms);
  halt?.addEventListener('abort', stop);
  try {
    return await work(deadline.signal);
  } finally {
    clearTimeout(timer);
    halt?.removeEventListener('abort', stop);
  }
}
