import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Pool } from 'undici';
import { nodeFlags } from '../../test/support/node-flags.js';
import { cpuMicros } from '../process-stats.js';
import type { BenchReceiver } from '../receiver.js';
import { payload } from '../workload.js';
import type { Accepted, Contestant } from './contestant.js';

export interface PeerStore {
  /** What `openPeer` gets. */
  readonly address: string;
  /** CPU time so far, in microseconds. */
  cpuMicros(): number | undefined;
  close(): Promise<void>;
}

/** As Waybill runs; the loader lets node read TypeScript. */
const NODE_OPTIONS = [...nodeFlags('start'), '--import', new URL('../../scripts/ts-loader.mjs', import.meta.url).href];
/** As in the client of Waybill's bench. */
const CONNECTIONS = 128;

/**
 * Starts a peer in a process of its own.
 *
 * @param file beside this one; exports `openPeer`
 * @param store is closed with it, also when it does not start
 */
export async function startPeer(file: string, store: PeerStore, receiver: BenchReceiver): Promise<Contestant> {
  const child = fork(fileURLToPath(new URL('peer-main.ts', import.meta.url)), [file, store.address, receiver.origin], {
    execArgv: NODE_OPTIONS,
    env: { ...process.env, NODE_ENV: 'production' },
    // What a peer prints is for people, and standard output may be for a program.
    stdio: ['ignore', 2, 2, 'ipc'],
  });
  const exited = once(child, 'exit');
  const answer = async () => {
    const ended = exited.then(() => Promise.reject(new Error(`the process of ${file} has ended`)));
    return (await Promise.race([once(child, 'message'), ended]))[0] as number;
  };
  const end = async () => {
    if (child.connected) child.disconnect();
    await exited;
    await store.close();
  };

  const port = await answer().catch(async (error) => {
    await end();
    throw error;
  });
  const pool = new Pool(`http://127.0.0.1:${port}`, { connections: CONNECTIONS });
  const request = async (data: readonly object[]): Promise<{ ids: string[]; acceptedAt: number }> => {
    const headers = { 'content-type': 'application/json' };
    const { statusCode, body } = await pool.request({
      ...{ path: '/deliveries', method: 'POST', headers, body: JSON.stringify(data) },
    });
    const text = await body.text();
    if (statusCode !== 202) throw new Error(`${file} answered ${statusCode}: ${text}`);
    return JSON.parse(text);
  };
  return {
    async requestBulk(first, count) {
      const { ids } = await request(Array.from({ length: count }, (_, index) => payload(first + index)));
      return ids;
    },
    async requestOne(number) {
      const { ids, acceptedAt } = await request([payload(number)]);
      return { id: ids[0], acceptedAt } as Accepted;
    },
    async settled() {
      child.send('settled');
      return answer();
    },
    cpu: () => ({ own: cpuMicros(child.pid as number), store: store.cpuMicros() }),
    async stop() {
      await pool.destroy();
      await end();
    },
  };
}
