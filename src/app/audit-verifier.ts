import { parentPort, workerData } from 'node:worker_threads';
import { AuditTask } from '../audit/task.js';
import type { FromVerifier, VerifierSettings } from '../audit/worker-host.js';
import { writeDurably } from '../platform/data-directory.js';
import { giveWay } from '../platform/precedence.js';
import { openEventReader } from './event-log.js';

/** One verification of the audit trail, in a thread of its own: it takes about 15 s for a million entries. */

if (!parentPort) throw new Error('this file is the entry of a worker thread');
const port = parentPort;
const { location, ...settings } = workerData as VerifierSettings;
const say = (message: FromVerifier) => port.postMessage(message);

giveWay();
const reader = await openEventReader(location);
const task = new AuditTask(settings, reader, writeDurably, {});
port.once('message', () => void task.stop());
try {
  say({ type: 'verified', verification: await task.verify() });
} catch (error) {
  say({ type: 'failed', message: (error as Error).message });
} finally {
  await reader.close();
  port.close();
}
