/**
 * Loaded into a Waybill that is measured (`node --import`): every 10 ms it looks at the main thread's memory, and writes to
 * `<BUFFER_PROBE>` the most there was of heap and buffers together, and of buffers alone, in MiB, since the file was last
 * removed.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';

const file = process.env.BUFFER_PROBE;
const MIB = 1024 * 1024;
if (file && isMainThread) {
  let most = { own: 0, buffers: 0 };
  let shown = '';
  setInterval(() => {
    const { heapUsed, external, arrayBuffers } = process.memoryUsage();
    if (!existsSync(file)) most = { own: 0, buffers: 0 };
    most = {
      own: Math.max(most.own, (heapUsed + external) / MIB),
      buffers: Math.max(most.buffers, arrayBuffers / MIB),
    };
    const text = JSON.stringify(most);
    if (text !== shown || !existsSync(file)) writeFileSync(file, text);
    shown = text;
  }, 10).unref();
}
