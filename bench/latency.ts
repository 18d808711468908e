import { setTimeout as delay } from 'node:timers/promises';
import { monotonicMs, type Percentiles, percentiles, wallClockOffsetMs } from './clock.js';
import { type Load, requestInput } from './workload.js';

export interface Latency {
  /** From the moment the request should have been sent, so that a stalled server cannot hide behind a waiting client. */
  readonly requestToFirstByteMs: Percentiles;
  /**
   * From `requestedAt`, which the server takes before it stores anything. Full milliseconds, so 0.5 too much; and by the database's
   * clock as far as Waybill knows it, which is behind by what an answer of the database took. So never from before it was due.
   */
  readonly acceptedToFirstByteMs: Percentiles;
  /** From the answer, when the event is in the log, until a query shows the delivery; one HTTP round trip included. */
  readonly appendToVisibleMs: Percentiles;
}

interface Accepted {
  readonly id: string;
  readonly dueAt: number;
  readonly requestedAt: number;
  readonly visibleAfterMs: number | undefined;
}

/** Every so many deliveries one is asked for until it shows. */
const SAMPLE = 10;
const PATIENCE_MS = 10_000;

/** An open loop: requests are sent when they are due, whether or not those before them are answered. */
export async function latency(load: Load, rate: number, seconds: number): Promise<Latency> {
  const total = rate * seconds;
  const startedAt = monotonicMs();
  const calls: Promise<Accepted>[] = [];
  while (calls.length < total) {
    const due = Math.min(Math.floor(((monotonicMs() - startedAt) / 1_000) * rate) + 1, total);
    while (calls.length < due) calls.push(request(load, calls.length, startedAt + (calls.length / rate) * 1_000));
    await delay(1);
  }
  const accepted = await Promise.all(calls);
  await load.receiver.untilReceived(total, PATIENCE_MS);

  const arrivals = await load.receiver.arrivals();
  const offset = wallClockOffsetMs();
  const arrivalOf = ({ id }: Accepted) => arrivals.get(`${id}_1`) ?? Number.NaN;
  return {
    requestToFirstByteMs: percentiles(accepted.map((each) => arrivalOf(each) - each.dueAt)),
    acceptedToFirstByteMs: percentiles(
      accepted.map((each) => arrivalOf(each) - Math.max(each.requestedAt - offset, each.dueAt)),
    ),
    appendToVisibleMs: percentiles(accepted.flatMap(({ visibleAfterMs }) => visibleAfterMs ?? [])),
  };
}

async function request(load: Load, number: number, dueAt: number): Promise<Accepted> {
  const { requestDelivery } = await load.waybill.ask<{
    requestDelivery: { delivery: { id: string; requestedAt: string } };
  }>('mutation ($input: RequestDeliveryInput!) { requestDelivery(input: $input) { delivery { id requestedAt } } }', {
    input: requestInput(load, number),
  });
  const { id, requestedAt } = requestDelivery.delivery;
  const visibleAfterMs = number % SAMPLE === 0 ? await untilVisible(load, id) : undefined;
  return { id, dueAt, requestedAt: Date.parse(requestedAt), visibleAfterMs };
}

/** A query waits for the caller's own newest write, so the first answer has it, unless that took longer than 2 s. */
async function untilVisible({ waybill }: Load, id: string): Promise<number> {
  const appendedAt = monotonicMs();
  for (;;) {
    const { delivery } = await waybill.ask<{ delivery: object | null }>(
      'query ($id: ID!) { delivery(id: $id) { id } }',
      {
        id,
      },
    );
    const waited = monotonicMs() - appendedAt;
    if (delivery) return waited;
    if (waited > PATIENCE_MS) throw new Error(`delivery ${id} does not show in the read models`);
  }
}
