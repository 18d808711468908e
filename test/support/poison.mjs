/**
 * Loaded into a Waybill (`node --import`), also into its threads: makes it one whose read models cannot handle a delivery
 * that has `poison` in its metadata. What it is worth decides how: `throw`, or `kill` for the whole process.
 */
import { workerData } from 'node:worker_threads';

// Only the thread of the read models is told how large its batches are.
if (workerData?.batchEvents !== undefined) {
  const { stringify } = JSON;
  JSON.stringify = (value, ...more) => {
    const poison = value?.poison;
    if (poison === 'kill') process.kill(process.pid, 'SIGKILL');
    if (poison === 'throw') throw new Error('this program cannot handle it');
    return stringify(value, ...more);
  };
}
