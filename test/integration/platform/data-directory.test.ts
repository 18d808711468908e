import { randomUUID } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { adminKey, openDataDirectory } from '../../../src/platform/data-directory.js';
import { type Child, type CompiledPlatform, compilePlatform } from './compiled.js';

let compiled: CompiledPlatform;
let temporary: string;
let path: string;
beforeAll(async () => {
  compiled = await compilePlatform();
  temporary = await mkdtemp(join(tmpdir(), 'waybill-data-'));
  await chmod(temporary, 0o755);
});
beforeEach(() => {
  path = join(temporary, randomUUID());
});
afterAll(async () => {
  await compiled.remove();
  await rm(temporary, { recursive: true });
});

const modeOf = async (file: string) => ((await stat(file)).mode & 0o777).toString(8);

function openInChild(options: Parameters<CompiledPlatform['start']>[1] = {}): Promise<Child> {
  const program = `
    import { openDataDirectory } from './dist/platform/data-directory.js';
    await openDataDirectory(${JSON.stringify(path)}).then(
      ({ instanceId }) => report({ pid: process.pid, instanceId }),
      (error) => report({ error: error.message }),
    );`;
  return compiled.start(program, options);
}

describe('the folder', () => {
  it('is made for its owner alone and keeps its identity', async () => {
    const first = await openDataDirectory(path);
    expect(await modeOf(path)).toBe('700');
    for (const file of await readdir(path)) expect(await modeOf(join(path, file))).toBe('600');
    first.release();
    const second = await openDataDirectory(path);
    expect(second.instanceId).toBe(first.instanceId);
    expect(JSON.parse(await readFile(join(path, 'format.json'), 'utf8'))).toEqual({ version: 1 });
    second.release();
  });

  it.each([
    ['a newer format', 'format.json', '{"version":2}', /has format 2 and this Waybill knows up to 1: start the newer/],
    ['a damaged format', 'format.json', '{"vers', /format\.json is damaged/],
    ['a damaged identity', 'instance.id', '../../etc', /instance\.id is damaged/],
  ])('with %s is refused, untouched and not left locked', async (_, file, content, message) => {
    await mkdir(path);
    await writeFile(join(path, file), content);
    await expect(openDataDirectory(path)).rejects.toThrow(message);
    expect(await readFile(join(path, file), 'utf8')).toBe(content);
    await rm(join(path, file));
    (await openDataDirectory(path)).release();
  });

  it('may not be a file or lie below one', async () => {
    await writeFile(path, '');
    await expect(openDataDirectory(path)).rejects.toThrow(/cannot be used: it is not a directory/);
    await expect(openDataDirectory(join(path, 'below'))).rejects.toThrow(/cannot be used: it is not a directory/);
  });

  it('must be readable and writable', async () => {
    await mkdir(path, { mode: 0o500 });
    // Root may write everywhere, so as root another user tries.
    const account = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
    const { report } = await openInChild(account);
    expect(report.error).toBe(
      `Data directory ${path} cannot be used: permission denied (WAYBILL_DATA chooses another)`,
    );
  });
});

/** Without the `flock` program another lock takes its place; both must do the same. */
describe.each([
  ['flock', process.env],
  ['the name of a socket', { ...process.env, PATH: '/nonexistent' }],
])('the lock by %s', (_, env) => {
  it('refuses a second instance, naming the first, until that is killed', async () => {
    const first = await openInChild({ env });
    expect(first.report.pid).toBe(first.process.pid);
    const refused = await openInChild({ env });
    expect(refused.report.error).toBe(
      `Data directory ${path} is in use by process ${first.process.pid}: stop that instance or choose another WAYBILL_DATA`,
    );
    await first.kill('SIGKILL');
    const next = await openInChild({ env });
    expect(next.report).toEqual({ pid: next.process.pid, instanceId: first.report.instanceId });
    await next.kill('SIGKILL');
  });

  it('has one winner when several start at once', async () => {
    for (let round = 0; round < 3; round += 1) {
      const children = await Promise.all(Array.from({ length: 4 }, () => openInChild({ env })));
      const winners = children.filter(({ report }) => report.pid);
      expect(winners).toHaveLength(1);
      for (const { report } of children) {
        if (!report.pid) expect(report.error).toContain(`in use by process ${winners[0]?.report.pid}`);
      }
      await Promise.all(children.map((child) => child.kill('SIGKILL')));
    }
  });
});

it('the lock also holds within one process', async () => {
  const held = await openDataDirectory(path);
  await expect(openDataDirectory(path)).rejects.toThrow(`in use by process ${process.pid}`);
  held.release();
  (await openDataDirectory(path)).release();
});

describe("the administrator's key", () => {
  beforeEach(() => mkdir(path));

  it('is made once, kept privately and told once', async () => {
    const made = await adminKey({ dataDir: path });
    expect(made.isNew).toBe(true);
    expect(Buffer.from(made.key, 'base64url')).toHaveLength(32);
    expect(await modeOf(join(path, 'admin.key'))).toBe('600');
    await chmod(join(path, 'admin.key'), 0o644);
    expect(await adminKey({ dataDir: path })).toEqual({ key: made.key, isNew: false });
    expect(await modeOf(join(path, 'admin.key'))).toBe('600');
  });

  it('is not made when it is configured', async () => {
    const key = 'k'.repeat(32);
    expect(await adminKey({ dataDir: path, adminKey: key })).toEqual({ key, isNew: false });
    expect(await readdir(path)).toEqual([]);
  });

  it('is not replaced when its file is damaged', async () => {
    await writeFile(join(path, 'admin.key'), 'short');
    await expect(adminKey({ dataDir: path })).rejects.toThrow(/admin\.key is damaged/);
  });
});
