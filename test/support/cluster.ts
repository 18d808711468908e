import { randomBytes } from 'node:crypto';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { openPool } from '../../src/platform/database.js';
import { digestsIn } from './digests.js';
import { type EventStoreProcess, startEventStore } from './eventstoredb/start.js';
import { newKeyRing } from './keys.js';
import { type TestDatabase, testDatabase } from './postgres.js';
import { removeDataDir, startWaybill, type WaybillOptions, type WaybillProcess } from './waybill-process.js';

export interface Instance {
  readonly dataDir: string;
  readonly options: WaybillOptions;
  /** The process that runs now, or ran last. */
  waybill: WaybillProcess;
  /** False from a `crash` until it is back. */
  isUp: boolean;
}

const REQUEST = `mutation ($inputs: [RequestDeliveryInput!]!, $key: String!) {
  requestDeliveries(inputs: $inputs, idempotencyKey: $key) { delivery { id } }
}`;
interface Requested {
  readonly requestDeliveries: readonly { readonly delivery: { readonly id: string } }[];
}

/** Several Waybills, each in a process of its own, that share one EventStoreDB (the test server) and one Postgres. */
export class Cluster {
  readonly instances: Instance[] = [];
  readonly eventStore: EventStoreProcess;
  readonly database: TestDatabase;
  readonly sql: pg.Pool;
  readonly #env: NodeJS.ProcessEnv;

  private constructor(eventStore: EventStoreProcess, database: TestDatabase) {
    this.eventStore = eventStore;
    this.database = database;
    this.sql = openPool({ connectionString: database.url }, { name: 'test', size: 4, lost: () => undefined });
    this.#env = {
      EVENTSTORE_URL: eventStore.url,
      DATABASE_URL: database.url,
      WAYBILL_ADMIN_KEY: randomBytes(32).toString('base64url'),
      WAYBILL_KEY_RING: newKeyRing(),
    };
  }

  /** What they share, without an instance yet. */
  static async open(): Promise<Cluster> {
    const [eventStore, database] = await Promise.all([startEventStore(), testDatabase()]);
    return new Cluster(eventStore, database);
  }

  /** Starts one more. */
  async join({ env, ...more }: WaybillOptions = {}): Promise<Instance> {
    const dataDir = await mkdtemp(join(tmpdir(), 'waybill-one-of-several-'));
    const options = { ...more, dataDir, env: { ...this.#env, ...env } };
    const instance = { dataDir, options, waybill: await startWaybill(options), isUp: true };
    this.instances.push(instance);
    return instance;
  }

  /** By SIGKILL. */
  async crash(instance: Instance): Promise<void> {
    instance.isUp = false;
    await instance.waybill.kill();
  }

  async restart(instance: Instance): Promise<void> {
    instance.waybill = await startWaybill(instance.options);
    instance.isUp = true;
  }

  /** How many partitions each owner holds, the fewest first. */
  async shares(): Promise<number[]> {
    return Object.values(await this.partitions()).sort((a, b) => a - b);
  }

  /** The same by owner. */
  async partitions(): Promise<Record<string, number>> {
    const { rows } = await this.sql.query<{ owner: string; n: number }>(
      'SELECT owner, count(*)::integer AS n FROM engine_partitions WHERE expires_at > now() GROUP BY owner',
    );
    return Object.fromEntries(rows.map(({ owner, n }) => [owner, n]));
  }

  /** How many deliveries the read model has in each status. */
  async statuses(): Promise<Record<string, number>> {
    const { rows } = await this.sql.query<{ status: string; n: number }>(
      'SELECT status, count(*)::integer AS n FROM deliveries GROUP BY status ORDER BY status',
    );
    return Object.fromEntries(rows.map(({ status, n }) => [status, n]));
  }

  /**
   * The same call again and again, at whichever instance, until one answers: what clients are told to do.
   *
   * @throws Error when an instance finds fault with the request itself
   */
  async request(key: string, inputs: readonly object[]): Promise<string[]> {
    for (let turn = Math.floor(Math.random() * this.instances.length); ; turn++) {
      const { waybill } = this.instances[turn % this.instances.length] as Instance;
      const answer = await waybill.graphql<Requested>(REQUEST, { inputs, key }).catch(() => undefined);
      if (answer?.data) return answer.data.requestDeliveries.map(({ delivery }) => delivery.id);
      const wrong = answer?.errors.find(({ extensions }) => extensions?.code === 'BAD_USER_INPUT');
      if (wrong) throw new Error(wrong.message);
      await delay(20); // as a client pauses before it tries again
    }
  }

  digests(): Promise<Record<string, string>> {
    return digestsIn({ connectionString: this.database.url });
  }

  async close(): Promise<void> {
    for (const { waybill, dataDir } of this.instances) {
      await waybill.kill();
      await removeDataDir(dataDir);
    }
    await this.sql.end();
    await this.database.close();
    await this.eventStore.stop();
  }
}
