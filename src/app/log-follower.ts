import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { type AuditSettings, AuditTask } from '../audit/task.js';
import type { FromAuditWriter } from '../audit/worker-host.js';
import { EventCodec } from '../event-store/codec.js';
import { closedFields } from '../event-store/sealed-fields.js';
import { writeDurably } from '../platform/data-directory.js';
import { giveWay } from '../platform/precedence.js';
import { tidyAtRest } from '../platform/tidy-at-rest.js';
import { Instance } from '../projections/runner/instance.js';
import type { FromWorker, ToWorker, WorkerSettings } from '../projections/runner/messages.js';
import { openEventReader } from './event-log.js';

/**
 * All that follows the log, projections and audit trail, in a thread of its own, so that the one that takes requests and
 * makes attempts is spared; and in one, so that an event is read and parsed once.
 */

/** The main thread is told of progress at most this often. */
const PROGRESS_MS = 5;
/** … and at least this often, so that it sees that this one does not hang. */
const SIGN_OF_LIFE_MS = 5_000;

if (!parentPort) throw new Error('this file is the entry of a worker thread');
const port = parentPort;
const { log, beside, ...settings } = workerData as WorkerSettings;
const say = (message: FromWorker) => port.postMessage(message);

giveWay();
const reader = await openEventReader(log);
let progressDue: NodeJS.Timeout | undefined;

function tellProgress(): void {
  progressDue = undefined;
  say({ type: 'progress', projections: runner.progress() });
}

const runner = new Instance(
  { reader, codec: new EventCodec(closedFields), ...settings },
  {
    progress: () => {
      progressDue ??= setTimeout(tellProgress, PROGRESS_MS);
    },
    changed: (deliveries) => say({ type: 'changed', deliveries }),
    rebuild: (rebuild) => say({ type: 'rebuild', rebuild }),
  },
);

port.on('message', (message: ToWorker) => {
  if (message.type === 'watch') runner.watch(message.isWanted, message.after);
  else if (message.type === 'hasten') runner.hasten(message.isAwaited);
  else if (message.type === 'order') void carryOut(message);
  else void stop();
});

async function carryOut({ request, order, about }: ToWorker & { type: 'order' }): Promise<void> {
  try {
    const ask = runner[order].bind(runner) as (...about: readonly unknown[]) => Promise<unknown>;
    say({ type: 'answered', request, answer: await ask(...about) });
  } catch (cause) {
    // Errors lose their class on the way to another thread.
    const { name, message } = cause as Error;
    say({ type: 'refused', request, error: { name, message } });
  }
}

/** The thread ends by itself once nothing of it is open. */
async function stop(): Promise<void> {
  await runner.stop();
  stopTidying();
  clearInterval(signOfLife);
  clearTimeout(progressDue);
  tellProgress();
  clearTimeout(progressDue);
  await reader.close();
  port.close();
}

/** Ends when it is told to, before the projections do. */
function growAuditTrail(auditSettings: AuditSettings, auditPort: MessagePort): void {
  const tell = (message: FromAuditWriter) => auditPort.postMessage(message);
  const task = new AuditTask(auditSettings, reader, writeDurably, {
    checkpoint: (note) => tell({ type: 'checkpoint', note }),
    problem: (problem) => tell({ type: 'problem', problem }),
  });
  auditPort.once('message', () => void task.stop().then(() => auditPort.close()));
  task.start();
}

const signOfLife = setInterval(tellProgress, SIGN_OF_LIFE_MS);
const stopTidying = tidyAtRest();
runner.start();
if (beside) growAuditTrail(beside.settings as AuditSettings, beside.port);
