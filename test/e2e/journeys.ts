import { expect } from 'vitest';
import type { WaybillProcess } from '../support/waybill-process.js';

/** A delivery as the end-to-end tests look at it. */
export interface Delivery {
  readonly id: string;
  readonly status: string;
  readonly asOf: string;
  readonly completedAt: string | null;
  readonly holds: readonly { reason: string; until: string | null; detail: Record<string, unknown> | null }[];
  readonly legs: readonly {
    id: string;
    channel: string;
    status: string;
    attempts: number;
    deadLettered: boolean;
    nextAttemptAt: string | null;
    failure: { category: string; code: string; message: string } | null;
  }[];
  readonly attempts: readonly {
    number: number;
    channel: string;
    provider: string;
    status: string;
    startedAt: string;
    completedAt: string | null;
    error: { category: string; code: string } | null;
    providerMessageId: string | null;
  }[];
  readonly history: readonly { type: string; position: string; revision: number; data: Record<string, unknown> }[];
}

const FIELDS = `id status asOf completedAt holds { reason until detail }
  legs { id channel status attempts deadLettered nextAttemptAt failure { category code message } }
  attempts { number channel provider status startedAt completedAt error { category code } providerMessageId }
  history { type position revision data }`;

export const ORGANIZATION = 'hospital-001';

/** What a client does, in the words of the tests. */
export function client(waybill: WaybillProcess) {
  const self = {
    async destination(type: string, config: object, more: object = {}): Promise<{ id: string; signingSecret: string }> {
      const input = { organizationId: ORGANIZATION, label: `${type} destination`, type, config, ...more };
      const { createDestination } = await waybill.ask<{ createDestination: { id: string; signingSecret: string } }>(
        'mutation ($input: DestinationInput!) { createDestination(input: $input) { id signingSecret } }',
        { input },
      );
      return createDestination;
    },
    async request(input: object): Promise<Delivery & { replayed: boolean }> {
      const { requestDelivery } = await waybill.ask<{ requestDelivery: { replayed: boolean; delivery: Delivery } }>(
        `mutation ($input: RequestDeliveryInput!) { requestDelivery(input: $input) { replayed delivery { ${FIELDS} } } }`,
        { input: { organizationId: ORGANIZATION, content: { text: 'hello' }, ...input } },
      );
      return { ...requestDelivery.delivery, replayed: requestDelivery.replayed };
    },
    async delivery(id: string): Promise<Delivery> {
      const { delivery } = await waybill.ask<{ delivery: Delivery }>(
        `query ($id: ID!) { delivery(id: $id) { ${FIELDS} } }`,
        { id },
      );
      return delivery;
    },
    async asOf(id: string, position: string): Promise<Delivery | null> {
      const { deliveryAsOf } = await waybill.ask<{ deliveryAsOf: Delivery | null }>(
        `query ($id: ID!, $position: Position) { deliveryAsOf(id: $id, position: $position) { ${FIELDS} } }`,
        { id, position },
      );
      return deliveryAsOf;
    },
    async act(mutation: string, args: Record<string, string>): Promise<Delivery> {
      const list = Object.entries(args).map(([name, value]) => `${name}: ${JSON.stringify(value)}`);
      const answer = await waybill.ask<Record<string, Delivery>>(
        `mutation { ${mutation}(${list.join(', ')}) { ${FIELDS} } }`,
      );
      return answer[mutation] as Delivery;
    },
    /** Waits until the read model shows the delivery with this status. */
    async until(id: string, status: string, timeout = 15_000): Promise<Delivery> {
      await expect.poll(async () => (await self.delivery(id)).status, { timeout, interval: 20 }).toBe(status);
      return self.delivery(id);
    },
    /** The errors of a call that is refused: code and fields of each. */
    async refusal(query: string, variables?: object): Promise<{ code: string | undefined; paths: string[] }[]> {
      const { errors } = await waybill.graphql(query, variables);
      return errors.map(({ extensions }) => ({
        code: extensions?.code,
        paths: (extensions?.fields ?? []).map(({ path }) => path),
      }));
    },
  };
  return self;
}

export const types = ({ history }: Delivery): string[] => history.map(({ type }) => type);

/** Quick retries, so that tests need not wait. */
export const fastRetry = { strategy: 'FIXED', maxAttempts: 3, initialDelayMs: 50, jitter: 0 };
