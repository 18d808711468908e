import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import type { WaybillProcess } from '../test/support/waybill-process.js';
import { ORGANIZATION } from './hospital.js';

/** What the demo wants to know of a delivery. */
export interface DeliveryState {
  readonly id: string;
  readonly status: string;
  readonly holds: readonly { readonly reason: string; readonly until: string | null }[];
  readonly legs: readonly {
    readonly channel: string;
    readonly status: string;
    readonly attempts: number;
    readonly deadLettered: boolean;
  }[];
  readonly requestedAt: string;
  readonly completedAt: string | null;
}

export const DELIVERY_FIELDS =
  'id status holds { reason until } legs { channel status attempts deadLettered } requestedAt completedAt';

export interface Watch {
  /**
   * The delivery once it is as wanted.
   *
   * @throws Error that says how it is instead, 20 s later
   */
  until(id: string, isWanted: (delivery: DeliveryState) => boolean): Promise<DeliveryState>;
  close(): Promise<void>;
}

const PATIENCE_MS = 20_000;

/** Follows all deliveries of the hospital over one subscription (graphql-transport-ws), as a dashboard would. */
export function watchDeliveries(waybill: WaybillProcess): Watch {
  const known = new Map<string, DeliveryState>();
  const waiting = new Set<() => void>();
  let problem: unknown;
  const notify = () => {
    for (const look of waiting) look();
  };

  const client = createClient({
    url: `${waybill.url.replace('http', 'ws')}/graphql`,
    webSocketImpl: WebSocket,
    connectionParams: { authorization: `Bearer ${waybill.adminKey}` },
    retryAttempts: 0,
    lazy: false,
    onNonLazyError: () => undefined, // the subscription below gets it too
  });
  client.subscribe<{ deliveryUpdated: DeliveryState }>(
    {
      query: `subscription ($organization: ID) { deliveryUpdated(organizationId: $organization) { ${DELIVERY_FIELDS} } }`,
      variables: { organization: ORGANIZATION },
    },
    {
      next({ data, errors }) {
        if (data) known.set(data.deliveryUpdated.id, data.deliveryUpdated);
        problem = errors?.[0] ?? problem;
        notify();
      },
      error(error) {
        problem = error;
        notify();
      },
      complete: () => undefined,
    },
  );

  return {
    until(id, isWanted) {
      return new Promise((resolve, reject) => {
        const finish = () => {
          clearTimeout(timer);
          waiting.delete(look);
        };
        const look = () => {
          const delivery = known.get(id);
          if (delivery && isWanted(delivery)) resolve(delivery);
          else if (problem) reject(new Error(`the subscription ended: ${wordsOf(problem)}`));
          else return;
          finish();
        };
        const timer = setTimeout(() => {
          finish();
          reject(new Error(`after ${PATIENCE_MS / 1_000} s the delivery is still ${JSON.stringify(known.get(id))}`));
        }, PATIENCE_MS);
        waiting.add(look);
        look();
      });
    },
    close: async () => void (await client.dispose()),
  };
}

const wordsOf = (problem: unknown): string =>
  problem instanceof Error ? problem.message : JSON.stringify(problem, ['message', 'code', 'reason']);

export const hasEnded = ({ completedAt }: DeliveryState): boolean => completedAt !== null;
export const isDeadLettered = ({ legs }: DeliveryState): boolean => legs.some(({ deadLettered }) => deadLettered);
export const isHeldFor =
  (reason: string) =>
  ({ status, holds }: DeliveryState): boolean =>
    status === 'HELD' && holds.some((hold) => hold.reason === reason);
