import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import type { DataSource } from 'typeorm';
import { callersWith } from '../../../src/app/audit-callers.js';
import { Audit } from '../../../src/audit/audit.js';
import { CheckpointFiles } from '../../../src/audit/checkpoint-files.js';
import { readVerifiers } from '../../../src/audit/checkpoint-store.js';
import { Publications } from '../../../src/audit/publications.js';
import { AuditTask } from '../../../src/audit/task.js';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import type { NewEvent } from '../../../src/event-store/event-store.js';
import { writeDurably } from '../../../src/platform/data-directory.js';
import { openDatabase } from '../../../src/platform/database.js';
import { MemoryKeys } from '../../support/keys.js';
import { temporaryFolder } from '../../support/logs.js';
import { type TestDatabase, testDatabase } from '../../support/postgres.js';

/** An event log, a database, and instances that keep the audit trail of the one in the other. */
export class AuditWorld {
  readonly logId = randomUUID();
  readonly problems: string[] = [];
  readonly keys = new MemoryKeys();
  readonly #tasks: AuditTask[] = [];

  private constructor(
    readonly folder: string,
    readonly log: EmbeddedLog,
    readonly sql: pg.Pool,
    readonly database: DataSource,
    readonly server: TestDatabase,
  ) {}

  static async create(): Promise<AuditWorld> {
    const { path } = await temporaryFolder();
    const server = await testDatabase();
    const database = await openDatabase({ connection: { connectionString: server.url }, entities: [] });
    const sql = new pg.Pool({ connectionString: server.url, max: 4 });
    sql.on('error', () => undefined);
    return new AuditWorld(path, EmbeddedLog.open(join(path, 'log')), sql, database, server);
  }

  get keyFile(): string {
    return join(this.folder, 'key.pem');
  }

  get files(): CheckpointFiles {
    return new CheckpointFiles(join(this.folder, 'published'));
  }

  /** An instance; it makes a checkpoint every 100 entries unless told otherwise. */
  start(settings: { readonly checkpointEntries?: number; readonly isPublished?: boolean; owner?: string } = {}) {
    const { checkpointEntries = 100, isPublished = false, owner = randomUUID() } = settings;
    const keys = async () => (await readVerifiers(this.sql)).map(({ text }) => text);
    const publications = new Publications(isPublished ? [this.files] : [], keys, console);
    const task = this.#task({ owner, checkpointEntries, folder: 'published' }, (note) => publications.offer(note));
    this.#tasks.push(task);
    task.start();
    const audit = new Audit(this.sql, this.logId, this.log, task, callersWith(this.keys));
    const stop = async () => {
      await task.stop();
      await publications.stop();
    };
    return { audit, task, stop };
  }

  /** Somebody who only asks. @param folder what was published; default nothing */
  auditor(folder = 'nothing'): Audit {
    const task = this.#task({ owner: randomUUID(), checkpointEntries: 1, folder }, () => undefined);
    return new Audit(this.sql, this.logId, this.log, task, callersWith(this.keys));
  }

  #task(settings: { owner: string; checkpointEntries: number; folder: string }, checkpoint: (note: string) => void) {
    const { owner, checkpointEntries, folder } = settings;
    return new AuditTask(
      {
        ...{ postgres: { connectionString: this.server.url }, log: this.logId, owner, keyFile: this.keyFile },
        ...{ folder: join(this.folder, folder), checkpointEntries, checkpointSeconds: 3_600 },
      },
      this.log,
      writeDurably,
      { checkpoint, problem: (problem) => problem !== undefined && this.problems.push(problem) },
    );
  }

  /** Events in a stream of their own, as commands record them. */
  async record(events: number, facts: Partial<NewEvent> = {}, stream = `delivery-${randomUUID()}`): Promise<string> {
    const last = await this.log.readLast(stream);
    const made = Array.from(
      { length: events },
      (_, n): NewEvent => ({
        id: randomUUID(),
        type: 'ScheduleReached',
        data: { n, text: 'Grüße' },
        metadata: { schemaVersion: '1', organizationId: 'a', actor: 'ada', occurredAt: new Date().toISOString() },
        ...facts,
      }),
    );
    await this.log.append(stream, last?.revision ?? 'no-stream', made);
    return stream;
  }

  async close(): Promise<void> {
    await Promise.all(this.#tasks.map((task) => task.stop()));
    await this.sql.end();
    await this.database.destroy();
    await this.log.close();
    await this.server.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}
