import { setTimeout as delay } from 'node:timers/promises';
import { postgresPid, startWaybill } from '../../test/support/waybill-process.js';
import { wallClockOffsetMs } from '../clock.js';
import { cpuMicros, familyCpuMicros } from '../process-stats.js';
import type { BenchReceiver } from '../receiver.js';
import { prepareLoad, requestInput } from '../workload.js';
import type { Contestant } from './contestant.js';

const ORGANIZATION = 'bench-peers';
const POLL_MS = 20;
const PATIENCE_MS = 60_000;

const READ_MODELS = `query ($filter: DeliveryFilter) {
  deliveries(filter: $filter, first: 1) { totalCount }
  projections { lagEvents parked }
}`;

interface ReadModels {
  readonly deliveries: { readonly totalCount: number };
  readonly projections: readonly { readonly lagEvents: number; readonly parked: number }[];
}

const filter = { organizationId: ORGANIZATION, status: ['DELIVERED'] };

interface Requested {
  readonly delivery: { readonly id: string; readonly requestedAt: string };
}

/** Waybill as its own bench drives it: through GraphQL, settled when all read models show it. */
export async function startWaybillContestant(receiver: BenchReceiver): Promise<Contestant> {
  const waybill = await startWaybill();
  const load = await prepareLoad(waybill, receiver, ORGANIZATION);
  const postmaster = await postgresPid(waybill.dataDir);
  const offset = wallClockOffsetMs();
  return {
    async requestBulk(first, count) {
      const inputs = Array.from({ length: count }, (_, index) => requestInput(load, first + index));
      const { requestDeliveries } = await waybill.ask<{ requestDeliveries: Requested[] }>(
        'mutation ($inputs: [RequestDeliveryInput!]!) { requestDeliveries(inputs: $inputs) { delivery { id } } }',
        { inputs },
      );
      return requestDeliveries.map(({ delivery }) => delivery.id);
    },
    async requestOne(number) {
      const { requestDelivery } = await waybill.ask<{ requestDelivery: Requested }>(
        'mutation ($input: RequestDeliveryInput!) { requestDelivery(input: $input) { delivery { id requestedAt } } }',
        { input: requestInput(load, number) },
      );
      const { id, requestedAt } = requestDelivery.delivery;
      return { id, acceptedAt: Date.parse(requestedAt) - offset };
    },
    async settled() {
      for (const deadline = Date.now() + PATIENCE_MS; ; await delay(POLL_MS)) {
        const { deliveries, projections } = await waybill.ask<ReadModels>(READ_MODELS, { filter });
        if (projections.some(({ parked }) => parked > 0)) throw new Error('a projection of Waybill has parked events');
        if (projections.every(({ lagEvents }) => lagEvents === 0)) return deliveries.totalCount;
        if (Date.now() > deadline) throw new Error('the read models of Waybill do not catch up');
      }
    },
    cpu: () => ({
      own: cpuMicros(waybill.pid),
      store: postmaster === undefined ? undefined : familyCpuMicros(postmaster),
    }),
    async stop() {
      await waybill.stop();
    },
  };
}
