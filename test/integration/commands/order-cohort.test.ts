import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { CommandExecutor } from '../../../src/commands/executor.js';
import { newId } from '../../../src/commands/ids.js';
import type { DeliveryOrder } from '../../../src/commands/intake.js';
import { OrderCohort } from '../../../src/commands/order-cohort.js';
import { delivery } from '../../../src/domain/delivery.js';
import type { DeliveryCommand } from '../../../src/domain/delivery-commands.js';
import { type CommandSide, commandSide } from '../../support/commands.js';
import { at, ORGANIZATION, requested } from '../../support/deliveries.js';

let side: CommandSide;
beforeEach(async () => {
  side = await commandSide();
});
afterEach(() => side.close());

const order = (id: string, command: DeliveryCommand): DeliveryOrder => ({
  id,
  command,
  envelope: { organizationId: ORGANIZATION, commandId: newId(), actor: 'engine' },
});
const request = (id = newId(), rest: Partial<DeliveryOrder> = {}): DeliveryOrder => ({
  ...order(id, { type: 'RequestDelivery', id, now: at(0), request: requested().data }),
  ...rest,
});

const cohortOf = (executor: CommandExecutor) => {
  const send = vi.fn((orders: readonly DeliveryOrder[]) => executor.executeMany(delivery, orders));
  return { send, cohort: new OrderCohort(send) };
};

it('sends what many give in the same step together, and answers each with its own', async () => {
  const { send, cohort } = cohortOf(side.executor);
  const orders = [request(), order(newId(), { type: 'Cancel', now: at(1), by: 'ada' }), request()];
  const given = orders.map(async (each, nth) => {
    // As those come who wait for one another: some steps later, all at the same one.
    for (let step = 0; step < 3; step++) await nth;
    return await cohort.order(each);
  });
  expect(await Promise.all(given)).toMatchObject([
    { ok: true, revision: 0, position: 1n },
    { ok: false, rejection: { code: 'NOT_FOUND' } },
    { ok: true, revision: 0, position: 2n },
  ]);
  expect(send.mock.calls).toEqual([[orders]]);
  await cohort.order(request());
  expect(send).toHaveBeenCalledTimes(2);
});

it('lets one that fails harm nobody else, and stores nothing twice', async () => {
  const { send, cohort } = cohortOf(side.executor);
  const stored = request();
  const [impossible, last] = [request(), request()];
  const append = side.log.append.bind(side.log);
  // The others of its call are on their way to the disk by then.
  vi.spyOn(side.log, 'append').mockImplementation((streamId, expected, events) =>
    streamId === `delivery-${impossible.id}`
      ? Promise.reject(new Error('not this one'))
      : append(streamId, expected, events),
  );
  const given = [stored, impossible, last].map((each) => cohort.order(each));
  const results = await Promise.allSettled(given);
  expect(results).toMatchObject([
    { status: 'fulfilled', value: { ok: true, revision: 0 } },
    { status: 'rejected', reason: { message: 'not this one' } },
    { status: 'fulfilled', value: { ok: true, revision: 0 } },
  ]);
  expect(send.mock.calls.map(([orders]) => orders.length)).toEqual([3, 1, 1, 1]);
  expect(await side.log.head()).toBe(2n);
});

it('asks each whether it may still be appended after all that has to be read', async () => {
  const { cohort } = cohortOf(side.executor);
  let isRead = false;
  const readStream = side.log.readStream.bind(side.log);
  vi.spyOn(side.log, 'readStream').mockImplementation(async (...range) => {
    const read = await readStream(...range);
    isRead = true;
    return read;
  });
  const known = { state: delivery.initial, revision: undefined };
  const asked: boolean[] = [];
  const mayAppend = () => asked.push(isRead) > 1;
  const [refused, read] = [request(newId(), { known, mayAppend }), request(newId(), { mayAppend })];
  expect(await Promise.all([refused, read].map((each) => cohort.order(each)))).toMatchObject([
    { ok: false, rejection: { code: 'CONFLICT' } },
    { ok: true },
  ]);
  expect(asked).toEqual([true, true]);
});
