import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { programOf } from '../../../src/cli/main.js';

const WAYBILL = fileURLToPath(new URL('../../../bin/waybill.mjs', import.meta.url));

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'waybill-cli-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const run = (file: string, args: readonly string[], env: Record<string, string> = {}) =>
  new Promise<{ code: number; out: string; error: string }>((resolve) => {
    const settings = { ...process.env, WAYBILL_DATA: join(folder, 'data'), ...env };
    execFile(file, args, { env: settings, cwd: folder }, (error, out, text) =>
      resolve({ code: error ? Number(error.code) : 0, out, error: text }),
    );
  });
const waybill = (...args: string[]) => run(process.execPath, [WAYBILL, ...args]);

function* leavesOf(command: Command, path: readonly string[] = []): Generator<[string, Command]> {
  if (command.commands.length === 0) yield [path.join(' '), command];
  for (const inner of command.commands) yield* leavesOf(inner, [...path, inner.name()]);
}
const commands = [...leavesOf(programOf({}))];
/** A server, a show, a script, and what has `--format` instead. */
const WITHOUT_JSON = new Set(['start', 'demo', 'completion', 'deliveries export']);

describe('every command', () => {
  it.each(commands)('%s says what it does and what each option means', (path, command) => {
    expect(command.description(), path).not.toBe('');
    for (const option of command.options) expect(option.description, `${path} ${option.long}`).not.toBe('');
    for (const argument of command.registeredArguments)
      expect(argument.name() + argument.description, path).not.toBe('');
    expect(command.helpInformation()).toMatch(/^Usage: waybill /);
  });

  it('answers programs in JSON', () => {
    const without = commands.filter(([, { options }]) => !options.some(({ long }) => long === '--json'));
    expect(new Set(without.map(([path]) => path))).toEqual(WITHOUT_JSON);
  });
});

it('--help of any depth ends with 0, and what there is not with 1 and the help', async () => {
  expect(await waybill('--help')).toMatchObject({ code: 0, error: '', out: expect.stringContaining('doctor') });
  expect(await waybill('audit', 'verify', '--help')).toMatchObject({
    code: 0,
    out: expect.stringContaining('--offline'),
  });
  for (const args of [['nonsense'], ['deliveries', 'nonsense'], ['replay', '--nonsense'], ['completion', 'fish']]) {
    const { code, out, error } = await waybill(...args);
    expect([args, code, out]).toEqual([args, 1, '']);
    expect(error).toMatch(/error: |There are scripts for bash and zsh/);
  }
});

describe('completion', () => {
  const completed = async (...words: string[]) => {
    const script = join(folder, 'completion.bash');
    await writeFile(script, (await waybill('completion', 'bash')).out);
    const line = words.map((word) => `'${word}'`).join(' ');
    const text = `source ${script}; COMP_WORDS=(${line}); COMP_CWORD=${words.length - 1}; _waybill; echo "\${COMPREPLY[@]}"`;
    const { code, out, error } = await run('bash', ['--norc', '-c', text]);
    expect({ code, error }).toEqual({ code: 0, error: '' });
    return out.trim().split(' ');
  };

  it('knows commands, commands of commands, and options', async () => {
    expect(await completed('waybill', 'do')).toEqual(['doctor']);
    expect(await completed('waybill', 'dead-letters', '')).toEqual(expect.arrayContaining(['list', 'retry']));
    expect(await completed('waybill', 'replay', '--j')).toEqual(['--json']);
    expect(await completed('waybill', 'deliveries', 'show', 'some-id', '--js')).toEqual(['--json']);
  });
});

describe('doctor', () => {
  it('finds what is wrong, says what to do, and ends with 1', async () => {
    const { code, out } = await run(process.execPath, [WAYBILL, 'doctor', '--json'], {
      DATABASE_URL: 'postgresql://127.0.0.1:1/none',
    });
    expect(code).toBe(1);
    const findings = JSON.parse(out) as { what: string; state: string; detail: string; remedy?: string }[];
    expect(findings.find(({ what }) => what === 'node')).toMatchObject({ state: 'ok' });
    const problems = findings.filter(({ state }) => state === 'problem');
    expect(problems.length).toBeGreaterThan(0);
    for (const { remedy } of problems) expect(remedy).toBeTruthy();
  });

  it('names the setting that is wrong', async () => {
    const { code, out } = await run(process.execPath, [WAYBILL, 'doctor'], { PORT: 'ninety' });
    expect(code).toBe(1);
    expect(out).toMatch(/problem +configuration: PORT /);
  });
});
