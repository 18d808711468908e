import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { newDeliveryId } from '../../src/commands/ids.js';
import type { JsonObject } from '../../src/domain/vocabulary.js';
import { EmbeddedLog } from '../../src/event-store/embedded-log.js';
import type { NewEvent } from '../../src/event-store/event-store.js';
import { startWaybill } from '../../test/support/waybill-process.js';
import type { BenchReceiver } from '../receiver.js';
import { prepareLoad, requestInput } from '../workload.js';

/** Appends under way at once: enough that each commit of the log takes many. */
const IN_FLIGHT = 5_000;
const DAYS = 30;

/**
 * Has one delivery made by a Waybill on this folder and copies its events into streams of their own, spread over the
 * last 30 days, with ids as requests get them that have no idempotency key. What was sealed is bound to the original, and
 * an engine that cannot open it would suspend each of them: the copies have their content in clear, which is about as long.
 */
export async function fillLog(dataDir: string, receiver: BenchReceiver, events: number): Promise<void> {
  const waybill = await startWaybill({ dataDir });
  const load = await prepareLoad(waybill, receiver, 'bench-filled');
  const { requestDelivery } = await waybill.ask<{ requestDelivery: { delivery: { id: string } } }>(
    'mutation ($input: RequestDeliveryInput!) { requestDelivery(input: $input) { delivery { id } } }',
    { input: requestInput(load, 0) },
  );
  const { id } = requestDelivery.delivery;
  const isDelivered = async () =>
    (await waybill.ask<{ delivery: { status: string } }>(`{ delivery(id: "${id}") { status } }`)).delivery.status ===
    'DELIVERED';
  while (!(await isDelivered())) await delay(20);
  await waybill.stop();

  const log = EmbeddedLog.open(join(dataDir, 'log'));
  try {
    const { content } = requestInput(load, 0) as { content: JsonObject };
    const originals = (await log.readStream(`delivery-${id}`)).map(({ type, data: { sealed, ...data }, metadata }) => ({
      ...{ type, metadata },
      data: sealed === undefined ? data : { ...data, content },
    }));
    const copies = Math.ceil(events / originals.length);
    const [first] = originals.map(({ metadata }) => Date.parse(metadata.occurredAt ?? ''));
    let waiting: Promise<unknown>[] = [];
    for (let copy = 0; copy < copies; copy++) {
      const startedAt = Date.now() - (1 - copy / copies) * DAYS * 86_400_000;
      const shifted = originals.map(({ type, data, metadata }): NewEvent => {
        const at = new Date(startedAt + Date.parse(metadata.occurredAt ?? '') - (first ?? 0)).toISOString();
        const { startedAt: attempted, ...rest } = data;
        const timed = attempted === undefined ? data : { ...rest, startedAt: at };
        return { id: randomUUID(), type, data: timed, metadata: { ...metadata, occurredAt: at } };
      });
      waiting.push(log.append(`delivery-${newDeliveryId(new Date(startedAt))}`, 'no-stream', shifted));
      if (waiting.length < IN_FLIGHT) continue;
      await Promise.all(waiting);
      waiting = [];
    }
    await Promise.all(waiting);
  } finally {
    await log.close();
  }
}
