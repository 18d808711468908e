import type { Pool } from 'pg';
import { expect } from 'vitest';
import type { WaybillProcess } from './waybill-process.js';

/** What FAULTS.md has looked at when a fault is over. */

/** The read models as they are, and each of them made again from the log, have the same rows. */
export async function expectSameAfterRebuild(
  waybill: WaybillProcess,
  digests: () => Promise<Record<string, string>>,
): Promise<void> {
  const live = await digests();
  const names = Object.keys(live);
  for (const name of names) {
    // Where the writer has just died it is to be asked again.
    const codes = async () => {
      const { errors } = await waybill.graphql(`mutation { rebuildProjection(name: "${name}") { id } }`);
      const found = errors.map(({ extensions }) => extensions?.code);
      expect(found.filter((code) => code !== 'UNAVAILABLE')).toEqual([]);
      return found;
    };
    await expect.poll(codes, { timeout: 30_000 }).toEqual([]);
  }
  const states = async () => {
    const { projections } = await waybill.ask<{
      projections: { name: string; state: string; parked: number; rebuild: { state: string } | null }[];
    }>('{ projections { name state parked rebuild { state } } }');
    return projections.map(({ name, state, parked, rebuild }) => [name, state, parked, rebuild?.state]);
  };
  const rebuilt = names.map((name) => [name, 'running', 0, 'done']);
  await expect.poll(async () => (await states()).sort(), { timeout: 120_000, interval: 200 }).toEqual(rebuilt.sort());
  await expect.poll(digests, { timeout: 60_000 }).toEqual(live);
}

/**
 * What the receivers of e-mail had and what is recorded agree, although nothing tells a receiver that a message came
 * twice: whatever came was recorded as sent or, where a crash kept its outcome from being known, as in doubt.
 *
 * @param deliveries ids of deliveries by e-mail that have ended as SENT
 * @param mails how often each came
 * @returns attempts that are recorded as in doubt, and mails that came again because of them
 */
export async function auditMails(
  sql: Pool,
  deliveries: readonly string[],
  mails: ReadonlyMap<string, number>,
): Promise<{ inDoubt: number; again: number }> {
  const { rows } = await sql.query<{ id: string; succeeded: number; doubtful: number; others: number }>(
    `SELECT delivery_id AS id, count(*) FILTER (WHERE status = 'SUCCEEDED')::integer AS succeeded,
       count(*) FILTER (WHERE status = 'IN_DOUBT')::integer AS doubtful,
       count(*) FILTER (WHERE status NOT IN ('SUCCEEDED', 'IN_DOUBT'))::integer AS others
     FROM attempts WHERE delivery_id = ANY ($1::uuid[]) GROUP BY delivery_id`,
    [deliveries],
  );
  expect(rows).toHaveLength(deliveries.length);
  expect([...mails.keys()].sort()).toEqual([...deliveries].sort());
  const wrong = rows.filter(({ id, succeeded, doubtful, others }) => {
    const came = mails.get(id) ?? 0;
    return succeeded !== 1 || others !== 0 || came < succeeded || came > succeeded + doubtful;
  });
  expect(wrong).toEqual([]);
  const inDoubt = rows.reduce((sum, { doubtful }) => sum + doubtful, 0);
  return { inDoubt, again: [...mails.values()].reduce((sum, came) => sum + came, 0) - deliveries.length };
}

/**
 * Of each webhook delivery exactly one success is recorded, and its receiver had it under one id and under no other. It
 * may have come twice, under the same id: that is how the receiver can tell.
 *
 * @returns posts that came again
 */
export async function auditWebhooks(
  sql: Pool,
  deliveries: readonly string[],
  webhookIds: readonly string[],
): Promise<{ again: number }> {
  const { rows } = await sql.query<{ id: string; statuses: string[] }>(
    `SELECT delivery_id AS id, array_agg(status ORDER BY number) AS statuses
     FROM attempts WHERE delivery_id = ANY ($1::uuid[]) GROUP BY delivery_id`,
    [deliveries],
  );
  expect(rows).toHaveLength(deliveries.length);
  expect(rows.filter(({ statuses }) => statuses.join() !== 'SUCCEEDED')).toEqual([]);
  const distinct = new Set(webhookIds);
  expect([...distinct].sort()).toEqual(deliveries.map((id) => `${id}_1`).sort());
  return { again: webhookIds.length - distinct.size };
}
