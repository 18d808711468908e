import { parentPort, workerData } from 'node:worker_threads';
import { AuditTask } from './audit/task.js';
import type { AuditWorkerSettings, FromAuditWorker, ToAuditWorker } from './audit/worker-host.js';
import { openEventReader } from './event-log.js';
import { writeDurably } from './platform/data-directory.js';

/** The audit in a thread of its own, so that the one that takes requests and makes attempts is spared. */

if (!parentPort) throw new Error('this file is the entry of a worker thread');
const port = parentPort;
const { location, ...settings } = workerData as AuditWorkerSettings;
const say = (message: FromAuditWorker) => port.postMessage(message);

const reader = await openEventReader(location);
const task = new AuditTask(settings, reader, writeDurably, {
  checkpoint: (note) => say({ type: 'checkpoint', note }),
  problem: (problem) => say({ type: 'problem', problem }),
});

/** One after the other, so that answers come in the order of the questions. */
let verifying: Promise<void> = Promise.resolve();

port.on('message', ({ type }: ToAuditWorker) => {
  if (type === 'stop') void stop();
  else verifying = verifying.then(verify);
});

async function verify(): Promise<void> {
  try {
    say({ type: 'verified', verification: await task.verify() });
  } catch (error) {
    say({ type: 'failed', message: (error as Error).message });
  }
}

/** The thread ends by itself once nothing of it is open. */
async function stop(): Promise<void> {
  await task.stop();
  await verifying;
  await reader.close();
  port.close();
}

task.start();
