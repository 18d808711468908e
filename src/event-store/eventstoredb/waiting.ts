import { setTimeout as delay } from 'node:timers/promises';
import { Silence } from './errors.js';

const FIRST_PAUSE_MS = 25;
const LONGEST_PAUSE_MS = 1_000;

/**
 * Waits before another try, longer the more have failed, and not the same time everywhere: many may have waited for the
 * same server. Ends early when `signal` aborts.
 */
export async function pause(failures: number, signal: AbortSignal): Promise<void> {
  const most = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures);
  await delay(most * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
}

/** @throws Silence with the message, when the promise takes longer */
export async function within<T>(timeoutMs: number, promise: Promise<T>, message: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Silence(message)), timeoutMs);
  });
  try {
    return await Promise.race([promise, silence]);
  } finally {
    clearTimeout(timer);
  }
}
