import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { CommandExecutor, type Order } from '../../../src/commands/executor.js';
import { newId } from '../../../src/commands/ids.js';
import { delivery } from '../../../src/domain/delivery.js';
import type { DeliveryCommand } from '../../../src/domain/delivery-commands.js';
import type { DeliveryState } from '../../../src/domain/delivery-state.js';
import { deliveryStatus } from '../../../src/domain/delivery-status.js';
import type { EventStore } from '../../../src/event-store/event-store.js';
import { type CommandSide, commandSide } from '../../support/commands.js';
import {
  accepted,
  at,
  byWebhook,
  confirmed,
  existing,
  ORGANIZATION,
  OTHER_DELIVERY,
  outcome,
  requested,
} from '../../support/deliveries.js';

let side: CommandSide;
beforeEach(async () => {
  side = await commandSide();
});
afterEach(() => side.close());

type DeliveryOrder = Order<DeliveryState, DeliveryCommand>;
const order = (id: string, command: DeliveryCommand, rest: Partial<DeliveryOrder> = {}): DeliveryOrder => ({
  id,
  command,
  envelope: { organizationId: ORGANIZATION, commandId: newId(), actor: 'ada' },
  ...rest,
});
const request = (id: string, data: Parameters<typeof requested>[0] = {}) =>
  order(id, { type: 'RequestDelivery', id, now: at(0), request: requested(data).data });
const approve = (id: string, approver: string) => order(id, { type: 'Approve', now: at(1), approver });
const execute = (each: DeliveryOrder, executor = side.executor) => executor.execute(delivery, each);

describe('an order', () => {
  it('is recorded with who, what and when, and answered with the state it leads to', async () => {
    const id = newId();
    const each = request(id);
    const result = await execute(each);
    expect(result).toMatchObject({ ok: true, revision: 0, position: 1n, events: [{ type: 'DeliveryRequested' }] });
    expect((await side.log.readStream(`delivery-${id}`))[0]).toMatchObject({
      type: 'DeliveryRequested',
      metadata: { organizationId: ORGANIZATION, commandId: each.envelope.commandId, actor: 'ada', occurredAt: at(0) },
    });
    const { state, revision } = await side.executor.load(delivery, id);
    expect(result).toMatchObject({ state, revision });
  });

  it('that leads to nothing is answered with the state as it is', async () => {
    const id = newId();
    await execute(request(id));
    const result = await execute(order(id, { type: 'ReachSchedule', now: at(1) }));
    expect(result).toMatchObject({ ok: true, revision: 0, events: [], position: undefined, state: { tag: 'active' } });
  });

  it('that is refused stores nothing', async () => {
    const result = await execute(order(newId(), { type: 'Cancel', now: at(1), by: 'ada' }));
    expect(result).toMatchObject({ ok: false, rejection: { code: 'NOT_FOUND' } });
    expect(await side.log.head()).toBe(0n);
  });
});

describe('when others are faster', () => {
  const approvers = ['ada', 'bob', 'cy', 'dee', 'eve'];

  it('decides again on what they have left, so that nothing is lost', async () => {
    const id = newId();
    await execute(request(id, { approval: { approvers, minimum: 5 } }));
    const results = await Promise.all(approvers.map((each) => execute(approve(id, each))));
    expect(results.every(({ ok }) => ok)).toBe(true);
    expect(deliveryStatus(existing((await side.executor.load(delivery, id)).state))).toBe('QUEUED');
    expect(await side.log.readStream(`delivery-${id}`)).toHaveLength(6);
  });

  it('one decision wins: approved, rejected and timed out at once', async () => {
    const id = newId();
    await execute(request(id, { approval: { approvers, minimum: 1, deadline: at(60) } }));
    const results = await Promise.all([
      execute(approve(id, 'ada')),
      execute(order(id, { type: 'Reject', now: at(1), approver: 'bob', reason: 'no' })),
      execute(order(id, { type: 'TimeOutApproval', now: at(60) })),
    ]);
    expect(results.filter((result) => result.ok && result.events.length > 0)).toHaveLength(1);
    expect(await side.log.readStream(`delivery-${id}`)).toHaveLength(2);
  });

  it('gives up when they never let it through', async () => {
    const id = newId();
    await execute(request(id));
    const append = async () => ({ ok: false, reason: 'wrong-revision', actual: 0 }) as const;
    const store: EventStore = Object.assign(Object.create(side.log), {
      append,
      readStream: side.log.readStream.bind(side.log),
    });
    const unlucky = new CommandExecutor(store, side.codec);
    await expect(execute(order(id, { type: 'Cancel', now: at(1), by: 'ada' }), unlucky)).rejects.toThrow('too often');
  });
});

describe('a state that is known', () => {
  it('spares reading the stream', async () => {
    const id = newId();
    const known = await execute(request(id));
    const readStream = vi.spyOn(side.log, 'readStream');
    const cancelled = await execute(order(id, { type: 'Cancel', now: at(1), by: 'ada' }, known.ok ? { known } : {}));
    expect(cancelled).toMatchObject({ ok: true, revision: 1 });
    expect(readStream).not.toHaveBeenCalled();
  });

  it.each<[string, DeliveryCommand, object]>([
    ['an answer of "no"', { type: 'Approve', now: at(1), approver: 'bob' }, { ok: true, revision: 2 }],
    ['an answer of "nothing to do"', { type: 'ReachSchedule', now: at(90) }, { ok: true, revision: 2 }],
    ['a decision', { type: 'Approve', now: at(1), approver: 'ada' }, { ok: true, revision: 1, events: [] }],
  ])('and is old does not decide: %s', async (what, command, expected) => {
    const id = newId();
    const before = await execute(
      request(id, { scheduledAt: at(60), approval: { approvers: ['ada', 'bob'], minimum: 2 } }),
    );
    if (!before.ok) throw new Error('not requested');
    await execute(approve(id, 'ada'));
    // What somebody would know who has an older version, or a wrong one.
    const empty = { state: { ...existing(before.state), tag: 'active' } as DeliveryState, revision: 0 };
    const known = what === 'a decision' ? before : empty;
    expect(await execute(order(id, command, { known }))).toMatchObject(expected);
  });

  it('may be that there is nothing yet, when there is', async () => {
    const id = newId();
    await execute(request(id));
    const absent = { state: delivery.initial, revision: undefined };
    const again = await execute({ ...request(id), known: absent });
    expect(again).toMatchObject({ ok: true, events: [], position: undefined, revision: 0 });
    const cancel = await execute(order(id, { type: 'Cancel', now: at(1), by: 'ada' }, { known: absent }));
    expect(cancel).toMatchObject({ ok: true, revision: 1 });
  });
});

describe('the same command again', () => {
  it('is stored once, though whoever sent it did not hear the answer', async () => {
    const id = newId();
    const known = await execute(request(id));
    if (!known.ok) throw new Error('not requested');
    const cancel = order(id, { type: 'Cancel', now: at(1), by: 'ada' }, { known });
    const first = await execute(cancel);
    const second = await execute(cancel);
    expect(second).toMatchObject({ ok: true, revision: 1, events: [] });
    expect(second.ok && first.ok && second.position).toBe(first.ok && first.position);
    expect(await side.log.readStream(`delivery-${id}`)).toHaveLength(2);
  });

  it('is answered with what is stored, not with what would be decided today', async () => {
    const id = newId();
    const known = await execute(request(id));
    if (!known.ok) throw new Error('not requested');
    // Two instances make the same attempt, and hear different things.
    const { envelope } = request(id);
    await execute({ id, envelope, known, command: outcome(byWebhook(1), confirmed) });
    const second = await execute({ id, envelope, known, command: outcome(byWebhook(1), accepted) });
    const stored = await side.executor.load(delivery, id);
    expect(second).toMatchObject({ ok: true, state: stored.state, revision: stored.revision });
  });
});

describe('many orders', () => {
  it('are answered in order, each by itself', async () => {
    const [one, two, three] = [newId(), newId(), newId()];
    await execute(request(two));
    const results = await side.executor.executeMany(delivery, [
      request(one),
      order(OTHER_DELIVERY, { type: 'Cancel', now: at(1), by: 'ada' }),
      order(two, { type: 'Cancel', now: at(1), by: 'ada' }),
      order(two, { type: 'ReachSchedule', now: at(1) }),
      request(three),
    ]);
    expect(results).toMatchObject([
      { ok: true, revision: 0 },
      { ok: false, rejection: { code: 'NOT_FOUND' } },
      { ok: true, revision: 1 },
      { ok: true, events: [] },
      { ok: true, revision: 0 },
    ]);
    expect(await side.executor.executeMany(delivery, [])).toEqual([]);
  });

  it('on the same stream follow each other', async () => {
    const id = newId();
    await execute(request(id, { approval: { approvers: ['ada', 'bob'], minimum: 2 } }));
    const results = await side.executor.executeMany(delivery, [approve(id, 'ada'), approve(id, 'bob')]);
    expect(results).toMatchObject([
      { ok: true, revision: 1 },
      { ok: true, revision: 2, state: { tag: 'active' } },
    ]);
  });
});
