import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { EventStoreDBClient, UnavailableError } from '@eventstore/db-client';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { startEventStore } from '../../support/eventstoredb/start.js';
import { temporaryFolder } from '../../support/logs.js';
import { collect, idsOf, newEvent, newEvents, newStream } from './world.js';

const REPOSITORY = fileURLToPath(new URL('../../..', import.meta.url));

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
beforeEach(async () => {
  folder = await temporaryFolder();
});
afterEach(() => folder.remove());

/** As `npm run eventstore:test-server -- ...` starts it. */
function startAlone(...flags: string[]) {
  const argv = ['--import', './scripts/ts-loader.mjs', 'test/support/eventstoredb/main.ts', ...flags];
  const child = spawn(process.execPath, argv, { cwd: REPOSITORY, stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { out: '', error: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output.out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output.error += text;
  });
  return { child, output, exited: once(child, 'exit').then(([code]) => code as number | null) };
}

it('started alone prints READY, then serves, and exits with 0 on SIGTERM though calls are open', async () => {
  const { child, output, exited } = startAlone(`--path=${folder.path}`, '--port=0', '--public=localhost');
  try {
    await expect.poll(() => output.out, { timeout: 20_000 }).toMatch(/^READY \d+\n$/);
    const port = output.out.trim().split(' ')[1];
    const client = EventStoreDBClient.connectionString(`esdb://127.0.0.1:${port}?tls=false`);
    await client.appendToStream('a', newEvents(2));
    const subscription = client.subscribeToAll();
    const ended = new Promise((resolve) => subscription.on('error', resolve));
    await new Promise((resolve) => subscription.on('caughtUp', resolve).on('data', () => undefined));
    child.kill('SIGTERM');
    expect(await exited).toBe(0);
    expect(await ended).toBeInstanceOf(UnavailableError);
    expect(output).toEqual({ out: `READY ${port}\n`, error: '' });
  } finally {
    child.kill('SIGKILL');
  }
});

it.each([
  ['no path', [], '--path=DIR is needed'],
  ['an unknown flag', ['--path=x', '--colour=red'], '--colour'],
  ['a port that is none', ['--path=x', '--port=99999'], '--port must be a whole number from 0 to 65535'],
  ['a size that is none', ['--path=x', '--max-append-size=1MB'], '--max-append-size must be a whole number'],
  ['a certificate without a key', ['--path=x', '--cert=x'], '--cert and --key go together'],
  ['a certificate that is not there', ['--path=x', '--cert=/none.pem', '--key=/none.pem'], '/none.pem'],
])('says in one line what is wrong with its flags: %s', async (_, flags, problem) => {
  const { output, exited } = startAlone(...flags);
  expect(await exited).not.toBe(0);
  expect(output.error).toContain(problem);
  expect(output.error.trim().split('\n')).toHaveLength(1);
  expect(output.out).toBe('');
});

it('says in one line that the port is taken, or that the log is none', async () => {
  const server = await startEventStore();
  const taken = startAlone(`--path=${folder.path}`, `--port=${server.port}`);
  expect(await taken.exited).not.toBe(0);
  await server.stop();
  await writeFile(join(folder.path, 'data.mdb'), 'this is no log');
  const damaged = startAlone(`--path=${folder.path}`, '--port=0');
  expect(await damaged.exited).not.toBe(0);
  for (const { output } of [taken, damaged]) expect(output.error.trim().split('\n')).toHaveLength(1);
});

it('stopped or killed, comes back with the same facts', async () => {
  const server = await startEventStore({ path: folder.path });
  const client = EventStoreDBClient.connectionString(server.url);
  const facts = async (open: EventStoreDBClient) => ({
    all: await collect(open.readAll()),
    a: await collect(open.readStream('a')),
    metadata: await open.getStreamMetadata('a'),
    deleted: await collect(open.readStream('deleted')).catch((error: Error) => error.name),
  });
  const events = newEvents(3);
  const first = await client.appendToStream('a', events, { expectedRevision: 'any' });
  await client.setStreamMetadata('a', { maxCount: 2 });
  await client.appendToStream('deleted', newEvents(1));
  await client.deleteStream('deleted');
  const before = await facts(client);
  for (const end of [server.stop, server.kill]) {
    await end();
    await server.restart();
    const anew = EventStoreDBClient.connectionString(server.url);
    expect(await facts(anew)).toEqual(before);
    // What was appended without an expectation is known again, too.
    expect(await anew.appendToStream('a', events, { expectedRevision: 'any' })).toEqual(first);
    await anew.dispose();
  }
  expect(await server.stop()).toBe(0);
});

it('killed while it appends has all that it acknowledged, once, and whole appends only', {
  timeout: 60_000,
}, async () => {
  const server = await startEventStore({ path: folder.path });
  const acknowledged: string[] = [];
  for (const kill of [1, 2, 3]) {
    const client = EventStoreDBClient.connectionString(server.url);
    let isKilled = false;
    const appendUntilKilled = async (stream: string) => {
      while (!isKilled) {
        const events = newEvents(3);
        const result = await client.appendToStream(stream, events).catch(() => undefined);
        if (result) acknowledged.push(...events.map(({ id }) => id));
      }
    };
    const enough = acknowledged.length + 300 * kill;
    const appending = Promise.all(Array.from({ length: 16 }, () => appendUntilKilled(newStream())));
    await expect.poll(() => acknowledged.length, { timeout: 20_000 }).toBeGreaterThan(enough);
    await server.kill();
    isKilled = true;
    await client.dispose();
    await appending;
    await server.restart();
  }
  const client = EventStoreDBClient.connectionString(server.url);
  const stored = (await collect(client.readAll())).filter(({ event }) => !event?.streamId.startsWith('$'));
  const ids = idsOf(stored);
  expect(new Set(ids).size).toBe(ids.length);
  expect(ids).toEqual(expect.arrayContaining(acknowledged));
  const streams = new Map<string, number>();
  for (const { event } of stored) {
    expect(Number(event?.revision)).toBe(streams.get(event?.streamId ?? '') ?? 0);
    streams.set(event?.streamId ?? '', Number(event?.revision) + 1);
  }
  for (const count of streams.values()) expect(count % 3).toBe(0);
  await client.appendToStream('after', newEvent());
  await client.dispose();
  await server.stop();
});

it('ends with the process that started it', async () => {
  const module = fileURLToPath(new URL('../../support/eventstoredb/start.ts', import.meta.url));
  const script = `import(${JSON.stringify(module)}).then(async ({ startEventStore }) => {
    const { pid } = await startEventStore({ path: ${JSON.stringify(folder.path)} });
    console.log(pid);
  })`;
  const parent = spawn(process.execPath, ['--import', './scripts/ts-loader.mjs', '--eval', script], {
    cwd: REPOSITORY,
  });
  const [pid] = await once(parent.stdout.setEncoding('utf8'), 'data');
  expect(isRunning(Number(pid))).toBe(true);
  parent.kill('SIGKILL');
  await expect.poll(() => isRunning(Number(pid)), { timeout: 10_000 }).toBe(false);
});

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

const MIB = 1024 * 1024;

it('callers that do not read cost a page of memory each, and hold up nobody', { timeout: 60_000 }, async () => {
  const server = await startEventStore({ path: folder.path });
  const client = EventStoreDBClient.connectionString(server.url);
  const text = 'x'.repeat(100_000);
  for (let count = 0; count < 50; count++)
    await client.appendToStream(
      'large',
      Array.from({ length: 20 }, () => newEvent('large', { text })),
    );
  const before = await settledMemory(server.pid);
  const slow = EventStoreDBClient.connectionString(server.url);
  const readers = Array.from({ length: 8 }, () => slow.readAll());
  for (const reader of readers) reader.once('data', () => reader.pause());
  await Promise.all(readers.map((reader) => once(reader, 'pause')));
  await client.appendToStream('meanwhile', newEvents(1));
  // All that they could read is 8 times 100 MB; a page has at most 16 MiB.
  // What was collected goes back to the system when the collector gets to it; what is held does not.
  const grown = async () => (await settledMemory(server.pid)) - before;
  await expect.poll(grown, { timeout: 30_000 }).toBeLessThan(300 * MIB);
  expect(await collect(client.readStream('meanwhile'))).toHaveLength(1);
  for (const reader of readers) await reader.cancel();
  await slow.dispose();
  await client.dispose();
  await server.stop();
});

/** Resident memory (bytes), once it grows no more. */
async function settledMemory(pid: number): Promise<number> {
  let [before, now] = [0, 1];
  while (now > before) {
    before = now;
    await delay(500);
    now = Number(/^VmRSS:\s+(\d+)/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
  }
  return now;
}
