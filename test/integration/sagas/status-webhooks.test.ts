import type { Pool } from 'pg';
import type { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { STATUS_ACTOR } from '../../../src/domain/status-events.js';
import type { StatusEvent } from '../../../src/domain/vocabulary.js';
import { openDatabase, openPool } from '../../../src/platform/database.js';
import { StatusWebhookStore } from '../../../src/sagas/status-webhook-store.js';
import { type StatusWebhookParts, StatusWebhooks } from '../../../src/sagas/status-webhooks.js';
import { ada, type CommandSide, commandSide, good, mallory, mayAccess, toBilling } from '../../support/commands.js';
import { type TestDatabase, testDatabase } from '../../support/postgres.js';

/** From what is recorded of deliveries to the deliveries that carry the news, on a real log and a real database. */

let server: TestDatabase;
let database: DataSource;
let pool: Pool;
let side: CommandSide;
const running: StatusWebhooks[] = [];
const logged: string[] = [];

beforeAll(async () => {
  server = await testDatabase();
  const connection = { connectionString: server.url };
  database = await openDatabase({ connection, entities: [] });
  pool = openPool(connection, { name: 'test', size: 2, lost: () => undefined });
}, 120_000);
afterAll(async () => {
  await pool.end();
  await database.destroy();
  await server.close();
});
beforeEach(async () => {
  await pool.query('truncate status_webhook_progress');
  side = await commandSide();
  logged.length = 0;
});
afterEach(async () => {
  for (const saga of running.splice(0)) await saga.stop();
  await side.close();
});

const WAIT = { timeout: 30_000, interval: 20 };
const note = (message: string) => void logged.push(message);

function start(owner = 'one', more: Partial<StatusWebhookParts> = {}): StatusWebhooks {
  const saga = new StatusWebhooks({
    ...{ reader: side.log, codec: side.codec, directory: side.directory, store: new StatusWebhookStore(pool, owner) },
    request: async (input, requester) => {
      const answer = await side.deliveries.announce({ input, requester });
      return answer.ok ? undefined : answer.rejection.message;
    },
    log: { info: note, warn: note, error: note },
    ...more,
  });
  running.push(saga);
  saga.start();
  return saga;
}

const subscriber = async (events: readonly StatusEvent[] = ['CANCELLED'], requester = ada) => {
  const config = { webhook: { url: 'https://news.example/in', statusEvents: [...events] } };
  return good(await side.destinations.create({ label: 'news', type: 'WEBHOOK', config }, requester)).id;
};
const cancelled = async (requester = ada) => {
  const { id } = good(await side.deliveries.request({ input: toBilling, requester }));
  const command = { type: 'Cancel', now: new Date().toISOString(), by: requester.actor } as const;
  good(await side.deliveries.change(id, command, requester, () => true));
  return id;
};

interface News {
  readonly id: string;
  readonly to: string | undefined;
  readonly type: string;
  readonly about: string;
}

/** What was requested of the webhook channel so far, in the order of the log. */
async function news(): Promise<News[]> {
  const found: News[] = [];
  const signal = new AbortController().signal;
  for await (const batch of side.log.subscribe({ after: 0n, prefixes: ['delivery-'], signal })) {
    for (const { type, metadata, streamId, data } of batch.events)
      if (type === 'DeliveryRequested' && metadata.actor === STATUS_ACTOR) {
        const { legs, content } = data as {
          legs: { routes: { destinationId?: string }[] }[];
          content: { data: never };
        };
        const { type: kind, delivery } = content.data as { type: string; delivery: { id: string } };
        found.push({ id: streamId, to: legs[0]?.routes[0]?.destinationId, type: kind, about: delivery.id });
      }
    if (batch.caughtUp) break;
  }
  return found;
}
const about = async () => (await news()).map((each) => each.about);

describe('status webhooks', () => {
  it('tell each subscriber of the organization what it has asked for, and nobody else', async () => {
    const wanted = await subscriber(['CANCELLED', 'DELIVERED']);
    await subscriber(['DELIVERED']);
    await subscriber(['CANCELLED'], mallory);
    start();
    const id = await cancelled();
    await expect
      .poll(news, WAIT)
      .toEqual([{ id: expect.any(String), to: wanted, type: 'delivery.cancelled', about: id }]);
  });

  it('tell nothing of the deliveries that carry them', async () => {
    await subscriber(['CANCELLED', 'HELD']);
    start();
    const id = await cancelled();
    await expect.poll(about, WAIT).toEqual([id]);
    const [carrier] = await news();
    const command = { type: 'Cancel', now: new Date().toISOString(), by: 'ada' } as const;
    good(await side.deliveries.change(carrier?.id.slice('delivery-'.length) as string, command, ada, mayAccess));
    const other = await cancelled();
    await expect.poll(about, WAIT).toEqual([id, other]);
  });

  it('go on where they were, and tell nothing twice', async () => {
    await subscriber();
    await start().stop();
    const missed = await cancelled();
    const second = start();
    await expect.poll(about, WAIT).toEqual([missed]);
    await second.stop();
    // As after a crash between what was requested and the position that says so, and as after a new database.
    await pool.query('update status_webhook_progress set position = 0');
    const third = start();
    const next = await cancelled();
    await expect.poll(about, WAIT).toEqual([missed, next]);
    await third.stop();
    await pool.query('truncate status_webhook_progress');
    start('another');
    const last = await cancelled();
    await expect.poll(about, WAIT).toEqual([missed, next, last]);
  });

  it('come to whoever subscribes from then on, until they are deleted, disabled or changed', async () => {
    start();
    await cancelled();
    const id = await subscriber();
    const first = await cancelled();
    await expect.poll(about, WAIT).toEqual([first]);
    good(await side.destinations.disable(id, 'quiet', ada, mayAccess));
    await cancelled();
    good(await side.destinations.enable(id, ada, mayAccess));
    const second = await cancelled();
    await expect.poll(about, WAIT).toEqual([first, second]);
    good(await side.destinations.delete(id, ada, mayAccess));
    await cancelled();
    await subscriber();
    const third = await cancelled();
    await expect.poll(about, WAIT).toEqual([first, second, third]);
  });

  it('are told by one instance, and by another when that one is gone', async () => {
    await subscriber();
    const first = start('one');
    const id = await cancelled();
    await expect.poll(about, WAIT).toEqual([id]);
    let asked = 0;
    const claim = StatusWebhookStore.prototype.claim;
    const store = new StatusWebhookStore(pool, 'two');
    store.claim = async () => {
      asked++;
      return await claim.call(store);
    };
    start('two', { store });
    await expect.poll(() => asked, WAIT).toBeGreaterThan(0);
    expect((await pool.query('select owner from status_webhook_progress')).rows).toEqual([{ owner: 'one' }]);
    await first.stop();
    const other = await cancelled();
    await expect.poll(about, WAIT).toEqual([id, other]);
    expect((await pool.query('select owner from status_webhook_progress')).rows).toEqual([{ owner: 'two' }]);
  });

  it('are asked for again when that failed, and an event that never works keeps none of the others', async () => {
    await subscriber();
    let failures = 0;
    let hopeless: string | undefined;
    const request: StatusWebhookParts['request'] = async (input, requester) => {
      const { delivery } = (input.content as { data: { delivery: { id: string } } }).data;
      if (delivery.id === hopeless) throw new Error('a defect');
      if (++failures <= 2) throw Object.assign(new Error('not now'), { code: 'LOG_UNAVAILABLE' });
      const answer = await side.deliveries.announce({ input, requester });
      return answer.ok ? undefined : answer.rejection.message;
    };
    start('one', { request });
    const first = await cancelled();
    await expect.poll(about, WAIT).toEqual([first]);
    const { id } = good(await side.deliveries.request({ input: toBilling, requester: ada }));
    hopeless = id;
    const command = { type: 'Cancel', now: new Date().toISOString(), by: 'ada' } as const;
    good(await side.deliveries.change(id, command, ada, mayAccess));
    const last = await cancelled();
    await expect.poll(about, WAIT).toEqual([first, last]);
    const given = () => logged.filter((message) => message.startsWith('an event is told to no subscriber')).length;
    await expect.poll(given, WAIT).toBe(1);
  });
});
