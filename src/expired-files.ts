import type { Logger } from 'pino';
import type { EncryptedFiles } from './platform/encrypted-files.js';

const HOUR_MS = 3_600_000;
/** Not at once, when everything else starts too. */
const FIRST_AFTER_MS = 30_000;

/** Removes files whose time is over, once an hour. @returns what ends it */
export function removeWhenExpired(files: Pick<EncryptedFiles, 'removeExpired'>, log: Logger): () => Promise<void> {
  let isStopped = false;
  let running: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout;
  const round = async () => {
    try {
      const removed = await files.removeExpired(new Date());
      if (removed > 0) log.info({ removed }, 'files behind expired links were removed');
    } catch (error) {
      log.warn({ err: error }, 'files behind expired links could not be removed');
    }
    if (!isStopped) plan(HOUR_MS);
  };
  const plan = (ms: number) => {
    timer = setTimeout(() => {
      running = round();
    }, ms).unref();
  };
  plan(FIRST_AFTER_MS);
  return async () => {
    isStopped = true;
    clearTimeout(timer);
    await running;
  };
}
