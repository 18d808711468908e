import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { client } from '../e2e/journeys.js';
import { digests } from '../support/digests.js';
import { expectSameAfterRebuild } from '../support/fault-audit.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * FAULTS.md, "slow or silent provider, 429 with Retry-After, 5xx burst, half-open TCP": four destinations are in four
 * kinds of trouble at once, a fifth is well. That one is not affected, the limits of the others are kept, their breakers
 * open and close, and when the trouble is over everybody has everything.
 */
const isLong = process.env.FAULT_LONG === '1';
const DELIVERIES = isLong ? 2_000 : 60;
const CONCURRENCY = 3;
const TIMEOUT_MS = 1_000;
const RETRY_AFTER_S = 2;
const wait = { timeout: isLong ? 600_000 : 60_000, interval: 50 };

const TROUBLES = ['silent', 'rate-limited', 'failing', 'half-open'] as const;
type Name = (typeof TROUBLES)[number] | 'well';

let waybill: WaybillProcess;
let receiver: WebhookReceiver;
let proxy: TcpProxy;
let folder: string;

beforeAll(async () => {
  receiver = await startWebhookReceiver();
  proxy = await startTcpProxy(receiver.port);
  folder = await mkdtemp(join(tmpdir(), 'waybill-providers-'));
  const config = join(folder, 'waybill.yaml');
  const breaker = { failureThreshold: 5, recoveryTimeoutMs: 1_000, halfOpenMaxCalls: 1 };
  await writeFile(config, JSON.stringify({ engine: { breaker, concurrency: 16 } }));
  waybill = await startWaybill({ env: { WAYBILL_CONFIG: config } });
}, 180_000);
afterAll(async () => {
  await waybill?.stop();
  await Promise.all([receiver.close(), proxy.close()]);
  await rm(folder, { recursive: true, force: true });
});

it('whoever is in trouble affects nobody else', { timeout: isLong ? 1_200_000 : 180_000 }, async () => {
  const api = client(waybill);
  let isTroubled = true;
  const under = new Map<string, number>();
  const most = new Map<string, number>();
  /** When the rate-limited one was called, in milliseconds, while it asked to be left alone. */
  const limited: number[] = [];
  receiver.respond = async ({ path }) => {
    const name = path.split('/').at(-1) as Name;
    under.set(name, (under.get(name) ?? 0) + 1);
    most.set(name, Math.max(most.get(name) ?? 0, under.get(name) as number));
    const leave = () => under.set(name, (under.get(name) as number) - 1);
    if (isTroubled && name === 'silent') {
      // It is under way for as long as its caller has patience; a part of that, as the two clocks do not begin at once.
      setTimeout(leave, TIMEOUT_MS / 4);
      return 'silence';
    }
    await delay(5);
    leave();
    if (!isTroubled) return { status: 204 };
    if (name === 'failing') return { status: 503 };
    if (name !== 'rate-limited') return { status: 204 };
    limited.push(Date.now());
    return { status: 429, headers: { 'retry-after': String(RETRY_AFTER_S) } };
  };
  const ids = new Map<Name, string>();
  for (const name of [...TROUBLES, 'well'] as const) {
    const port = name === 'half-open' ? proxy.port : receiver.port;
    const { id } = await api.destination(
      'WEBHOOK',
      { webhook: { url: `http://127.0.0.1:${port}/${name}`, timeout: TIMEOUT_MS } },
      {
        retry: { strategy: 'FIXED', maxAttempts: 100, initialDelayMs: 100, jitter: 0 },
        limits: { concurrency: CONCURRENCY },
      },
    );
    ids.set(name, id);
  }
  const circuitOf = async (name: Name) => {
    const { destination } = await waybill.ask<{ destination: { health: { circuit: string } } }>(
      `{ destination(id: "${ids.get(name)}") { health { circuit } } }`,
    );
    return destination.health.circuit;
  };
  const request = async (name: Name, count: number) => {
    const inputs = Array.from({ length: count }, (_, n) => ({
      organizationId: 'hospital-001',
      content: { text: `${n}` },
      to: [{ destinationId: ids.get(name) }],
    }));
    await waybill.ask(
      'mutation ($inputs: [RequestDeliveryInput!]!) { requestDeliveries(inputs: $inputs) { delivery { id } } }',
      { inputs },
    );
  };
  const delivered = async (name: Name) => {
    const { deliveries } = await waybill.ask<{ deliveries: { totalCount: number } }>(
      'query ($filter: DeliveryFilter) { deliveries(first: 1, filter: $filter) { totalCount } }',
      { filter: { destinationId: ids.get(name), status: ['DELIVERED'] } },
    );
    return deliveries.totalCount;
  };
  const batches = async (name: Name) => {
    for (let left = DELIVERIES; left > 0; left -= 500) await request(name, Math.min(left, 500));
  };

  // A connection that is open on one side only: what is sent gets nowhere, and nothing says so.
  proxy.stall();
  for (const name of TROUBLES) await batches(name);
  for (const name of ['silent', 'failing', 'half-open'] as const)
    await expect.poll(() => circuitOf(name), wait).toMatch(/open/);
  await expect.poll(() => limited.length, wait).toBeGreaterThan(0);

  // With all of them in trouble, the fifth has its own as ever; rate limiting says nothing about health.
  await batches('well');
  await expect.poll(() => delivered('well'), wait).toBe(DELIVERIES);
  expect(await circuitOf('rate-limited')).toBe('closed');
  for (const name of TROUBLES) expect(await delivered(name)).toBe(0);
  // Asked to wait, it waits: after each answer those on their way then are all that come before the time is over.
  const bursts: number[][] = [];
  for (const at of limited) {
    const burst = bursts.at(-1);
    if (burst && at - (burst[0] as number) < RETRY_AFTER_S * 1_000 - 100) burst.push(at);
    else bursts.push([at]);
  }
  for (const burst of bursts) expect(burst.length).toBeLessThanOrEqual(CONCURRENCY);

  isTroubled = false;
  proxy.cut();
  proxy.heal();
  for (const name of TROUBLES) await expect.poll(() => delivered(name), wait).toBe(DELIVERIES);
  for (const name of TROUBLES) await expect.poll(() => circuitOf(name), wait).toBe('closed');
  for (const name of ['silent', 'failing', 'rate-limited', 'well'] as const)
    expect(most.get(name)).toBeLessThanOrEqual(CONCURRENCY);
  await expectSameAfterRebuild(waybill, () => digests(waybill));
});
