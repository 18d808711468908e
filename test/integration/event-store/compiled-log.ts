import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const REPOSITORY = fileURLToPath(new URL('../../..', import.meta.url));

/** The event store compiled into a folder of its own, for processes that append to a log and are killed. */
export async function compileEventStore() {
  const directory = await mkdtemp(join(tmpdir(), 'waybill-log-compiled-'));
  for (const part of ['src/event-store', 'scripts/build.mjs'])
    await cp(join(REPOSITORY, part), join(directory, part), { recursive: true });
  await cp(fileURLToPath(new URL('appender.mjs', import.meta.url)), join(directory, 'appender.mjs'));
  await writeFile(join(directory, 'package.json'), '{"type":"module"}');
  await symlink(join(REPOSITORY, 'node_modules'), join(directory, 'node_modules'));
  execFileSync(process.execPath, [join(directory, 'scripts/build.mjs')]);
  return {
    /** Runs appender.mjs on a log. */
    appendTo: (path: string) => new Appender(directory, path),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

export interface Acknowledged {
  readonly streamId: string;
  readonly revision: number;
  readonly ids: readonly string[];
}

export class Appender {
  readonly acknowledged: Acknowledged[] = [];
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #heard = () => {};

  constructor(directory: string, path: string) {
    const module = join(directory, 'dist/event-store/embedded-log.js');
    const argv = [join(directory, 'appender.mjs'), module, path];
    this.#child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
    const lines = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream });
    lines.on('line', (line) => {
      // The last line of a killed process may be cut off.
      if (line.endsWith('}')) this.acknowledged.push(JSON.parse(line) as Acknowledged);
      this.#heard();
    });
    this.#ended = Promise.all([once(lines, 'close'), once(this.#child, 'exit')]);
  }

  async acknowledges(count: number): Promise<void> {
    const enough = new Promise<void>((resolve) => {
      this.#heard = () => this.acknowledged.length >= count && resolve();
      this.#heard();
    });
    const early = this.#ended.then(() => Promise.reject(new Error('the appender has ended by itself')));
    await Promise.race([enough, early]);
    early.catch(() => undefined);
  }

  /** Resolves when the process is gone and all it has said is heard. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
  }
}
