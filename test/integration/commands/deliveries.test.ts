import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Accepted, DeliveryRequest } from '../../../src/commands/deliveries.js';
import type { RequestDeliveryInput } from '../../../src/commands/delivery-input.js';
import type { Refused } from '../../../src/commands/executor.js';
import { bulkItemKey, deliveryIdForKey, newId } from '../../../src/commands/ids.js';
import { delivery } from '../../../src/domain/delivery.js';
import { isUuid } from '../../../src/domain/vocabulary.js';
import {
  ada,
  type CommandSide,
  commandSide,
  good,
  mallory,
  mayAccess,
  refusal,
  toBilling,
} from '../../support/commands.js';
import { ORGANIZATION } from '../../support/deliveries.js';

let side: CommandSide;
beforeEach(async () => {
  side = await commandSide();
});
afterEach(() => side.close());

const asking = (input: RequestDeliveryInput = {}, requester = ada): DeliveryRequest => ({
  input: { ...toBilling, ...input },
  requester,
});
const request = (input?: RequestDeliveryInput, requester = ada) => side.deliveries.request(asking(input, requester));

async function requestMany(inputs: RequestDeliveryInput[], key?: string): Promise<Accepted[]> {
  const answers = await side.deliveries.requestMany(
    inputs.map((input) => asking(input)),
    key,
  );
  if (!Array.isArray(answers)) throw new Error(`refused: ${JSON.stringify(answers)}`);
  return answers.map((answer) => good<Accepted>(answer));
}
const refusedMany = async (inputs: RequestDeliveryInput[], key?: string) =>
  refusal(
    (await side.deliveries.requestMany(
      inputs.map((input) => asking(input)),
      key,
    )) as Refused,
  );
const expectNothingStored = async () => expect(await side.log.head()).toBe(0n);

describe('a request without a key', () => {
  it('is a delivery of its own each time', async () => {
    const [one, other] = [good(await request()), good(await request())];
    expect(one.id).not.toBe(other.id);
    expect([one.replayed, other.replayed]).toEqual([false, false]);
    expect(isUuid(one.id)).toBe(true);
  });
});

describe('a request with a key', () => {
  const input = { idempotencyKey: 'invoice-7' };

  it('that is repeated gets the first delivery, marked as replayed', async () => {
    const first = good(await request(input));
    const again = good(await request(input));
    expect(again).toMatchObject({ id: first.id, replayed: true, state: first.state, revision: 0 });
    expect(first).toMatchObject({ id: deliveryIdForKey(ORGANIZATION, 'invoice-7'), replayed: false });
    expect(await side.log.head()).toBe(1n);
  });

  it('is a conflict when it asks for something else', async () => {
    await request(input);
    expect(refusal(await request({ ...input, priority: 'HIGH' }))).toEqual({
      code: 'IDEMPOTENCY_CONFLICT',
      paths: ['idempotencyKey'],
    });
  });

  it.each<[string, RequestDeliveryInput, RequestDeliveryInput]>([
    ['the order of fields', { metadata: { a: 1, b: { c: 2, d: 3 } } }, { metadata: { b: { d: 3, c: 2 }, a: 1 } }],
    ['what is left empty', { tags: null, content: { data: 1, subject: null } }, { content: { data: 1 } }],
  ])('is the same request whatever %s', async (_, one, other) => {
    await request({ ...input, ...one });
    expect(good(await request({ ...input, ...other })).replayed).toBe(true);
  });

  it.each<[string, RequestDeliveryInput, RequestDeliveryInput]>([
    ['the order of a list', { tags: ['a', 'b'] }, { tags: ['b', 'a'] }],
    ['a null inside of data', { content: { data: { a: null } } }, { content: { data: {} } }],
    ['a time', { scheduledAt: new Date('2999-01-01') }, { scheduledAt: new Date('2999-01-02') }],
    ['the target', {}, { to: [{ channel: 'WEBHOOK', address: 'https://other.example' }] }],
  ])('is another request with another %s', async (_, one, other) => {
    await request({ ...input, ...one });
    expect(refusal(await request({ ...input, ...other })).code).toBe('IDEMPOTENCY_CONFLICT');
  });

  it('is another organization’s own', async () => {
    const mine = good(await request(input));
    const theirs = good(await request(input, mallory));
    expect(theirs.replayed).toBe(false);
    expect(theirs.id).not.toBe(mine.id);
  });

  it('is one delivery, though it comes fifty times at once', async () => {
    const answers = await Promise.all(Array.from({ length: 50 }, () => request(input)));
    const deliveries = answers.map((answer) => good(answer));
    expect(new Set(deliveries.map(({ id }) => id)).size).toBe(1);
    expect(deliveries.filter(({ replayed }) => !replayed)).toHaveLength(1);
    expect(await side.log.head()).toBe(1n);
  });

  it('is one delivery and conflicts for all others, though twenty different ones come at once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => request({ ...input, tags: [`${index}`] })),
    );
    expect(answers.filter(({ ok }) => ok)).toHaveLength(1);
    for (const answer of answers.filter(({ ok }) => !ok)) expect(refusal(answer).code).toBe('IDEMPOTENCY_CONFLICT');
    expect(await side.log.head()).toBe(1n);
  });

  it('gets its first answer also when its destination is gone since', async () => {
    const definition = {
      label: 'Billing',
      type: 'WEBHOOK',
      config: { webhook: { url: 'https://a.example' } },
    } as const;
    const { id } = good(await side.destinations.create(definition, ada));
    const keyed = { ...input, to: [{ destinationId: id }] };
    const first = good(await request(keyed));
    await side.destinations.delete(id, ada, mayAccess);
    expect(await request(keyed)).toMatchObject({ ok: true, id: first.id, replayed: true });
  });
});

describe('many requests at once', () => {
  it('are answered in order', async () => {
    const answers = await requestMany([{ tags: ['0'] }, { tags: ['1'] }, { tags: ['2'] }]);
    for (const [index, { id }] of answers.entries()) {
      const { state } = await side.executor.load(delivery, id);
      expect(state).toMatchObject({ request: { tags: [`${index}`] } });
    }
    expect(await requestMany([])).toEqual([]);
  });

  it('are all stored or none: every problem is named with its place', async () => {
    const inputs = [{}, { tags: [''] }, {}, { slaSeconds: 0 }, { scheduledAt: new Date(0) }];
    expect(await refusedMany(inputs, 'bulk')).toEqual({
      code: 'BAD_USER_INPUT',
      paths: ['inputs.1.tags.0', 'inputs.3.slaSeconds', 'inputs.4.scheduledAt'],
    });
    await expectNothingStored();
  });

  it('are refused as a conflict when a key stands for another request already', async () => {
    await request({ idempotencyKey: 'b' });
    const head = await side.log.head();
    expect(await refusedMany([{ idempotencyKey: 'a' }, { idempotencyKey: 'b', tags: ['x'] }])).toEqual({
      code: 'IDEMPOTENCY_CONFLICT',
      paths: ['inputs.1.idempotencyKey'],
    });
    expect(await side.log.head()).toBe(head);
  });

  it('are refused when one key stands on two different ones of them', async () => {
    const inputs = [{ idempotencyKey: 'a' }, { idempotencyKey: 'a', tags: ['x'] }];
    expect(await refusedMany(inputs)).toEqual({ code: 'BAD_USER_INPUT', paths: ['inputs.1.idempotencyKey'] });
    await expectNothingStored();
  });

  it('are one delivery where they are the same one', async () => {
    const [one, twin] = await requestMany([{ idempotencyKey: 'a' }, { idempotencyKey: 'a' }]);
    expect([one?.replayed, twin?.replayed]).toEqual([false, true]);
    expect(twin?.id).toBe(one?.id);
    expect(await side.log.head()).toBe(1n);
  });

  it('may depend on those before them, not on those after', async () => {
    const first = deliveryIdForKey(ORGANIZATION, 'first');
    const [, second] = await requestMany([{ idempotencyKey: 'first' }, { dependsOn: [first] }]);
    expect(second).toMatchObject({ state: { tag: 'held', holds: { dependencies: [first] } } });
    const later = deliveryIdForKey(ORGANIZATION, 'later');
    const inputs = [{ dependsOn: [later] }, { idempotencyKey: 'later' }];
    expect((await refusedMany(inputs)).paths).toEqual(['inputs.0.dependsOn.0']);
  });

  it('with a key are the same ones when repeated, also where only a part was stored', async () => {
    const inputs = [{ tags: ['0'] }, { tags: ['1'] }, { tags: ['2'], idempotencyKey: 'own' }];
    await request({ tags: ['2'], idempotencyKey: 'own' });
    const first = await requestMany(inputs, 'bulk');
    const again = await requestMany(inputs, 'bulk');
    expect(first.map(({ replayed }) => replayed)).toEqual([false, false, true]);
    expect(again.map(({ replayed }) => replayed)).toEqual([true, true, true]);
    expect(again.map(({ id }) => id)).toEqual(first.map(({ id }) => id));
    expect(first[1]?.id).toBe(deliveryIdForKey(ORGANIZATION, bulkItemKey('bulk', 1)));
    expect(await side.log.head()).toBe(3n);
  });

  it('with a key are a conflict when one of them changed', async () => {
    await requestMany([{ tags: ['0'] }, { tags: ['1'] }], 'bulk');
    expect(await refusedMany([{ tags: ['0'] }, { tags: ['x'] }], 'bulk')).toEqual({
      code: 'IDEMPOTENCY_CONFLICT',
      paths: ['inputs.1.idempotencyKey'],
    });
    expect(await side.log.head()).toBe(2n);
  });

  it('with a key are stored once, though they come ten times at once', async () => {
    const inputs = [{ tags: ['0'] }, { tags: ['1'] }, { tags: ['2'] }];
    const calls = await Promise.all(Array.from({ length: 10 }, () => requestMany(inputs, 'bulk')));
    expect(calls.flat().filter(({ replayed }) => !replayed)).toHaveLength(3);
    expect(await side.log.head()).toBe(3n);
  });

  it('keep their keys apart from those of single requests', async () => {
    await requestMany([{ tags: ['0'] }], 'bulk');
    expect((await request({ idempotencyKey: 'bulk\u00000', tags: ['0'] })).ok).toBe(false);
  });
});

describe('a change of a delivery', () => {
  const cancel = { type: 'Cancel', now: '2999-01-01T00:00:00.000Z', by: 'ada' } as const;

  it('is recorded with the delivery’s organization and correlation, whoever makes it', async () => {
    const { id } = good(await request({ correlationId: 'order-7' }));
    const changed = good(await side.deliveries.change(id, cancel, { actor: 'operator' }, mayAccess));
    expect(changed).toMatchObject({ id, revision: 1, state: { tag: 'ended', as: 'CANCELLED' } });
    expect(await side.log.readLast(`delivery-${id}`)).toMatchObject({
      metadata: { organizationId: ORGANIZATION, actor: 'operator', $correlationId: 'order-7' },
    });
  });

  it('is refused as that of an unknown one where the delivery is another organization’s', async () => {
    const { id } = good(await request({}, mallory));
    const foreign = await side.deliveries.change(id, cancel, ada, mayAccess);
    const unknown = await side.deliveries.change(newId(), cancel, ada, mayAccess);
    expect(foreign).toEqual(unknown);
    expect(refusal(foreign).code).toBe('NOT_FOUND');
  });

  it('takes account of what happened since it was looked up', async () => {
    const { id } = good(await request());
    side.before.orders = async () => {
      side.before.orders = async () => {};
      await side.deliveries.change(id, cancel, { actor: 'bob' }, mayAccess);
    };
    const late = good(await side.deliveries.change(id, cancel, ada, mayAccess));
    expect(late).toMatchObject({ events: [], revision: 1 });
  });
});
