import { setTimeout as delay } from 'node:timers/promises';
import type { ReceivedWebhook } from '../test/support/peers/webhook-receiver.js';
import type { WaybillProcess } from '../test/support/waybill-process.js';
import { ORGANIZATION } from './hospital.js';
import { webhookId } from './receivers.js';
import type { DeliveryState } from './watch.js';

/** What the scenes ask of the API, and what they make of the answers. */

/** Requests one delivery for the hospital. */
export async function request({ waybill }: { waybill: WaybillProcess }, input: object) {
  const { requestDelivery } = await waybill.ask<{ requestDelivery: { delivery: { id: string }; replayed: boolean } }>(
    'mutation ($input: RequestDeliveryInput!) { requestDelivery(input: $input) { delivery { id } replayed } }',
    { input: { organizationId: ORGANIZATION, ...input } },
  );
  return requestDelivery;
}

/** What is recorded of a delivery: the types of its events, in order. */
export async function history(waybill: WaybillProcess, id: string): Promise<string[]> {
  const { delivery } = await waybill.ask<{ delivery: { history: { type: string }[] } }>(
    'query ($id: ID!) { delivery(id: $id) { history { type } } }',
    { id },
  );
  return delivery.history.map(({ type }) => type);
}

/** The ids of the hospital's dead letters. */
export async function deadLetters(waybill: WaybillProcess): Promise<string[]> {
  const { deliveries } = await waybill.ask<{ deliveries: { edges: { node: { id: string } }[] } }>(
    'query ($filter: DeliveryFilter) { deliveries(filter: $filter, first: 10) { edges { node { id } } } }',
    { filter: { organizationId: ORGANIZATION, deadLettered: true } },
  );
  return deliveries.edges.map(({ node }) => node.id);
}

/** Where the first file of a delivery can be had. */
export async function downloadUrl(waybill: WaybillProcess, deliveryId: string): Promise<string> {
  const { downloads } = await waybill.ask<{ downloads: { files: { url: string }[] }[] }>(
    'query ($id: ID!) { downloads(deliveryId: $id) { files { url } } }',
    { id: deliveryId },
  );
  return new URL(downloads[0]?.files[0]?.url ?? '', waybill.url).href;
}

/** What one of the hospital's users sees in its application: asked for with a token that opens that inbox alone. */
export async function inboxOf(waybill: WaybillProcess, address: string): Promise<{ title: string; text: string }[]> {
  const { createInboxToken } = await waybill.ask<{ createInboxToken: { token: string } }>(
    'mutation ($organization: ID, $address: String!) { createInboxToken(organizationId: $organization, address: $address) { token } }',
    { organization: ORGANIZATION, address },
  );
  const response = await fetch(`${waybill.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${createInboxToken.token}` },
    body: JSON.stringify({ query: '{ inbox { messages { title text } } }' }),
  });
  const { data } = (await response.json()) as { data: { inbox: { messages: { title: string; text: string }[] } } };
  return data.inbox.messages;
}

/** Waits until so many deliveries with a tag have been delivered. */
export async function untilDelivered(waybill: WaybillProcess, tag: string, count: number): Promise<void> {
  const filter = { organizationId: ORGANIZATION, tag, status: ['DELIVERED'] };
  for (const deadline = Date.now() + 30_000; ; await delay(50)) {
    const { deliveries } = await waybill.ask<{ deliveries: { totalCount: number } }>(
      'query ($filter: DeliveryFilter) { deliveries(filter: $filter, first: 1) { totalCount } }',
      { filter },
    );
    if (deliveries.totalCount === count) return;
    if (Date.now() > deadline) throw new Error(`after 30 s only ${deliveries.totalCount} of ${count} are delivered`);
  }
}

/** One line of the table. */
export interface Outcome {
  readonly name: string;
  readonly channel: string;
  readonly attempts: number;
  readonly status: string;
  readonly milliseconds: number;
}

export const outcome = (name: string, { legs, status, requestedAt, completedAt }: DeliveryState): Outcome => ({
  name,
  channel: legs.map(({ channel }) => channel).join(' + '),
  attempts: legs.reduce((sum, leg) => sum + leg.attempts, 0),
  status,
  milliseconds: Date.parse(completedAt ?? '') - Date.parse(requestedAt),
});

/** A webhook-id begins with the delivery's id. */
export const deliveryIdOf = (webhook: ReceivedWebhook): string => webhookId(webhook).split('_')[0] ?? '';
