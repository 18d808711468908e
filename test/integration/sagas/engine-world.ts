import pg from 'pg';
import type {
  ChannelAdapter,
  ChannelDescription,
  OutgoingMessage,
  SendOutcome,
} from '../../../src/channels/channel.js';
import type { DeliveryOrder } from '../../../src/commands/intake.js';
import { OrderCohort } from '../../../src/commands/order-cohort.js';
import { SuspendedDeliveries } from '../../../src/commands/suspended-deliveries.js';
import { delivery } from '../../../src/domain/delivery.js';
import type { JsonObject } from '../../../src/domain/vocabulary.js';
import { EventCodec } from '../../../src/event-store/codec.js';
import { openDatabase } from '../../../src/platform/database.js';
import { Engine } from '../../../src/sagas/engine.js';
import { EngineStore } from '../../../src/sagas/engine-store.js';
import { SuspensionQueries } from '../../../src/sagas/suspension-store.js';
import { Targets } from '../../../src/sagas/targets.js';
import { commandSide } from '../../support/commands.js';
import { type TestDatabase, testDatabase } from '../../support/postgres.js';

const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };

/** What a test says of its one channel, which is there for webhook addresses. */
export interface FakeChannel {
  readonly about?: Partial<ChannelDescription>;
  /** Of the channel's own object. */
  readonly config?: JsonObject;
  /** What comes of it; accepted and delivered when it does not say. */
  readonly send?: (message: OutgoingMessage) => Promise<SendOutcome | undefined>;
  readonly lookup?: NonNullable<ChannelAdapter['lookup']>;
}

/** For all tests of a file. */
export async function engineDatabase(): Promise<TestDatabase> {
  const server = await testDatabase();
  await (await openDatabase({ connection: { connectionString: server.url }, entities: [] })).destroy();
  return server;
}

/** Real engines on a real log and a real Postgres, empty at first; only the channel pretends. */
export async function engineWorld({ url }: TestDatabase) {
  const side = await commandSide();
  const pool = new pg.Pool({ connectionString: url });
  await pool.query('TRUNCATE engine_instances, engine_partitions, engine_deliveries, engine_suspensions');
  const running = new Set<Engine>();
  /** Texts of the messages that were sent, in order. */
  const sent: string[] = [];

  return {
    ...side,
    pool,
    sent,
    suspended: new SuspendedDeliveries(new SuspensionQueries(pool), side.log, side.codec),
    start(
      { about, config = {}, send, lookup }: FakeChannel = {},
      owner = 'one',
      codec: EventCodec = side.codec,
    ): Engine {
      const adapter = {
        describe: () => ({
          ...{ channel: 'WEBHOOK', provider: 'webhook', configKey: 'webhook', secretFields: [], idempotency: 'keyed' },
          ...{
            acceptanceIsDelivery: true,
            inDoubt: 'resend',
            limits: { maxBytes: 1_000, timeoutMs: 10_000 },
            ...about,
          },
        }),
        async send(message: OutgoingMessage) {
          sent.push(message.content.text ?? '');
          return (await send?.(message)) ?? { kind: 'accepted', delivered: true };
        },
        ...(lookup && { lookup }),
      } as unknown as ChannelAdapter;
      const noRecord = async () => undefined;
      const orders = new OrderCohort((many: readonly DeliveryOrder[]) => side.executor.executeMany(delivery, many));
      const engine = new Engine(
        {
          reader: side.log,
          codec,
          store: new EngineStore(pool, owner),
          targets: new Targets({ adapterFor: () => ({ adapter, config }) }, side.directory, []),
          sides: {
            destinations: side.directory,
            providers: [],
            record: { opened: noRecord, closed: noRecord, disable: noRecord, circuitOf: noRecord },
          },
          order: (order) => orders.order(order),
          disableDestination: async () => undefined,
          log: silent,
        },
        {
          ...{ concurrency: 4, largeConcurrency: 1, largeBytes: 1e6, destinationConcurrency: 4 },
          breaker: { failureThreshold: 10, recoveryTimeoutMs: 60_000, halfOpenMaxCalls: 1 },
          disableAfter: { failures: 50, hours: 24 },
          ...{ checkpointIntervalMs: 20, drainTimeoutMs: 1_000, isAlone: true, tryAgainAfterMs: [10, 20, 40] },
        },
      );
      running.add(engine);
      engine.start();
      return engine;
    },
    async stop(engine: Engine): Promise<void> {
      running.delete(engine);
      await engine.stop();
    },
    async close(): Promise<void> {
      for (const engine of running) await engine.stop();
      await pool.end();
      await side.close();
    },
  };
}

export type EngineWorld = Awaited<ReturnType<typeof engineWorld>>;
