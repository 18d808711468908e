import { expect, it } from 'vitest';
import { eventId, newId } from '../../../src/commands/ids.js';
import type { RecordedEvent } from '../../../src/event-store/event-store.js';
import { type DecisionPorts, Decisions, type SendOrder } from '../../../src/sagas/decisions.js';
import { ProcessTable } from '../../../src/sagas/process-table.js';
import { at, DELIVERY, requested } from '../../support/deliveries.js';

const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
const expire = { type: 'Expire', now: at(1) } as const;

const yes = () => true;

function decisions(
  order: SendOrder,
  {
    signal = new AbortController().signal,
    isOurs = yes,
    mayStore = yes,
    readStream = async () => [],
  }: Partial<DecisionPorts> = {},
) {
  const process = new ProcessTable().add(DELIVERY, false);
  const event = requested();
  new ProcessTable().fold(process, event, 0);
  return new Decisions({ order, readStream, processOf: async () => process, isOurs, mayStore, log: silent, signal });
}

it('a decision is stored once the log answers again, under the same command id', async () => {
  const ids: string[] = [];
  const order: SendOrder = async ({ envelope }) => {
    ids.push(envelope.commandId);
    if (ids.length < 3) throw new Error('the log does not answer');
    return { ok: true, state: { tag: 'absent' }, revision: 1, events: [], position: 7n };
  };
  expect(await decisions(order).store(DELIVERY, expire, 'same')).toBe(true);
  expect(ids).toEqual(['same', 'same', 'same']);
});

it('one that was stored although nothing was heard of it is known for what it is when it is refused', async () => {
  const [mine, anothers] = [newId(), newId()];
  let tries = 0;
  const order: SendOrder = async () => {
    if (++tries === 1) throw new Error('the answer was lost');
    return { ok: false, rejection: { code: 'CONFLICT', message: 'the attempt was begun' } };
  };
  const stream = [{ id: eventId(mine, 0), revision: 1 }] as unknown as RecordedEvent[];
  expect(await decisions(order, { readStream: async () => stream }).store(DELIVERY, expire, mine)).toBe(true);
  tries = 0;
  expect(await decisions(order, { readStream: async () => stream }).store(DELIVERY, expire, anothers)).toBe(false);
});

it('a shutdown does not wait for a log that never answers', async () => {
  const stop = new AbortController();
  let tries = 0;
  const order: SendOrder = async () => {
    if (++tries === 5) stop.abort();
    throw new Error('the log does not answer');
  };
  await expect(decisions(order, { signal: stop.signal }).store(DELIVERY, expire, 'id')).rejects.toThrow(
    'does not answer',
  );
  expect(tries).toBe(5);
});

it('what the delivery refuses is not tried again', async () => {
  let tries = 0;
  const order: SendOrder = async () => {
    tries++;
    return { ok: false, rejection: { code: 'CONFLICT', message: 'no' } };
  };
  expect(await decisions(order).store(DELIVERY, expire, 'id')).toBe(false);
  expect(tries).toBe(1);
});

it('while the lease is in doubt nothing is stored, and once it is another instance’s neither', async () => {
  let tries = 0;
  const order: SendOrder = async () => {
    tries++;
    return { ok: true, state: { tag: 'absent' }, revision: 1, events: [], position: 7n };
  };
  let asked = 0;
  expect(await decisions(order, { mayStore: () => ++asked > 2 }).store(DELIVERY, expire, 'id')).toBe(true);
  expect([asked, tries]).toEqual([3, 1]);
  let isOurs = true;
  const mayStore = () => {
    isOurs = false;
    return false;
  };
  expect(await decisions(order, { isOurs: () => isOurs, mayStore }).store(DELIVERY, expire, 'id')).toBe(false);
  expect(tries).toBe(1);
});
