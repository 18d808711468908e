import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { types } from '../e2e/journeys.js';
import { Cluster, type Instance } from '../support/cluster.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';

/**
 * FAULTS.md, "same idempotency key × 50 at once" and "approve + reject + timeout at once", at two instances that know of
 * each other only through the log and the database.
 */
const isLong = process.env.FAULT_LONG === '1';
const ROUNDS = isLong ? 200 : 24;
const CALLS = 50;

let cluster: Cluster;
let receiver: WebhookReceiver;
let both: readonly [Instance, Instance];

beforeAll(async () => {
  [cluster, receiver] = await Promise.all([Cluster.open(), startWebhookReceiver()]);
  both = [await cluster.join(), await cluster.join()];
}, 240_000);
afterAll(async () => {
  await cluster.close();
  await receiver.close();
});

const REQUEST = `mutation ($input: RequestDeliveryInput!) {
  requestDelivery(input: $input) { replayed delivery { id } }
}`;
interface Requested {
  readonly requestDelivery: { readonly replayed: boolean; readonly delivery: { readonly id: string } };
}
const input = (more: object) => ({
  organizationId: 'hospital-001',
  content: { text: 'once' },
  to: [{ channel: 'WEBHOOK', address: receiver.url }],
  ...more,
});
const at = (index: number) => (both[index % 2] as Instance).waybill;
const codesOf = (errors: readonly { readonly extensions?: { readonly code?: string } }[]) =>
  errors.map(({ extensions }) => extensions?.code);

describe('at once', () => {
  it(`the same idempotency key ${CALLS} times is one delivery, and with another body a conflict`, async () => {
    for (let round = 0; round < ROUNDS / 4; round++) {
      const same = input({ idempotencyKey: `key-${round}` });
      const calls = Array.from({ length: CALLS }, (_, n) => at(n).graphql<Requested>(REQUEST, { input: same }));
      const answers = await Promise.all(calls);
      expect(answers.flatMap(({ errors }) => codesOf(errors))).toEqual([]);
      const given = answers.flatMap(({ data }) => (data ? [data.requestDelivery] : []));
      expect(new Set(given.map(({ delivery }) => delivery.id)).size).toBe(1);
      expect(given.filter(({ replayed }) => !replayed)).toHaveLength(1);
      const other = await at(round).graphql(REQUEST, { input: { ...same, content: { text: 'another' } } });
      expect(codesOf(other.errors)).toEqual(['IDEMPOTENCY_CONFLICT']);
    }
    const ids = () => receiver.received.map(({ headers }) => headers['webhook-id']);
    await expect.poll(() => new Set(ids()).size, { timeout: 30_000 }).toBe(ROUNDS / 4);
    expect(ids()).toHaveLength(ROUNDS / 4);
  }, 120_000);

  it('an approval, a rejection and the end of its time make exactly one decision', async () => {
    const SECONDS = 3;
    const approval = { approvers: ['admin'], timeoutSeconds: SECONDS };
    const requestedAt = Date.now();
    const ids = await cluster.request(
      'decisions',
      Array.from({ length: ROUNDS }, () => input({ approval })),
    );
    const decided = await Promise.all(
      ids.map(async (id, index) => {
        // Around the moment when the time is over, some well before it: not a wait for anything.
        const before = index % 4 === 0 ? 1_500 : 150 * Math.random();
        await delay(Math.max(0, requestedAt + SECONDS * 1_000 - before - Date.now()));
        const calls = [
          at(index).graphql(`mutation { approveDelivery(id: "${id}") { id } }`),
          at(index + 1).graphql(`mutation { rejectDelivery(id: "${id}", reason: "no") { id } }`),
        ];
        const [approved, rejected] = (await Promise.all(calls)).map(({ errors }) => codesOf(errors));
        return { id, approved, rejected };
      }),
    );
    const decisions = ['ApprovalGranted', 'ApprovalRejected', 'ApprovalTimedOut'];
    const seen = new Set<string>();
    for (const { id, approved, rejected } of decided) {
      const taken = async () => {
        const { delivery } = await at(0).ask<{ delivery: { history: { type: string }[] } }>(
          `{ delivery(id: "${id}") { history { type } } }`,
        );
        return types(delivery as never).filter((type) => decisions.includes(type));
      };
      await expect.poll(taken, { timeout: 30_000 }).toHaveLength(1);
      const [decision = ''] = await taken();
      seen.add(decision);
      // Whoever was told that it is done had it done, everybody else was told that it was not.
      expect(approved).toEqual(decision === 'ApprovalGranted' ? [] : ['CONFLICT']);
      expect(rejected).toEqual(decision === 'ApprovalRejected' ? [] : ['CONFLICT']);
    }
    expect(seen.size).toBeGreaterThan(1);
    const granted = await cluster.sql.query(`SELECT count(*)::integer AS n FROM deliveries WHERE status = 'REJECTED'`);
    expect(granted.rows[0].n).toBeGreaterThan(0);
  }, 120_000);
});
