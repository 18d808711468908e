import { fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export interface BenchReceiver {
  readonly origin: string;
  readonly port: number;
  readonly pid: number;
  /** Requests, and different ids of messages among them, since the last `forget`. */
  count(): Promise<{ readonly requests: number; readonly distinct: number }>;
  /** When each webhook-id came first, by `monotonicMs`. */
  arrivals(): Promise<ReadonlyMap<string, number>>;
  forget(): Promise<void>;
  /** @throws Error when after the patience there are not so many different ids */
  untilReceived(count: number, patienceMs: number): Promise<void>;
  close(): Promise<void>;
}

/** What the receiver is asked for while others are measured; each question costs it a few microseconds. */
const POLL_MS = 20;

/** @param main the program that receives */
export async function startReceiver(main = 'receiver-main.ts'): Promise<BenchReceiver> {
  const child = fork(fileURLToPath(new URL(main, import.meta.url)), {
    execArgv: ['--import', new URL('../scripts/ts-loader.mjs', import.meta.url).href],
    serialization: 'advanced',
  });
  const [port] = await once(child, 'message');
  const ask = async (question: string) => {
    const answer = once(child, 'message');
    child.send(question);
    return (await answer)[0];
  };
  const count: BenchReceiver['count'] = () => ask('count');
  return {
    origin: `http://127.0.0.1:${port}`,
    port: port as number,
    pid: child.pid as number,
    count,
    arrivals: async () => new Map(await ask('arrivals')),
    forget: () => ask('forget'),
    async untilReceived(wanted, patienceMs) {
      for (const deadline = Date.now() + patienceMs; ; await delay(POLL_MS)) {
        const { distinct } = await count();
        if (distinct >= wanted) return;
        if (Date.now() > deadline) throw new Error(`after ${patienceMs} ms ${distinct} of ${wanted} have come`);
      }
    },
    async close() {
      const exited = once(child, 'exit');
      child.disconnect();
      await exited;
    },
  };
}
