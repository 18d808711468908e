import { type Load, requestInput } from '../workload.js';

const BULK = 500;
const IN_FLIGHT = 4;
const REQUEST =
  'mutation ($inputs: [RequestDeliveryInput!]!) { requestDeliveries(inputs: $inputs) { delivery { id } } }';

/**
 * Requests so many deliveries in bulks, a few calls at once; one that is told to come later does.
 *
 * @param more what else the n-th request says
 * @returns the ids, in order
 */
export async function requestMany(
  load: Load,
  count: number,
  more: (number: number) => object = () => ({}),
): Promise<string[]> {
  const ids: string[] = new Array(count);
  let next = 0;
  const client = async () => {
    while (next < count) {
      const first = next;
      next = Math.min(first + BULK, count);
      const inputs = Array.from({ length: next - first }, (_, index) => ({
        ...requestInput(load, first + index),
        ...more(first + index),
      }));
      for (const [index, id] of (await accepted(load, inputs)).entries()) ids[first + index] = id;
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, client));
  return ids;
}

async function accepted({ waybill }: Load, inputs: readonly object[]): Promise<string[]> {
  for (;;) {
    const { data, errors } = await waybill.graphql<{ requestDeliveries: { delivery: { id: string } }[] }>(REQUEST, {
      inputs,
    });
    if (data) return data.requestDeliveries.map(({ delivery }) => delivery.id);
    const [error] = errors;
    if (error?.extensions?.code !== 'RATE_LIMITED') throw new Error(error?.message ?? 'there was no answer');
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
}
