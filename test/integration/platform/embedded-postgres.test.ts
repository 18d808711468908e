import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  rmdir,
  stat,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type EmbeddedPostgres, type StartOptions, startPostgres } from '../../../src/platform/embedded-postgres.js';
import { SYSTEM_DIRECTORY } from '../../../src/platform/postgres-account.js';
import { isPostmaster, readPidFile, stopPostmaster } from '../../../src/platform/postmaster.js';
import { type Child, type CompiledPlatform, compilePlatform, isolatePostgresPackage } from './compiled.js';

const isRoot = process.getuid?.() === 0;
/** An account that exists everywhere and owns nothing. */
const NOBODY = { uid: 65_534, gid: 65_534 };

let compiled: CompiledPlatform;
let temporary: string;
let dataDir: string;
let instanceId: string;
beforeAll(async () => {
  compiled = await compilePlatform();
});
beforeEach(async () => {
  temporary = await mkdtemp(join(tmpdir(), 'waybill-pg-'));
  await chmod(temporary, 0o755);
  dataDir = join(temporary, 'data');
  await mkdir(dataDir, { mode: 0o700 });
  instanceId = randomUUID();
});
afterEach(async () => {
  for (const home of [dataDir, join(SYSTEM_DIRECTORY, instanceId)]) {
    const left = await readPidFile(join(home, 'postgres'));
    if (left) await stopPostmaster(left.pid, join(home, 'postgres'), 'SIGQUIT');
    await rm(home, { recursive: true, force: true });
  }
  await rm(temporary, { recursive: true, force: true });
});
afterAll(async () => {
  await compiled.remove();
  // Stays when something else of Waybill's lives there.
  await rmdir(SYSTEM_DIRECTORY).catch(() => {});
});

const cluster = () => join(dataDir, 'postgres');
const modeOf = async (file: string) => ((await stat(file)).mode & 0o777).toString(8);

function start(options: Partial<StartOptions> = {}): Promise<EmbeddedPostgres> {
  return startPostgres({ dataDir, instanceId, log: { info() {}, error() {} }, ...options });
}

function startInChild(account = {}): Promise<Child> {
  const program = `
    import { startPostgres } from './dist/platform/embedded-postgres.js';
    const options = ${JSON.stringify({ dataDir, instanceId })};
    const server = await startPostgres({ ...options, log: { info() {}, error() {} } });
    report({ ...server });`;
  return compiled.start(program, account);
}

async function query(url: string, sql: string): Promise<unknown[][]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query({ text: sql, rowMode: 'array' })).rows;
  } finally {
    await client.end();
  }
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await setTimeout(1);
}

describe('a first start', () => {
  it('gives a UTF-8 database that only the password opens', async () => {
    const server = await start();
    const [row] = await query(
      server.url,
      `select current_database(), current_setting('server_encoding'), current_setting('timezone'), 'ä' < 'b'`,
    );
    expect(row).toEqual(['waybill', 'UTF8', 'UTC', false]);
    const wrong = new pg.Client({ ...server.connection, password: 'wrong' });
    await expect(wrong.connect()).rejects.toMatchObject({ code: '28P01' });
    await server.stop();
    expect(isPostmaster(server.pid, cluster())).toBe(false);
  });

  it('keeps everything private', async () => {
    const server = await start();
    expect(await modeOf(join(dataDir, 'postgres.password'))).toBe('600');
    expect(await modeOf(join(dataDir, 'postgres.log'))).toBe('600');
    expect(await modeOf(cluster())).toBe('700');
    expect(await modeOf(server.connection.host)).toBe('700');
    expect(await modeOf(join(server.connection.host, '.s.PGSQL.5432'))).toBe('700');
    const open = (await stat(dataDir)).mode & 0o067;
    expect(open, 'the data directory lets at most one group pass through').toBe(0);
    await server.stop();
  });

  it.runIf(process.platform === 'linux')('listens on no TCP port', async () => {
    const server = await start();
    const descriptors = await readdir(`/proc/${server.pid}/fd`);
    const opened = await Promise.all(descriptors.map((fd) => readlink(`/proc/${server.pid}/fd/${fd}`)));
    const sockets = opened.flatMap((target) => /^socket:\[(\d+)\]$/.exec(target)?.[1] ?? []);
    expect(sockets.length).toBeGreaterThan(0);
    const tcp = (await readFile('/proc/net/tcp', 'utf8')) + (await readFile('/proc/net/tcp6', 'utf8').catch(() => ''));
    for (const inode of sockets) expect(tcp).not.toContain(` ${inode} `);
    await server.stop();
  });

  it('that was killed half-way leaves nothing in the way of the next', async () => {
    const halfWay = startInChild();
    await until(async () => (await readdir(dataDir)).some((name) => name.startsWith('postgres.init-')));
    compiled.killAll();
    await expect(halfWay).rejects.toThrow();
    const server = await start();
    await server.stop();
    expect((await readdir(dataDir)).filter((name) => name.startsWith('postgres.init-'))).toEqual([]);
  });

  it('uses a short path for the socket when the data directory has a long one', async () => {
    dataDir = join(temporary, 'd'.repeat(100));
    await mkdir(dataDir, { mode: 0o700 });
    const server = await start();
    expect(server.connection.host.startsWith(temporary)).toBe(false);
    expect(await modeOf(server.connection.host)).toBe('700');
    expect(await query(server.url, 'select 1')).toEqual([[1]]);
    await server.stop();
    await rm(server.connection.host, { recursive: true });
  });
});

describe('a later start', () => {
  it('finds the same data with the same password', async () => {
    const first = await start();
    await query(first.url, 'create table kept as select 42 as n');
    await first.stop();
    const second = await start();
    expect(second.url).toBe(first.url);
    expect(second.adopted).toBe(false);
    expect(await query(second.url, 'select n from kept')).toEqual([[42]]);
    await second.stop();
  });

  it('adopts the server of a killed parent', async () => {
    const parent = await startInChild();
    await query(parent.report.url, 'create table kept as select 42 as n');
    await parent.kill('SIGKILL');
    const server = await start();
    expect(server).toMatchObject({ adopted: true, pid: parent.report.pid, url: parent.report.url });
    expect(await query(server.url, 'select n from kept')).toEqual([[42]]);
    await server.stop();
    expect(isPostmaster(server.pid, cluster())).toBe(false);
  });

  it('recovers when the server was killed too', async () => {
    const parent = await startInChild();
    await query(parent.report.url, 'create table kept as select 42 as n');
    await parent.kill('SIGKILL');
    process.kill(parent.report.pid, 'SIGKILL');
    const server = await start();
    expect(server.adopted).toBe(false);
    expect(await query(server.url, 'select n from kept')).toEqual([[42]]);
    await server.stop();
  });

  it('replaces a server left behind that has other settings', async () => {
    const parent = await startInChild();
    await parent.kill('SIGKILL');
    const server = await start({ settings: { work_mem: '5MB' } });
    expect(server.adopted).toBe(false);
    expect(await query(server.url, 'show work_mem')).toEqual([['5MB']]);
    await server.stop();
  });

  it('replaces a server left behind that is stuck', async () => {
    const parent = await startInChild();
    await parent.kill('SIGKILL');
    process.kill(parent.report.pid, 'SIGSTOP');
    const server = await start();
    expect(server.adopted).toBe(false);
    expect(server.pid).not.toBe(parent.report.pid);
    expect(await query(server.url, 'select 1')).toEqual([[1]]);
    await server.stop();
  });

  it('is not stopped by an old pid file whose pid is another process now', async () => {
    const first = await start();
    const pidFile = await readFile(join(cluster(), 'postmaster.pid'), 'utf8');
    await first.stop();
    // Of the server's own user: only such a process can be taken for its twin.
    const { uid, gid } = await stat(cluster());
    const other = spawn('sleep', ['60'], { uid, gid, cwd: '/' });
    await once(other, 'spawn');
    await writeFile(join(cluster(), 'postmaster.pid'), pidFile.replace(/^\d+/, String(other.pid)));
    const second = await start();
    expect(second.adopted).toBe(false);
    expect(other.exitCode).toBeNull();
    other.kill();
    await second.stop();
  });

  it('that fails says why in one line', async () => {
    await (await start()).stop();
    await writeFile(join(cluster(), 'postgresql.auto.conf'), 'no_such_setting = 1\n');
    const failure = await start().catch((error: Error) => error.message);
    expect(failure).toMatch(/^PostgreSQL does not start: ended with 1: .*no_such_setting/);
    expect(failure).not.toContain('\n');
  });

  it('refuses the files of another major version', async () => {
    await (await start()).stop();
    await writeFile(join(cluster(), 'PG_VERSION'), '17\n');
    await expect(start()).rejects.toThrow(/was made by PostgreSQL 17 and this Waybill brings 18/);
  });
});

describe('a server that dies', () => {
  /** Starts one that is kept running, and remembers what it says. */
  const keep = async () => {
    const said: string[] = [];
    const say = (_: object, message: string) => void said.push(message);
    const server = await start({ restart: true, log: { info: say, error: say } });
    said.length = 0;
    return { server, said };
  };
  const DEATH = 'PostgreSQL ended by itself and is started again';
  const RECOVERY = 'PostgreSQL is back';

  it('is started again at the same address, once for each death', async () => {
    const { server, said } = await keep();
    await query(server.url, 'create table kept as select 42 as n');
    for (const deaths of [1, 2]) {
      const { pid } = server;
      process.kill(pid, 'SIGKILL');
      await until(() => server.pid !== pid);
      expect(await query(server.url, 'select n from kept')).toEqual([[42]]);
      expect(said).toEqual(Array.from({ length: deaths }, () => [DEATH, RECOVERY]).flat());
    }
    await server.stop();
    expect(isPostmaster(server.pid, cluster())).toBe(false);
    expect(said).toHaveLength(4);
  });

  it('is started again when it was adopted, too', async () => {
    const parent = await startInChild();
    await parent.kill('SIGKILL');
    const { server, said } = await keep();
    expect(server.adopted).toBe(true);
    process.kill(server.pid, 'SIGKILL');
    await until(() => server.pid !== parent.report.pid);
    expect(await query(server.url, 'select 1')).toEqual([[1]]);
    expect(said).toEqual([DEATH, RECOVERY]);
    await server.stop();
  });

  it('is tried again until it starts, with one complaint', async () => {
    const { server, said } = await keep();
    const { pid } = server;
    const settings = join(cluster(), 'postgresql.auto.conf');
    await writeFile(settings, 'no_such_setting = 1\n');
    process.kill(pid, 'SIGKILL');
    // Not every fatal line is a try: what the dead one has left behind ends with such lines too.
    const tries = async () =>
      (await readFile(join(dataDir, 'postgres.log'), 'utf8')).split('"no_such_setting"').length - 1;
    await until(async () => (await tries()) >= 3);
    await writeFile(settings, '');
    await until(() => server.pid !== pid && said.length > 2);
    // The first reason may be that what the dead one has left behind is still going.
    expect(said).toEqual([DEATH, expect.stringMatching(/^PostgreSQL does not start: /), RECOVERY]);
    await server.stop();
  });

  it('stays away when it is stopped meanwhile', async () => {
    const { server, said } = await keep();
    process.kill(server.pid, 'SIGKILL');
    await until(() => said.length > 0);
    await server.stop();
    expect(said).toEqual([DEATH]);
    expect(isPostmaster(server.pid, cluster())).toBe(false);
  });

  it('is ended half-way through its start when it is stopped meanwhile', async () => {
    const { server, said } = await keep();
    const { pid } = server;
    process.kill(pid, 'SIGKILL');
    const newest = async () => (await readPidFile(cluster()))?.pid ?? pid;
    await until(async () => (await newest()) !== pid);
    await server.stop();
    expect(isPostmaster(await newest(), cluster())).toBe(false);
    expect(said[0]).toBe(DEATH);
  });

  it('is none of the business of one who only visits', async () => {
    const { server } = await keep();
    const visitor = await start();
    expect(visitor).toMatchObject({ adopted: true, pid: server.pid });
    const { pid } = server;
    process.kill(pid, 'SIGKILL');
    await until(() => server.pid !== pid);
    expect(visitor.pid).toBe(pid);
    await server.stop();
  });
});

describe.runIf(isRoot)('as root', () => {
  it('runs as another user', async () => {
    const server = await start();
    expect((await stat(`/proc/${server.pid}`)).uid).not.toBe(0);
    await server.stop();
  });

  it('keeps the database elsewhere when that user cannot reach the data directory', async () => {
    await chmod(temporary, 0o700);
    const server = await start();
    const [row] = await query(server.url, `select current_setting('data_directory')`);
    expect(row).toEqual([join(SYSTEM_DIRECTORY, instanceId, 'postgres')]);
    await server.stop();
    // What is decided stays decided, or the data would seem lost.
    await chmod(temporary, 0o755);
    const again = await start();
    expect(await query(again.url, `select current_setting('data_directory')`)).toEqual([row]);
    await again.stop();
  });

  it('goes on with the data of an ordinary user, as that user', async () => {
    await chown(dataDir, NOBODY.uid, NOBODY.gid);
    const child = await startInChild(NOBODY);
    expect((await stat(`/proc/${child.report.pid}`)).uid).toBe(NOBODY.uid);
    expect(await query(child.report.url, 'select 1')).toEqual([[1]]);
    await child.kill('SIGKILL');
    const server = await start();
    expect(server).toMatchObject({ adopted: true, pid: child.report.pid });
    await server.stop();
    const next = await start();
    expect((await stat(`/proc/${next.pid}`)).uid).toBe(NOBODY.uid);
    await next.stop();
  });

  it('copies the programs when their user cannot reach or complete them', async () => {
    const closed = await compilePlatform();
    const original = await isolatePostgresPackage(closed.directory);
    const copies = join(temporary, 'native');
    const prepare = `
      import { prepareBinaries } from './dist/platform/postgres-binaries.js';
      report(await prepareBinaries(${JSON.stringify(NOBODY)}, ${JSON.stringify(copies)}));`;
    const inPlace = await closed.start(prepare);
    expect(inPlace.report.directory).toBe(join(original, 'native'));
    await chmod(closed.directory, 0o700);
    const copied = await closed.start(prepare);
    expect(copied.report.directory.startsWith(copies)).toBe(true);
    const { ino } = await stat(copied.report.directory);
    // Half a copy, as after a power cut, is made again; a whole one is used as it is.
    expect((await closed.start(prepare)).report).toEqual(copied.report);
    expect((await stat(copied.report.directory)).ino).toBe(ino);
    await writeFile(join(copied.report.directory, 'bin/postgres'), '');
    expect((await closed.start(prepare)).report).toEqual(copied.report);
    expect((await stat(join(copied.report.directory, 'bin/postgres'))).size).toBeGreaterThan(1_000_000);
    await closed.remove();
  });
});
