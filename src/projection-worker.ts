import { parentPort, workerData } from 'node:worker_threads';
import { openEventReader } from './event-log.js';
import { EventCodec } from './event-store/codec.js';
import { closedFields } from './event-store/sealed-fields.js';
import { Instance } from './projections/instance.js';
import type { FromWorker, ToWorker, WorkerSettings } from './projections/messages.js';

/** The projections in a thread of their own, so that the one that takes requests and makes attempts is spared. */

/** The main thread is told of progress at most this often. */
const PROGRESS_MS = 5;
/** … and at least this often, so that it sees that this one does not hang. */
const SIGN_OF_LIFE_MS = 5_000;

if (!parentPort) throw new Error('this file is the entry of a worker thread');
const port = parentPort;
const { log, ...settings } = workerData as WorkerSettings;
const say = (message: FromWorker) => port.postMessage(message);

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
  clearInterval(signOfLife);
  clearTimeout(progressDue);
  tellProgress();
  clearTimeout(progressDue);
  await reader.close();
  port.close();
}

const signOfLife = setInterval(tellProgress, SIGN_OF_LIFE_MS);
runner.start();
