import { setTimeout as delay } from 'node:timers/promises';
import { monotonicMs, type Percentiles, percentiles, rounded } from '../clock.js';
import type { BenchReceiver } from '../receiver.js';
import type { Contestant } from './contestant.js';
import { CpuMeter, type CpuUse } from './cpu-meter.js';

/** As `npm run bench` without options. */
const BULK = 200;
const IN_FLIGHT = 4;
const OUTSTANDING = 20_000;
export const LATENCY_RATE = 500;

const POLL_MS = 20;
/** How often the receiver is asked how far it is, while more is requested. */
const WATCH_MS = 4;
const SLOWEST_PER_SECOND = 100;
const PATIENCE_MS = 10_000;

export interface Figures extends CpuUse {
  /** From the first request until every delivery was received and its status stored. */
  readonly seconds: number;
  readonly perSecond: number;
  /** Until every request was accepted. */
  readonly acceptedSeconds: number;
  /** Posts beyond one for each delivery. */
  readonly repeated: number;
}

export interface Latency {
  /** From when the request should have been sent, so that a stalled system cannot hide behind a waiting client. */
  readonly requestToFirstByteMs: Percentiles;
  /** Waybill's clock is a little behind (see ../latency.ts); nothing was accepted before it was due. */
  readonly acceptedToFirstByteMs: Percentiles;
}

/** @throws Error when the receiver did not get each delivery, or got another, or a status is missing in the end */
export async function throughput(
  contestant: Contestant,
  receiver: BenchReceiver,
  deliveries: number,
): Promise<Figures> {
  await receiver.forget();
  const settledBefore = await contestant.settled();
  const meter = new CpuMeter(contestant, receiver);
  const patienceMs = PATIENCE_MS + (deliveries / SLOWEST_PER_SECOND) * 1_000;
  const startedAt = performance.now();
  const elapsed = () => (performance.now() - startedAt) / 1_000;

  const ids = await requestAll(contestant, receiver, deliveries);
  const acceptedSeconds = elapsed();
  await receiver.untilReceived(deliveries, patienceMs);
  for (const deadline = Date.now() + patienceMs; ; await delay(POLL_MS)) {
    const settled = (await contestant.settled()) - settledBefore;
    if (settled === deliveries) break;
    if (Date.now() > deadline) throw new Error(`${settled} of ${deliveries} deliveries have settled`);
  }
  const seconds = elapsed();

  const cpu = meter.read(deliveries);
  return {
    seconds: rounded(seconds, 3),
    perSecond: Math.round(deliveries / seconds),
    acceptedSeconds: rounded(acceptedSeconds, 3),
    repeated: await check(receiver, ids),
    ...cpu,
  };
}

/** An open loop: requests are sent when they are due, whether or not those before them are answered. */
export async function latency(contestant: Contestant, receiver: BenchReceiver, seconds: number): Promise<Latency> {
  await receiver.forget();
  const total = LATENCY_RATE * seconds;
  const startedAt = monotonicMs();
  const dueAt = (number: number) => startedAt + (number / LATENCY_RATE) * 1_000;
  const calls: ReturnType<Contestant['requestOne']>[] = [];
  while (calls.length < total) {
    while (calls.length < total && dueAt(calls.length) <= monotonicMs())
      calls.push(contestant.requestOne(calls.length));
    await delay(1);
  }
  const accepted = await Promise.all(calls);
  // One that cannot keep up has a backlog now, which is part of the answer.
  await receiver.untilReceived(total, PATIENCE_MS + (total / SLOWEST_PER_SECOND) * 1_000);

  await check(
    receiver,
    accepted.map(({ id }) => id),
  );
  const arrivals = await receiver.arrivals();
  const arrivalOf = (id: string) => arrivals.get(`${id}_1`) ?? Number.NaN;
  return {
    requestToFirstByteMs: percentiles(accepted.map(({ id }, number) => arrivalOf(id) - dueAt(number))),
    acceptedToFirstByteMs: percentiles(
      accepted.map(({ id, acceptedAt }, number) => arrivalOf(id) - Math.max(acceptedAt, dueAt(number))),
    ),
  };
}

/** In bulks, some at once, as long as not too many are on their way. */
async function requestAll(contestant: Contestant, receiver: BenchReceiver, deliveries: number): Promise<string[]> {
  const ids: string[] = [];
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
      while (next - received >= OUTSTANDING) await delay(WATCH_MS);
      const first = next;
      next = Math.min(first + BULK, deliveries);
      if (next > first) ids.push(...(await contestant.requestBulk(first, next - first)));
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, client)).finally(async () => {
    watch.abort();
    await watching;
  });
  return ids;
}

/**
 * All of them promise "at least once", and without a fault it should be once.
 *
 * @returns how many posts were repeated
 */
async function check(receiver: BenchReceiver, ids: readonly string[]): Promise<number> {
  const { requests, distinct } = await receiver.count();
  const arrivals = await receiver.arrivals();
  const missing = ids.filter((id) => !arrivals.has(`${id}_1`)).length;
  if (missing > 0 || distinct !== ids.length)
    throw new Error(`${ids.length} deliveries were accepted; ${missing} did not come, ${distinct} different ones did`);
  return requests - distinct;
}
