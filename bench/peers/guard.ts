import { spawn } from 'node:child_process';

export interface Guarded {
  readonly pid: number;
  /** One that ends it at once, with its children. */
  readonly signal: 'KILL' | 'QUIT';
  readonly folders: readonly string[];
}

/**
 * Leaves a small shell waiting on a pipe whose other end is ours: it closes when this process ends, by SIGKILL too, and
 * then the shell ends the server and removes its folders.
 *
 * @returns what ends the shell, for when that was done in good order
 */
export function guard({ pid, signal, folders }: Guarded): () => void {
  const script = `
    cat >/dev/null
    kill -${signal} "$1"
    for _ in $(seq 100); do kill -0 "$1" || break; sleep 0.05; done
    shift
    rm -rf "$@"`;
  const shell = spawn('sh', ['-c', script, 'sh', String(pid), ...folders], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  shell.unref();
  (shell.stdin as unknown as { unref(): void }).unref();
  return () => void shell.kill('SIGKILL');
}
