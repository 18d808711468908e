import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../support/logs.js';
import { unusedPort } from '../support/peers/http-peer.js';
import { type SmtpPeer, startSmtpPeer } from '../support/peers/smtp.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';
import { client, ORGANIZATION, types } from './journeys.js';

/** What becomes of deliveries when the other side is not well, through the running product. */
let waybill: WaybillProcess;
let receiver: WebhookReceiver;
let smtp: SmtpPeer;
let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let api: ReturnType<typeof client>;

const THRESHOLD = 4;
const RECOVERY_MS = 3_000;

beforeAll(async () => {
  [receiver, smtp, folder] = await Promise.all([startWebhookReceiver(), startSmtpPeer(), temporaryFolder()]);
  const account = (port: number) => ({
    email: { service: 'smtp', host: smtp.host, port, from: 'a@b.example', recipients: ['postmaster@b.example'] },
  });
  const config = join(folder.path, 'waybill.yaml');
  await writeFile(
    config,
    JSON.stringify({
      enableAfterTest: true,
      engine: {
        maxUnderWay: 6,
        breaker: { failureThreshold: THRESHOLD, recoveryTimeoutMs: RECOVERY_MS, halfOpenMaxCalls: 1 },
        disableAfter: { failures: 6, hours: 0 },
      },
      providers: [
        { name: 'main', channel: 'EMAIL', config: account(await unusedPort()) },
        { name: 'spare', channel: 'EMAIL', priority: 2, config: account(smtp.port) },
      ],
    }),
  );
  waybill = await startWaybill({ env: { WAYBILL_CONFIG: config } });
  api = client(waybill);
});

afterAll(async () => {
  await waybill?.stop();
  await Promise.all([receiver?.close(), smtp?.close()]);
  await folder?.remove();
});

let isWell = true;
const at = (path: string) => receiver.received.filter((request) => request.path.endsWith(path)).length;
const retry = { strategy: 'FIXED', initialDelayMs: 50, jitter: 0, maxAttempts: 100 };
const destination = async (path: string) => {
  receiver.respond = () => ({ status: isWell ? 204 : 503 });
  const { id } = await api.destination('WEBHOOK', { webhook: { url: `${receiver.url}${path}` } }, { retry });
  return id;
};
const healthOf = async (id: string) => {
  const fields = 'enabled disabledReason limits { concurrency perSecond } health { circuit status }';
  return (await waybill.ask<{ destination: object }>(`{ destination(id: "${id}") { ${fields} } }`)).destination;
};
const wait = { timeout: 20_000 };

describe('a destination that fails', () => {
  it('is not called while its circuit is open, and has everything once it works again', async () => {
    isWell = false;
    const id = await destination('/circuit');
    const first = await api.request({ to: [{ destinationId: id }] });
    await expect.poll(() => healthOf(id), wait).toMatchObject({ enabled: true, health: { circuit: 'open' } });
    const calls = at('/circuit');
    expect(calls).toBeGreaterThanOrEqual(THRESHOLD);
    isWell = true;
    const second = await api.request({ to: [{ destinationId: id }] });
    for (const delivery of [first, second]) await api.until(delivery.id, 'DELIVERED');
    await expect.poll(() => healthOf(id), wait).toMatchObject({ health: { circuit: 'closed' } });
    expect((await api.delivery(second.id)).attempts.length).toBe(1);
    expect(at('/circuit')).toBe(calls + 2);
  });

  it('sends those that have one over their other route', async () => {
    isWell = false;
    const id = await destination('/detour');
    const first = await api.request({ to: [{ destinationId: id }] });
    await expect.poll(() => healthOf(id), wait).toMatchObject({ health: { circuit: 'open' } });
    const to = [{ destinationId: id, fallback: [{ channel: 'EMAIL', address: 'ada@b.example' }] }];
    const detoured = await api.until((await api.request({ to })).id, 'SENT');
    expect(types(detoured).slice(0, 2)).toEqual(['DeliveryRequested', 'FallbackChosen']);
    expect(detoured.attempts.every(({ channel }) => channel === 'EMAIL')).toBe(true);
    isWell = true;
    await api.until(first.id, 'DELIVERED');
  });

  it('is disabled when it goes on, and enabled by a person or a test that succeeds', async () => {
    isWell = false;
    const id = await destination('/hopeless');
    const lost = await api.request({ to: [{ destinationId: id }] });
    await expect
      .poll(() => healthOf(id), wait)
      .toMatchObject({
        enabled: false,
        disabledReason: expect.stringMatching(/^\d+ failures in a row since 20/),
      });
    expect((await api.until(lost.id, 'FAILED')).legs[0]?.failure?.code).toBe('DESTINATION_DISABLED');
    isWell = true;
    await waybill.ask(`mutation { testDestination(id: "${id}") { ok } }`);
    await expect.poll(() => healthOf(id), wait).toMatchObject({ enabled: true, health: { circuit: 'closed' } });
    const off = `mutation { disableDestination(id: "${id}", reason: "moving house") { enabled disabledReason } }`;
    expect(await waybill.ask(off)).toEqual({ disableDestination: { enabled: false, disabledReason: 'moving house' } });
    expect(await waybill.ask(`mutation { enableDestination(id: "${id}") { enabled disabledReason } }`)).toEqual({
      enableDestination: { enabled: true, disabledReason: null },
    });
    await api.act('retryDelivery', { id: lost.id });
    await api.until(lost.id, 'DELIVERED');
  });
});

it('an e-mail goes through the next provider when the first one cannot be reached, and the history says why', async () => {
  const { id } = await api.request({ to: [{ channel: 'EMAIL', address: 'ada@b.example' }], content: { text: 't' } });
  const sent = await api.until(id, 'SENT');
  expect(sent.attempts.at(-1)).toMatchObject({ provider: 'spare', status: 'SUCCEEDED' });
  const reason = sent.history.findLast(({ type }) => type === 'AttemptSucceeded')?.data.providerReason;
  expect(reason).toMatch(/^the only one; main: (tried|circuit open)$/);
  const why = `{ delivery(id: "${id}") { attempts { provider providerReason } } }`;
  const { delivery } = await waybill.ask<{ delivery: { attempts: object[] } }>(why);
  expect(delivery.attempts.at(-1)).toEqual({ provider: 'spare', providerReason: reason });
});

it('providers are shown as they are', async () => {
  const health = async (scope = '') =>
    (
      await waybill.ask<{ providerHealth: object[] }>(
        `{ providerHealth${scope} { name channel priority weight circuit reason failures failingSince retryAt } }`,
      )
    ).providerHealth;
  const listed = { channel: 'EMAIL', weight: 1 };
  const well = { circuit: 'closed', reason: null, failures: 0, failingSince: null, retryAt: null };
  const spare = { ...listed, name: 'spare', priority: 2, ...well };
  const open = { circuit: expect.stringMatching(/^(open|half-open)$/), failingSince: expect.any(String) };
  const broken = { reason: `${THRESHOLD} failures in a row`, failures: THRESHOLD, retryAt: expect.any(String) };
  for (let n = 0; n < THRESHOLD; n++) {
    const to = [{ channel: 'EMAIL', address: 'ada@b.example' }];
    await api.until((await api.request({ to, content: { text: 't' } })).id, 'SENT');
  }
  await expect
    .poll(() => health(), wait)
    .toEqual([{ ...listed, name: 'main', priority: 1, ...open, ...broken }, spare]);
  expect(await health('(channel: EMAIL)')).toHaveLength(2);
  expect(await health('(channel: SMS)')).toEqual([]);
});

it('a destination’s limits are kept and shown, and nonsense is refused', async () => {
  const config = { webhook: { url: `${receiver.url}/limits` } };
  const { id } = await api.destination('WEBHOOK', config, { limits: { concurrency: 2, perSecond: 0.5 } });
  expect(await healthOf(id)).toMatchObject({ limits: { concurrency: 2, perSecond: 0.5 } });
  const refused = api.destination('WEBHOOK', config, { limits: { concurrency: 0 } });
  await expect(refused).rejects.toThrow('limits.concurrency: must be from 1 to 10000');
});

it('a request is told when to come again while too much is under way', async () => {
  const id = await destination('/full');
  // Under way for as long as the test wants.
  let getWell = () => {};
  const answer = new Promise<{ status: number }>((resolve) => {
    getWell = () => resolve({ status: 204 });
  });
  receiver.respond = () => answer;
  const input = { organizationId: ORGANIZATION, to: [{ destinationId: id }], content: { text: 't' } };
  const request = () =>
    waybill.graphql('mutation ($input: RequestDeliveryInput!) { requestDelivery(input: $input) { replayed } }', {
      input,
    });
  let refusal: { readonly code?: string; readonly retryAfterSeconds?: number } | undefined;
  const refused = async () => {
    refusal = (await request()).errors[0]?.extensions;
    return refusal;
  };
  await expect.poll(refused).toEqual({ code: 'RATE_LIMITED', retryAfterSeconds: expect.any(Number) });
  const { retryAfterSeconds } = refusal ?? {};
  expect(retryAfterSeconds).toBeGreaterThanOrEqual(1);
  expect(retryAfterSeconds).toBeLessThanOrEqual(60);
  // Another organization still has room: of the six places, five are one's at most.
  const other = { ...input, organizationId: 'hospital-002', to: [{ channel: 'WEBHOOK', address: receiver.url }] };
  const accepted = await waybill.graphql(
    'mutation ($input: RequestDeliveryInput!) { requestDelivery(input: $input) { replayed } }',
    { input: other },
  );
  expect(accepted.errors).toEqual([]);
  getWell();
  await expect.poll(async () => (await request()).errors, { timeout: 20_000 }).toEqual([]);
});
