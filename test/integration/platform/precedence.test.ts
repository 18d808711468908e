import { readdirSync } from 'node:fs';
import { availableParallelism, getPriority } from 'node:os';
import { describe, expect, it } from 'vitest';
import { postgresPid, startWaybill, type WaybillProcess } from '../../support/waybill-process.js';
import { compilePlatform } from './compiled.js';

/** A thread that gives way, and what it and the main thread are then. The kernel's 19th field, see proc_pid_stat(5) */
const PROGRAM = `
  import { readFileSync } from 'node:fs';
  import { isMainThread, parentPort, Worker } from 'node:worker_threads';
  import { giveWay } from './dist/platform/precedence.js';
  const niceness = () => Number(readFileSync('/proc/thread-self/stat', 'utf8').replace(/^.*\\) /, '').split(' ')[16]);
  if (isMainThread) {
    const thread = new Worker(new URL(import.meta.url));
    thread.once('message', (other) => report({ main: niceness(), other }));
  } else {
    giveWay();
    parentPort.postMessage(niceness());
  }
`;

const own = getPriority();
const nicer = (by: number) => Math.min(own + by, 19);

async function nicenesses({ pid, dataDir }: WaybillProcess) {
  const threads = readdirSync(`/proc/${pid}/task`).map(Number);
  const others = threads.filter((thread) => thread !== pid);
  expect(others.length).toBeGreaterThan(4);
  const database = getPriority((await postgresPid(dataDir)) as number);
  return { main: getPriority(pid), others: [...new Set(others.map((thread) => getPriority(thread)))], database };
}

// Other systems have one niceness for a whole process, so there all stay equal.
describe.runIf(process.platform === 'linux')('who goes first', () => {
  it.runIf(availableParallelism() > 1)('the main thread, before all others and the database', async () => {
    const waybill = await startWaybill();
    expect(await nicenesses(waybill)).toEqual({ main: own, others: [nicer(10)], database: nicer(5) });
    await waybill.stop();
  });

  it('nobody on a single core', async () => {
    const waybill = await startWaybill({ through: ['taskset', '-c', '0'] });
    expect(await nicenesses(waybill)).toEqual({ main: own, others: [own], database: own });
    await waybill.stop();
  });

  it.runIf(availableParallelism() > 1)('a thread that is started later gives way by itself', async () => {
    const platform = await compilePlatform();
    const { report } = await platform.start(PROGRAM).finally(() => platform.remove());
    expect(report).toEqual({ main: own, other: nicer(10) });
  });
});
