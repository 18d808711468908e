import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { REPOSITORY } from './compiled.js';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'waybill-build-'));
  await cp(join(REPOSITORY, 'bin'), join(root, 'bin'), { recursive: true });
  await cp(join(REPOSITORY, 'scripts/build.mjs'), join(root, 'scripts/build.mjs'));
  await symlink(join(REPOSITORY, 'node_modules'), join(root, 'node_modules'));
  await write('package.json', '{"type":"module"}');
  await write(
    'src/cli/main.ts',
    `import { word } from '../word.js';\nexport const main = (argv: string[]): void => console.log(word, argv[2]);`,
  );
  await write('src/word.ts', `export const word: string = 'hello';`);
  await write('src/graphql/schema.graphql', 'type Query { a: Int }');
});
afterEach(() => rm(root, { recursive: true }));

async function write(file: string, content: string) {
  await mkdir(join(root, file, '..'), { recursive: true });
  await writeFile(join(root, file), content);
}

function node(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, args, { cwd: tmpdir() }, (error, stdout, stderr) => {
      resolve({ code: Number(error?.code ?? 0), stdout, stderr });
    });
  });
}

const waybill = (...args: string[]) => node(join(root, 'bin/waybill.mjs'), ...args);
const leftovers = async () => (await readdir(root)).filter((name) => name.startsWith('dist.'));

it('builds before it starts, and again only after a change', async () => {
  expect(await waybill('world')).toEqual({ code: 0, stdout: 'hello world\n', stderr: '' });
  const built = await stat(join(root, 'dist'));
  await waybill('world');
  expect((await stat(join(root, 'dist'))).ino).toBe(built.ino);
  await write('src/word.ts', `export const word: string = 'goodbye';`);
  expect((await waybill('world')).stdout).toBe('goodbye world\n');
});

it('copies what is not TypeScript and keeps nothing of deleted sources', async () => {
  await write('src/old.ts', 'export {};');
  await waybill();
  expect(await readFile(join(root, 'dist/graphql/schema.graphql'), 'utf8')).toContain('type Query');
  await rm(join(root, 'src/old.ts'));
  await waybill();
  expect(await readdir(join(root, 'dist'))).toEqual(expect.not.arrayContaining(['old.js']));
  expect(await leftovers()).toEqual([]);
});

it('may run several times at once', async () => {
  const runs = await Promise.all([1, 2, 3, 4].map(() => node(join(root, 'scripts/build.mjs'))));
  expect(runs.map(({ code, stderr }) => ({ code, stderr }))).toEqual(Array(4).fill({ code: 0, stderr: '' }));
  expect((await waybill('world')).stdout).toBe('hello world\n');
  expect(await leftovers()).toEqual([]);
});

it('names the source that does not compile and leaves the last build alone', async () => {
  await waybill();
  await write('src/word.ts', 'export const = ;');
  const { code, stderr } = await waybill();
  expect(code).toBe(1);
  expect(stderr).toContain('src/word.ts does not compile');
  expect(await readFile(join(root, 'dist/word.js'), 'utf8')).toContain('hello');
  expect(await leftovers()).toEqual([]);
});

it('runs from dist alone, as packaged', async () => {
  await waybill();
  await rm(join(root, 'src'), { recursive: true });
  await rm(join(root, 'scripts'), { recursive: true });
  await rm(join(root, 'node_modules'));
  expect((await waybill('world')).stdout).toBe('hello world\n');
  await rm(join(root, 'dist'), { recursive: true });
  const { code, stderr } = await waybill();
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: expect.stringMatching(/^This package is incomplete: [^\n]*\n$/),
  });
});
