import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { client, ORGANIZATION } from '../e2e/journeys.js';
import { digests, digestsIn } from '../support/digests.js';
import { expectSameAfterRebuild } from '../support/fault-audit.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';
import { type TestDatabase, testDatabase } from '../support/postgres.js';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { postgresPid, startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * FAULTS.md, "Postgres … drops connections, is slow, is full": deliveries are accepted and sent meanwhile, since the log is
 * the truth, no batch is written in part, and everything comes right by itself afterwards. That it dies and is started
 * again is in postgres-dies.test.ts.
 */
const isLong = process.env.FAULT_LONG === '1';
const DELIVERIES = isLong ? 2_000 : 100;
const CUTS = isLong ? 100 : 8;
const wait = { timeout: 120_000, interval: 50 };

let receiver: WebhookReceiver;
beforeAll(async () => {
  receiver = await startWebhookReceiver();
});
afterAll(() => receiver.close());

const received = () => new Set(receiver.received.map(({ headers }) => headers['webhook-id'])).size;

/** So many in one call. */
const BULK = 1_000;

/** @param more what else each request says */
async function request(waybill: WaybillProcess, count: number, more: () => object = () => ({})): Promise<void> {
  for (let left = count; left > 0; left -= BULK) {
    const inputs = Array.from({ length: Math.min(left, BULK) }, () => ({
      organizationId: ORGANIZATION,
      content: { text: 'meanwhile' },
      to: [{ channel: 'WEBHOOK', address: receiver.url }],
      ...more(),
    }));
    await waybill.ask(
      'mutation ($inputs: [RequestDeliveryInput!]!) { requestDeliveries(inputs: $inputs) { delivery { id } } }',
      { inputs },
    );
  }
}

const untilVisible = (waybill: WaybillProcess, count: number) =>
  expect
    .poll(async () => {
      const query = '{ deliveries(first: 1, filter: { status: [DELIVERED] }) { totalCount } }';
      const { data } = await waybill.graphql<{ deliveries: { totalCount: number } }>(query);
      return data?.deliveries.totalCount;
    }, wait)
    .toBe(count);

describe('behind a bad line', () => {
  let database: TestDatabase;
  let proxy: TcpProxy;
  let waybill: WaybillProcess;

  beforeAll(async () => {
    database = await testDatabase();
    const direct = new URL(database.url.replace('@/', '@localhost/'));
    proxy = await startTcpProxy(`${direct.searchParams.get('host')}/.s.PGSQL.${direct.searchParams.get('port')}`);
    const { username, password, pathname } = direct;
    const throughProxy = `postgresql://${username}:${password}@127.0.0.1:${proxy.port}${pathname}`;
    waybill = await startWaybill({ env: { DATABASE_URL: throughProxy } });
    receiver.received.length = 0;
  }, 180_000);
  afterAll(async () => {
    proxy.cut();
    proxy.slow(0);
    proxy.heal();
    await waybill?.stop();
    await proxy.close();
    await database.close();
  });

  it('a slow one, one that drops connections and one that says nothing lose nothing', {
    timeout: 300_000,
  }, async () => {
    await request(waybill, DELIVERIES);
    await untilVisible(waybill, DELIVERIES);

    // Slow: every answer is a quarter of a second late.
    proxy.slow(250);
    await request(waybill, DELIVERIES);
    await expect.poll(received, wait).toBe(2 * DELIVERIES);
    await untilVisible(waybill, 2 * DELIVERIES);
    proxy.slow(0);

    // All connections dropped, again and again, in the middle of whatever they are used for.
    for (let cuts = 0; cuts < CUTS; cuts++) {
      await request(waybill, Math.ceil(DELIVERIES / CUTS));
      // Not a wait for anything: the cut is to come at any moment.
      await delay(Math.random() * 200);
      proxy.cut();
    }
    const sent = 2 * DELIVERIES + CUTS * Math.ceil(DELIVERIES / CUTS);
    await expect.poll(received, wait).toBe(sent);
    await untilVisible(waybill, sent);

    // Silent: connections are open, and nothing goes through. What only Postgres knows is not known for so long.
    proxy.stall();
    await request(waybill, DELIVERIES);
    // How long it is silent.
    await delay(2_000);
    proxy.heal();
    await expect.poll(received, wait).toBe(sent + DELIVERIES);
    await untilVisible(waybill, sent + DELIVERIES);
    expect(receiver.received).toHaveLength(sent + DELIVERIES);
    await expectSameAfterRebuild(waybill, () => digestsIn({ connectionString: database.url }));
  });
});

describe('full', () => {
  /** A file may have so many bytes: a write-ahead log segment fits, a table that grows does not. */
  const FULL = 16 * 1024 * 1024;
  let waybill: WaybillProcess;
  beforeAll(async () => {
    waybill = await startWaybill();
    receiver.received.length = 0;
  }, 180_000);
  afterAll(async () => {
    await waybill?.stop();
  });

  it('one that cannot grow is written to again when it can, and deliveries go on meanwhile', {
    timeout: 300_000,
  }, async () => {
    const api = client(waybill);
    const postmaster = (await postgresPid(waybill.dataDir)) as number;
    /** New connections have the server's limit; those there are have their own. */
    const limit = (bytes: string) => {
      for (const pid of [postmaster, ...childrenOf(postmaster)])
        try {
          // As the account that PostgreSQL runs under: limits are its owner's to change.
          const { uid, gid } = statSync(`/proc/${pid}`);
          execFileSync('prlimit', ['--pid', String(pid), `--fsize=${bytes}:`], { uid, gid, stdio: 'pipe' });
        } catch (error) {
          if (pid === postmaster) throw error;
          // Another one has ended meanwhile.
        }
    };
    await request(waybill, 10);
    await untilVisible(waybill, 10);

    limit(String(FULL));
    // As much as does not fit, and does not become less by compression.
    const large = () => ({ metadata: { noise: randomBytes(12_000).toString('base64') } });
    const rounds = Math.ceil((1.25 * FULL) / 16_000 / 100);
    for (let round = 0; round < rounds; round++) await request(waybill, 100, large);
    const all = 10 + rounds * 100;
    const readiness = async () => await (await fetch(`${waybill.url}/ready`)).text();
    await expect.poll(readiness, wait).toMatch(/could not extend file/);
    await expect.poll(received, wait).toBe(all);
    const accepted = await api.request({ to: [{ channel: 'WEBHOOK', address: receiver.url }] });
    await expect.poll(received, wait).toBe(all + 1);
    const lag = async () => {
      const { projections } = await waybill.ask<{ projections: { name: string; parked: number; lagEvents: number }[] }>(
        '{ projections { name parked lagEvents } }',
      );
      return projections;
    };
    const stuck = await lag();
    // Held up, and nothing put aside: it is not the fault of any event.
    expect(stuck.every(({ parked }) => parked === 0)).toBe(true);
    expect(stuck.some(({ lagEvents }) => lagEvents > 0)).toBe(true);

    limit('unlimited');
    await untilVisible(waybill, all + 1);
    await api.until(accepted.id, 'DELIVERED');
    expect(receiver.received).toHaveLength(all + 1);
    await expectSameAfterRebuild(waybill, () => digests(waybill));
  });
});

function childrenOf(parent: number): number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === parent ? [Number(name)] : [];
    } catch {
      return []; // it has ended
    }
  });
}
