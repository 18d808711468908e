/**
 * Loaded into a Waybill that is measured (`node --expose-gc --import`): once a second it collects the main thread's garbage and
 * writes to `<LIVE_PROBE>` the most there was left of heap and buffers together, in MiB, since the file was last removed.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';

const file = process.env.LIVE_PROBE;
if (file && isMainThread) {
  let most = 0;
  setInterval(() => {
    globalThis.gc();
    const { heapUsed, external } = process.memoryUsage();
    const live = (heapUsed + external) / 1024 / 1024;
    most = existsSync(file) ? Math.max(most, live) : live;
    writeFileSync(file, String(most));
  }, 1_000).unref();
}
