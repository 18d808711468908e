import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { DataSource } from 'typeorm';
import type { AttemptRef, DeliveryEvent, DeliveryRequested } from '../../../src/domain/delivery-events.js';
import { type DomainEvent, EventCodec } from '../../../src/event-store/codec.js';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import { EmbeddedLogReader } from '../../../src/event-store/embedded-log-reader.js';
import { openDatabase } from '../../../src/platform/database.js';
import { entities } from '../../../src/projections/entities.js';
import { projections } from '../../../src/projections/registry.js';
import { Connection } from '../../../src/projections/runner/connection.js';
import { type Digest, digest } from '../../../src/projections/runner/digest.js';
import { type HostOptions, ProjectionHost } from '../../../src/projections/runner/host.js';
import { ProjectionRunner, type RunnerOptions } from '../../../src/projections/runner/projection-runner.js';
import type { RunnerObserver } from '../../../src/projections/runner/runner.js';
import { TenantReads } from '../../../src/projections/tenant-reads.js';
import { type TestDatabase, testDatabase } from '../../support/postgres.js';

export const ORGANIZATION = 'a0000000-0000-4000-8000-00000000000a';

/** An empty log and an empty database. */
export class World {
  readonly codec = new EventCodec();
  readonly reads: TenantReads;
  readonly #runners: ProjectionRunner[] = [];
  readonly #hosts = new Map<ProjectionHost, EmbeddedLogReader>();
  readonly #looking = new Set<() => void>();

  private constructor(
    readonly log: EmbeddedLog,
    readonly logPath: string,
    readonly database: DataSource,
    /** For what the product itself never asks. */
    readonly sql: pg.Pool,
    readonly server: TestDatabase,
  ) {
    this.reads = new TenantReads(database);
  }

  static async create(): Promise<World> {
    const logPath = await mkdtemp(join(tmpdir(), 'waybill-projections-'));
    const server = await testDatabase();
    const database = await openDatabase({ connection: { connectionString: server.url }, entities });
    const sql = new pg.Pool({ connectionString: server.url, max: 2 });
    sql.on('error', () => {});
    return new World(EmbeddedLog.open(logPath), logPath, database, sql, server);
  }

  /** A runner with nothing running yet; stopped with the world. */
  runner(options: Partial<RunnerOptions> = {}, observer: RunnerObserver = {}): ProjectionRunner {
    const look = () => {
      for (const again of [...this.#looking]) again();
    };
    const runner = new ProjectionRunner(
      { reader: this.log, codec: this.codec, postgres: { connectionString: this.server.url }, ...options },
      {
        ...observer,
        progress: look,
        rebuild: (rebuild) => {
          observer.rebuild?.(rebuild);
          look();
        },
      },
    );
    this.#runners.push(runner);
    return runner;
  }

  /** One of several instances on this log and this database, running; stopped with the world. */
  host(options: Partial<HostOptions> = {}): ProjectionHost {
    const reader = EmbeddedLogReader.open(this.logPath);
    const postgres = { connectionString: this.server.url };
    const shared = { reader, codec: this.codec, postgres, isAlone: false };
    const host = new ProjectionHost({ ...shared, ...options });
    this.#hosts.set(host, reader);
    host.start();
    return host;
  }

  /** Looks again whenever a runner has got on. */
  until(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (!condition()) return;
        this.#looking.delete(look);
        resolve();
      };
      this.#looking.add(look);
      look();
    });
  }

  /** Everything recorded until now is visible in every projection. */
  async shown(runner: ProjectionRunner): Promise<void> {
    const head = await this.log.head();
    await this.until(() => runner.progress().every(({ position }) => position >= head));
  }

  /** Appends at the end of a stream. @returns the log position of the last event */
  async record(streamId: string, ...events: DomainEvent[]): Promise<bigint> {
    const last = await this.log.readLast(streamId);
    const { organizationId = ORGANIZATION } = (events[0]?.data ?? {}) as { organizationId?: string };
    const envelope = { organizationId, commandId: randomUUID(), actor: 'test' };
    const encoded = events.map((event) => this.codec.encode(event, randomUUID(), envelope));
    const result = await this.log.append(streamId, last?.revision ?? 'no-stream', encoded);
    if (!result.ok) throw new Error('somebody else writes to this stream');
    return result.position;
  }

  /** Records what this program does not know. */
  async recordUnknown(streamId: string): Promise<void> {
    const last = await this.log.readLast(streamId);
    const event = { id: randomUUID(), type: 'FromTheFuture', data: {}, metadata: { schemaVersion: '1' } };
    await this.log.append(streamId, last?.revision ?? 'no-stream', [event]);
  }

  async digests(): Promise<Record<string, Digest>> {
    const connection = await Connection.open({ connectionString: this.server.url }, () => {});
    try {
      const digests: Record<string, Digest> = {};
      for (const projection of projections) digests[projection.name] = await digest(connection, projection);
      return digests;
    } finally {
      await connection.close();
    }
  }

  async rows(query: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
    return (await this.sql.query(query, values)).rows;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#runners, ...this.#hosts.keys()].map((running) => running.stop()));
    for (const reader of this.#hosts.values()) await reader.close();
    await this.sql.end();
    await this.database.destroy();
    await this.log.close();
    await this.server.close();
    await rm(this.logPath, { recursive: true });
  }
}

/** The day on which everything in these tests happens, `seconds` after noon by UTC. */
export const at = (seconds: number): string => new Date(Date.UTC(2026, 2, 2, 12) + seconds * 1_000).toISOString();

export const HOOK = 'e0000000-0000-4000-8000-000000000001';

export const requested = (data: Partial<DeliveryRequested['data']> = {}, seconds = 0): DeliveryRequested => ({
  type: 'DeliveryRequested',
  at: at(seconds),
  data: {
    organizationId: ORGANIZATION,
    priority: 'NORMAL',
    legs: [{ leg: 1, routes: [{ channel: 'WEBHOOK', destinationId: HOOK }], recipients: 1 }],
    content: { subject: 'not for read models' },
    tags: [],
    ...data,
  },
});

export const attempt = (number: number, startedAt = 1): AttemptRef => ({
  leg: 1,
  number,
  route: 0,
  channel: 'WEBHOOK',
  provider: 'webhook',
  destinationId: HOOK,
  startedAt: at(startedAt),
});

export const sent = (number = 1, seconds = 2): DeliveryEvent => ({
  type: 'AttemptSucceeded',
  at: at(seconds),
  data: { ...attempt(number, seconds - 1), delivered: true, providerMessageId: `message-${number}` },
});

export const suppressed = (organizationId = ORGANIZATION): DomainEvent => ({
  type: 'AddressSuppressed',
  at: at(0),
  data: { organizationId, channel: 'EMAIL', address: 'ada@example.com', reason: 'COMPLAINT', by: 'provider:sendgrid' },
});

/** In-app, to somebody. */
export const inboxed = (organizationId = ORGANIZATION): DomainEvent => ({
  type: 'InboxMessageStored',
  at: at(0),
  data: {
    ...{ organizationId, subject: 'person:ada', deliveryId: randomUUID(), content: { text: 'hello' } },
    ...{ priority: 'NORMAL', expiresAt: at(86_400) },
  },
});

export const failure = { category: 'NETWORK', code: 'ECONNRESET', message: 'the connection broke' } as const;

/** An attempt that failed, and the retry that follows from it. */
export const failed = (number = 1, seconds = 2): DeliveryEvent[] => [
  { type: 'AttemptFailed', at: at(seconds), data: { ...attempt(number, seconds - 1), failure } },
  { type: 'RetryScheduled', at: at(seconds), data: { leg: 1, dueAt: at(seconds + 10) } },
];

export const newDelivery = (): { id: string; stream: string } => {
  const id = randomUUID();
  return { id, stream: `delivery-${id}` };
};
