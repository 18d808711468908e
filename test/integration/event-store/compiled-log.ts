import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const REPOSITORY = fileURLToPath(new URL('../../..', import.meta.url));

/** The event store, with the words it uses, compiled into a folder of its own, for processes that append to a log and are killed. */
export async function compileEventStore() {
  const directory = await mkdtemp(join(tmpdir(), 'waybill-log-compiled-'));
  for (const part of ['src/domain', 'src/event-store', 'scripts/build.mjs'])
    await cp(join(REPOSITORY, part), join(directory, part), { recursive: true });
  await cp(fileURLToPath(new URL('appender.mjs', import.meta.url)), join(directory, 'appender.mjs'));
  await writeFile(join(directory, 'package.json'), '{"type":"module"}');
  await symlink(join(REPOSITORY, 'node_modules'), join(directory, 'node_modules'));
  execFileSync(process.execPath, [join(directory, 'scripts/build.mjs')]);
  return {
    /** Runs appender.mjs on a log, by another program if one is given. */
    appendTo: (path: string, wrapper: readonly string[] = []) => new Appender(directory, path, wrapper),
    /** Runs a script to its end. Its arguments are the path of a module of the event store, and those given. */
    run: async (script: string, module: string, ...argv: readonly string[]) => {
      const path = join(directory, 'dist/event-store', module);
      const child = spawn(process.execPath, ['--input-type=module', '-e', script, path, ...argv], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let complaints = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        complaints += text;
      });
      const [code] = await once(child, 'close');
      return { code: code as number | null, complaints };
    },
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
  /** Why it could not append, in the log's own words. */
  readonly problems: string[] = [];
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #heard = () => {};

  constructor(directory: string, path: string, wrapper: readonly string[]) {
    const module = join(directory, 'dist/event-store/embedded-log.js');
    const [program, ...argv] = [...wrapper, process.execPath, join(directory, 'appender.mjs'), module, path];
    // What LMDB has to say of a full disk goes to standard error, and is expected.
    this.#child = spawn(program as string, argv, {
      stdio: ['ignore', 'pipe', wrapper.length > 0 ? 'ignore' : 'inherit'],
    });
    const lines = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream });
    lines.on('line', (line) => {
      // The last line of a killed process may be cut off.
      if (line.endsWith('}')) this.#take(JSON.parse(line));
      this.#heard();
    });
    this.#ended = Promise.all([once(lines, 'close'), once(this.#child, 'exit')]);
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** Resolves when so many appends are acknowledged. */
  acknowledges = (count: number): Promise<void> => this.#until(() => this.acknowledged.length >= count);

  /** Resolves when it has said that it cannot append. */
  fails = (): Promise<void> => this.#until(() => this.problems.length > 0);

  async #until(condition: () => boolean): Promise<void> {
    const enough = new Promise<void>((resolve) => {
      this.#heard = () => condition() && resolve();
      this.#heard();
    });
    const early = this.#ended.then(() => Promise.reject(new Error('the appender has ended by itself')));
    await Promise.race([enough, early]);
    early.catch(() => undefined);
  }

  #take(line: Acknowledged | { readonly problem: string }): void {
    if ('problem' in line) this.problems.push(line.problem);
    else this.acknowledged.push(line);
  }

  /** Resolves when the process is gone and all it has said is heard. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
  }
}
