import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openEventStore } from '../../../src/app/event-log.js';
import { Audit } from '../../../src/audit/audit.js';
import { verifyBundle } from '../../../src/audit/bundle-verifier.js';
import { AuditTask } from '../../../src/audit/task.js';
import type { EventStore, NewEvent } from '../../../src/event-store/event-store.js';
import { writeDurably } from '../../../src/platform/data-directory.js';
import { openDatabase } from '../../../src/platform/database.js';
import { type EventStoreProcess, startEventStore } from '../../support/eventstoredb/start.js';
import { temporaryFolder } from '../../support/logs.js';
import { type TestDatabase, testDatabase } from '../../support/postgres.js';

/** The trail of a log that is an EventStoreDB: built over the wire, restarted in the middle, verified against the server. */
let server: EventStoreProcess;
let database: TestDatabase;
let store: EventStore;
let sql: pg.Pool;
let folder: string;

beforeAll(async () => {
  [server, database, { path: folder }] = await Promise.all([startEventStore(), testDatabase(), temporaryFolder()]);
  await (await openDatabase({ connection: { connectionString: database.url }, entities: [] })).destroy();
  store = await openEventStore({ url: server.url }, () => undefined);
  sql = new pg.Pool({ connectionString: database.url, max: 2 });
}, 120_000);
afterAll(async () => {
  await sql.end();
  await store.close();
  await database.close();
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

const record = async (count: number) => {
  const events = Array.from(
    { length: count },
    (_, n): NewEvent => ({
      id: randomUUID(),
      type: 'ScheduleReached',
      data: { n, text: 'Grüße' },
      metadata: { schemaVersion: '1', organizationId: 'a', actor: 'ada', occurredAt: new Date().toISOString() },
    }),
  );
  const appended = await store.append(`delivery-${randomUUID()}`, 'no-stream', events);
  expect(appended.ok).toBe(true);
};

it('is whole, and leads to a bundle that is right', { timeout: 90_000 }, async () => {
  const log = randomUUID();
  const problems: string[] = [];
  const begin = () => {
    const task = new AuditTask(
      {
        ...{ postgres: { connectionString: database.url }, log, owner: 'one', keyFile: join(folder, 'key.pem') },
        ...{ folder: join(folder, 'published'), checkpointEntries: 500, checkpointSeconds: 3_600 },
      },
      store,
      writeDurably,
      { problem: (problem) => problem !== undefined && problems.push(problem) },
    );
    task.start();
    return { task, audit: new Audit(sql, log, store, task, async () => null) };
  };
  await record(700);
  const first = begin();
  const { size } = await first.audit.makeCheckpoint(60_000);
  expect(size).toBeGreaterThanOrEqual(700);
  await first.task.stop();

  await record(40);
  const second = begin();
  const newest = await second.audit.makeCheckpoint(60_000);
  expect(newest.size).toBe(size + 40);
  expect(await second.audit.verify()).toEqual({ ok: true, entries: newest.size, firstBadIndex: null, problem: null });
  const lines: string[] = [];
  for (let cursor: string | undefined, isMore = true; isMore; isMore = cursor !== undefined) {
    const page = await second.audit.bundles.page({}, cursor, 500);
    lines.push(...page.lines);
    cursor = page.cursor;
  }
  expect(await verifyBundle(lines)).toMatchObject({ ok: true, entries: newest.size });
  await second.task.stop();
  expect(problems).toEqual([]);
});
