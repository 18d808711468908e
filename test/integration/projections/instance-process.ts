import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export interface InstanceSettings {
  readonly logPath: string;
  readonly url: string;
  readonly owner: string;
  readonly leaseMs: number;
}

export type FromInstance =
  | { readonly ready: true }
  | { readonly reached: string }
  | { readonly changed: readonly string[] };

export interface InstanceProcess {
  readonly owner: string;
  /** The deliveries it has told of. */
  readonly changed: ReadonlySet<string>;
  signal(signal: NodeJS.Signals): void;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** SIGTERM. */
  stop(): Promise<void>;
  /** Resolves once a position is visible there. */
  reached(position: bigint): Promise<void>;
}

export const settingsOf = (argv: readonly string[]): InstanceSettings => JSON.parse(argv.at(-1) as string);

/** Starts one that shares log and Postgres with others; resolves once it answers. */
export async function startInstance(settings: InstanceSettings): Promise<InstanceProcess> {
  const child = fork(fileURLToPath(new URL('instance-main.ts', import.meta.url)), [JSON.stringify(settings)], {
    execArgv: ['--import', new URL('../../../scripts/ts-loader.mjs', import.meta.url).href],
  });
  const changed = new Set<string>();
  const waiting = new Map<string, () => void>();
  await new Promise<void>((resolve, reject) => {
    child.on('message', (message: FromInstance) => {
      if ('ready' in message) resolve();
      else if ('reached' in message) waiting.get(message.reached)?.();
      else for (const id of message.changed) changed.add(id);
    });
    child.once('exit', (code, signal) => reject(new Error(`it ended with ${signal ?? code}`)));
  });
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  };
  return {
    owner: settings.owner,
    changed,
    signal: (signal) => void child.kill(signal),
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
    reached: (position) =>
      new Promise((resolve) => {
        waiting.set(String(position), resolve);
        child.send({ waitFor: String(position) });
      }),
  };
}
