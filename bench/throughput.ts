import { setTimeout as delay } from 'node:timers/promises';
import { type Load, requestInput } from './workload.js';

const POLL_MS = 20;
/** How often the receiver is asked how far it is, while more is requested. More often would cost what is measured. */
const WATCH_MS = 20;
/** Posts: a tenth of what old peers do. */
const SLOWEST_PER_SECOND = 200;
const PATIENCE_MS = 10_000;

export interface Throughput {
  /** Until all requests were accepted. */
  readonly acceptedSeconds: number;
  /** … until all were delivered, and the read models said so and had nothing left to read. */
  readonly seconds: number;
}

export interface Pressure {
  readonly deliveries: number;
  readonly bulk: number;
  readonly inFlight: number;
  /** Deliveries requested and not yet received, at most. */
  readonly outstanding: number;
  /** Below it something is wrong, and waiting longer would not help. Default 200. */
  readonly slowestPerSecond?: number;
}

/**
 * Requests so many deliveries in bulks and waits until each is delivered and visible.
 *
 * @throws Error when the receiver did not get each of them exactly once
 */
export async function throughput(
  load: Load,
  { deliveries, bulk, inFlight, outstanding, slowestPerSecond = SLOWEST_PER_SECOND }: Pressure,
): Promise<Throughput> {
  const { waybill, receiver, organizationId } = load;
  const patienceMs = PATIENCE_MS + (deliveries / slowestPerSecond) * 1_000;
  const startedAt = performance.now();
  const elapsed = () => (performance.now() - startedAt) / 1_000;

  let next = 0;
  let received = 0;
  const watch = new AbortController();
  const watching = (async () => {
    while (!watch.signal.aborted) {
      received = (await receiver.count()).distinct;
      await delay(WATCH_MS);
    }
  })();
  const client = async () => {
    while (next < deliveries) {
      while (next - received >= outstanding) await delay(WATCH_MS);
      if (next >= deliveries) return;
      const first = next;
      next = Math.min(first + bulk, deliveries);
      const inputs = Array.from({ length: next - first }, (_, index) => requestInput(load, first + index));
      await waybill.ask(
        'mutation ($inputs: [RequestDeliveryInput!]!) { requestDeliveries(inputs: $inputs) { delivery { id } } }',
        { inputs },
      );
    }
  };
  await Promise.all(Array.from({ length: inFlight }, client)).finally(async () => {
    watch.abort();
    await watching;
  });
  const acceptedSeconds = elapsed();

  // The receiver is asked first: counting in the database would take from what is measured.
  await receiver.untilReceived(deliveries, patienceMs);
  for (const deadline = Date.now() + patienceMs; !(await isVisible()); await delay(POLL_MS))
    if (Date.now() > deadline)
      throw new Error(`the read models do not show all deliveries as ${load.settled ?? 'DELIVERED'}`);
  const seconds = elapsed();

  const { requests, distinct } = await receiver.count();
  if (requests !== deliveries || distinct !== deliveries)
    throw new Error(`the receiver got ${requests} requests with ${distinct} ids for ${deliveries} deliveries`);
  return { acceptedSeconds, seconds };

  async function isVisible(): Promise<boolean> {
    const { deliveries: page, projections } = await waybill.ask<{
      deliveries: { totalCount: number };
      projections: { lagEvents: number; parked: number }[];
    }>(
      `query ($filter: DeliveryFilter) {
        deliveries(filter: $filter, first: 1) { totalCount }
        projections { lagEvents parked }
      }`,
      { filter: { organizationId, status: [load.settled ?? 'DELIVERED'] } },
    );
    if (projections.some(({ parked }) => parked > 0)) throw new Error('a projection has parked events');
    const isCaughtUp = projections.length > 0 && projections.every(({ lagEvents }) => lagEvents === 0);
    return page.totalCount === deliveries && isCaughtUp;
  }
}
