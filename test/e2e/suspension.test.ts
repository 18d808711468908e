import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { EmbeddedLog } from '../../src/event-store/embedded-log.js';
import { newEvent } from '../support/logs.js';
import { startWebhookReceiver } from '../support/peers/webhook-receiver.js';
import { removeDataDir, startWaybill, type WaybillProcess } from '../support/waybill-process.js';
import { client, ORGANIZATION, types } from './journeys.js';

/** An event that a newer program has recorded, found by an older one that was put back. */
const dataDir = await mkdtemp(join(tmpdir(), 'waybill-suspension-'));
let waybill: WaybillProcess | undefined;

afterAll(async () => {
  await waybill?.stop();
  await removeDataDir(dataDir);
});

const SUSPENDED = `query ($after: String) { suspendedDeliveries(first: 10, after: $after) {
  totalCount edges { cursor node { id organizationId position eventType error attempts suspendedAt } }
} }`;
interface Suspended {
  readonly suspendedDeliveries: {
    readonly totalCount: number;
    readonly edges: readonly { readonly cursor: string; readonly node: { readonly id: string } }[];
  };
}

test('a delivery that this program does not understand waits for an operator, and others go on', async () => {
  const receiver = await startWebhookReceiver();
  const to = [{ channel: 'WEBHOOK', address: receiver.url }];
  waybill = await startWaybill({ dataDir, eventStoreDb: false });
  const { id } = await client(waybill).request({ to, approval: { approvers: ['admin'] } });
  await waybill.stop();
  const log = EmbeddedLog.open(join(dataDir, 'log'));
  const metadata = { ...newEvent().metadata, organizationId: ORGANIZATION };
  const appended = await log.append(`delivery-${id}`, 0, [{ ...newEvent(), type: 'DeliveryTeleported', metadata }]);
  await log.close();
  if (!appended.ok) throw new Error('the stream is not where it was');

  waybill = await startWaybill({ dataDir, eventStoreDb: false });
  const api = client(waybill);
  await api.until((await api.request({ to })).id, 'DELIVERED');
  const approve = `mutation { approveDelivery(id: "${id}") { id } }`;
  expect(await api.refusal(approve)).toEqual([{ code: 'CONFLICT', paths: [] }]);
  const skip = (reason: string, which = id) => `mutation { skipSuspendedEvent(id: "${which}", reason: "${reason}") }`;
  // It is still being tried, and nothing that is not there is to be skipped.
  expect(await api.refusal(skip('impatience'))).toEqual([{ code: 'CONFLICT', paths: [] }]);
  expect(await api.refusal(skip('typo', 'x'))).toEqual([{ code: 'NOT_FOUND', paths: [] }]);

  const suspended = async (after?: string) =>
    (await (waybill as WaybillProcess).ask<Suspended>(SUSPENDED, { after })).suspendedDeliveries;
  await expect.poll(async () => (await suspended()).totalCount, { timeout: 45_000, interval: 200 }).toBe(1);
  const { edges } = await suspended();
  expect(edges.map(({ node }) => node)).toEqual([
    {
      ...{ id, organizationId: ORGANIZATION, position: appended.position.toString(), attempts: 4 },
      ...{ eventType: 'DeliveryTeleported', suspendedAt: expect.any(String) },
      error: expect.stringContaining('unknown event type DeliveryTeleported'),
    },
  ]);
  expect((await suspended(edges[0]?.cursor)).edges).toEqual([]);

  // This program is no newer than the one that gave up.
  expect(await waybill.ask(`mutation { resumeDelivery(id: "${id}", reason: "let us see") }`)).toEqual({
    resumeDelivery: true,
  });
  expect((await suspended()).totalCount).toBe(1);
  expect(await api.refusal(skip(' '))).toEqual([{ code: 'BAD_USER_INPUT', paths: ['reason'] }]);
  await waybill.ask(skip('recorded by a version that was taken back'));
  await expect.poll(async () => (await suspended()).totalCount, { timeout: 10_000 }).toBe(0);

  const approved = await api.act('approveDelivery', { id });
  expect(types(approved).slice(0, 5)).toEqual([
    'DeliveryRequested',
    'DeliveryTeleported',
    'ProcessResumed',
    'EventSkipped',
    'ApprovalGranted',
  ]);
  expect(approved.history[3]?.data).toMatchObject({
    ...{ revision: 1, eventType: 'DeliveryTeleported', by: 'admin' },
    reason: 'recorded by a version that was taken back',
  });
  await expect.poll(() => receiver.received.length, { timeout: 10_000 }).toBe(2);
  await receiver.close();
}, 120_000);
