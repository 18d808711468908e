/**
 * Loaded into a Waybill that is measured (`node --import`), also into its threads: writes each thread's heap, in MiB, to
 * `<HEAP_PROBE>/<thread>` once a second.
 */
import { writeFile } from 'node:fs';
import { join } from 'node:path';
import { isMainThread, threadId } from 'node:worker_threads';

const folder = process.env.HEAP_PROBE;
if (folder)
  setInterval(() => {
    const { heapUsed } = process.memoryUsage();
    const thread = isMainThread ? 'main' : `worker-${threadId}`;
    writeFile(join(folder, thread), String(heapUsed / 1024 / 1024), () => undefined);
  }, 1_000).unref();
