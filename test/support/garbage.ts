import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Does something while garbage is collected all the time: what nobody holds is gone long before it is over. */
export async function collectingGarbage<Result>(work: () => Promise<Result>): Promise<Result> {
  let isOver = false;
  const worked = work().finally(() => {
    isOver = true;
  });
  while (!isOver) {
    collect();
    await Promise.race([delay(20), worked.catch(() => undefined)]);
  }
  return await worked;
}
