import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { RequestDeliveryInput } from '../../../src/commands/delivery-input.js';
import { delivery } from '../../../src/domain/delivery.js';
import { deliveryStatus } from '../../../src/domain/delivery-status.js';
import { type Decoded, type DomainEvent, EventCodec, UndecodableEvent } from '../../../src/event-store/codec.js';
import type { RecordedEvent } from '../../../src/event-store/event-store.js';
import { ada, good, mayAccess, refusal } from '../../support/commands.js';
import { existing } from '../../support/deliveries.js';
import { newEvent } from '../../support/logs.js';
import { type TestDatabase } from '../../support/postgres.js';
import { type EngineWorld, engineDatabase, engineWorld } from './engine-world.js';

let database: TestDatabase;
let world: EngineWorld;
beforeAll(async () => {
  database = await engineDatabase();
});
afterAll(() => database.close());
beforeEach(async () => {
  world = await engineWorld(database);
});
afterEach(() => world.close());

const operator = { actor: 'admin', reason: 'looked at it' };
const wait = { timeout: 10_000, interval: 10 };
/** An approval by the requester: it does nothing until a test wants it to. */
const held = { approval: { approvers: ['ada'] } };

async function request(text: string, more: Partial<RequestDeliveryInput> = {}): Promise<string> {
  const to = [{ channel: 'WEBHOOK', address: 'https://receiver.example/' }] as const;
  return good(await world.deliveries.request({ input: { to, content: { text }, ...more }, requester: ada })).id;
}
const approve = (id: string) => {
  const now = new Date().toISOString();
  return world.deliveries.change(id, { type: 'Approve', now, approver: 'ada' }, ada, mayAccess);
};
async function poison(id: string, type = 'DeliveryTeleported'): Promise<RecordedEvent> {
  const newest = (await world.log.readLast(`delivery-${id}`)) as RecordedEvent;
  await world.log.append(newest.streamId, newest.revision, [{ ...newEvent(), type }]);
  return (await world.log.readLast(newest.streamId)) as RecordedEvent;
}
const statusOf = async (id: string) => deliveryStatus(existing((await world.executor.load(delivery, id)).state));
const isSuspended = async (id: string) => (await world.suspended.list.find(id)) !== undefined;
const typesOf = async (id: string) => (await world.log.readStream(`delivery-${id}`)).map(({ type }) => type);

/** A program as it was before it, or somebody, learned something. */
class OtherProgram extends EventCodec {
  isMended = false;
  readonly #isBeyondIt: (event: RecordedEvent) => boolean;

  constructor(isBeyondIt: (event: RecordedEvent) => boolean) {
    super();
    this.#isBeyondIt = isBeyondIt;
  }

  override decode<Event extends DomainEvent>(recorded: RecordedEvent): Decoded<Event> {
    if (!this.isMended && this.#isBeyondIt(recorded)) throw new UndecodableEvent(recorded, 'not yet known');
    return super.decode<Event>(recorded);
  }
}

describe('a delivery with an event that the program does not know', () => {
  it('is suspended, seen by operators, and keeps nobody else from going on', async () => {
    const bad = await request('bad', held);
    const event = await poison(bad);
    const engine = world.start();
    await expect.poll(() => isSuspended(bad), wait).toBe(true);
    const before = await request('good', held);
    await approve(before);
    await expect.poll(() => world.sent, wait).toEqual(['good']);
    expect(engine.status()).toMatchObject({ state: 'running', suspended: 1 });
    expect(await world.suspended.list.list(10, 'asc')).toEqual([
      {
        id: bad,
        organizationId: 'a',
        position: event.position,
        eventType: 'DeliveryTeleported',
        error: `unknown event type DeliveryTeleported at position ${event.position}`,
        attempts: 4,
        suspendedAt: expect.stringMatching(/Z$/),
      },
    ]);
    expect(await world.suspended.list.count()).toBe(1);
    // Nothing is decided on half a stream.
    await expect(approve(bad)).rejects.toThrow(UndecodableEvent);
  });

  it('is found by when it was suspended, from either end, page by page', async () => {
    await world.pool.query(
      `INSERT INTO engine_suspensions (delivery_id, partition, organization_id, position, event_type, error, attempts, suspended_at)
       SELECT gen_random_uuid(), 0, 'a', n, 'DeliveryTeleported', 'unknown', 4, now() + n / 3 * interval '1 second'
       FROM generate_series(1, 10) n`,
    );
    const { list } = world.suspended;
    const pages = async (direction: 'asc' | 'desc') => {
      const ids: string[] = [];
      for (let after: { at: string; id: string } | undefined; ; ) {
        const page = await list.list(3, direction, after);
        ids.push(...page.map(({ id }) => id));
        const last = page.at(-1);
        if (!last) return ids;
        after = { at: last.suspendedAt, id: last.id };
      }
    };
    const oldest = await pages('asc');
    expect(new Set(oldest).size).toBe(10);
    expect(await pages('desc')).toEqual(oldest.toReversed());
  });

  it('goes on without the event when an operator says so, and its history tells who and why', async () => {
    const bad = await request('bad', held);
    const event = await poison(bad);
    await poison(bad);
    const engine = world.start();
    await expect.poll(() => isSuspended(bad), wait).toBe(true);
    good((await world.suspended.skip(bad, operator)) as never);
    // There is another one.
    await expect
      .poll(async () => (await world.suspended.list.find(bad))?.position, wait)
      .toBeGreaterThan(event.position);
    good((await world.suspended.skip(bad, operator)) as never);
    await expect.poll(() => isSuspended(bad), wait).toBe(false);
    expect(engine.status().suspended).toBe(0);
    expect((await world.log.readLast(`delivery-${bad}`))?.data).toMatchObject({
      revision: 2,
      eventType: 'DeliveryTeleported',
      by: 'admin',
      reason: 'looked at it',
    });
    await approve(bad);
    await expect.poll(() => world.sent, wait).toEqual(['bad']);
    await expect.poll(() => statusOf(bad), wait).toBe('DELIVERED');
  });

  it('is tried again when an operator resumes it, with a program that knows the event', async () => {
    const program = new OtherProgram(({ type }) => type === 'ApprovalGranted');
    const id = await request('later', held);
    await approve(id);
    const engine = world.start({}, 'one', program);
    await expect.poll(() => isSuspended(id), wait).toBe(true);
    good((await world.suspended.resume(id, operator)) as never);
    await expect.poll(async () => (await world.suspended.list.find(id))?.attempts, wait).toBe(5);
    program.isMended = true;
    good((await world.suspended.resume(id, operator)) as never);
    await expect.poll(() => world.sent, wait).toEqual(['later']);
    await expect.poll(() => isSuspended(id), wait).toBe(false);
    expect(engine.status().suspended).toBe(0);
    expect(await typesOf(id)).toContain('ProcessResumed');
  });

  it('is tried again by the instance that takes it over', async () => {
    const id = await request('taken over', held);
    await approve(id);
    const before = world.start({}, 'one', new OtherProgram(({ type }) => type === 'ApprovalGranted'));
    await expect.poll(() => isSuspended(id), wait).toBe(true);
    await world.stop(before);
    world.start({}, 'other');
    await expect.poll(() => world.sent, wait).toEqual(['taken over']);
    await expect.poll(() => isSuspended(id), wait).toBe(false);
  });

  it('is tried again a few times by itself, and no trace is left when that is enough', async () => {
    let tries = 0;
    const program = new OtherProgram(({ type }) => type === 'ApprovalGranted' && tries++ < 2);
    const id = await request('soon', held);
    await approve(id);
    world.start({}, 'one', program);
    await expect.poll(() => world.sent, wait).toEqual(['soon']);
    const rows = async () => (await world.pool.query('SELECT 1 FROM engine_suspensions')).rows;
    await expect.poll(rows, wait).toEqual([]);
  });

  it('although it had ended, is seen too', async () => {
    const id = await request('done');
    world.start();
    await expect.poll(() => statusOf(id), wait).toBe('DELIVERED');
    await poison(id);
    await expect.poll(() => isSuspended(id), wait).toBe(true);
    good((await world.suspended.skip(id, operator)) as never);
    await expect.poll(() => isSuspended(id), wait).toBe(false);
    expect(world.sent).toEqual(['done']);
  });

  it('that belongs to another aggregate altogether, is suspended just so', async () => {
    const id = await request('mixed up', held);
    await poison(id, 'DestinationEnabled');
    world.start();
    await expect
      .poll(async () => (await world.suspended.list.find(id))?.error, wait)
      .toContain('not an event of deliveries');
  });

  it('comes back from the log when the tables of the engine are emptied', async () => {
    const id = await request('kept', held);
    await poison(id);
    const engine = world.start();
    await expect.poll(() => isSuspended(id), wait).toBe(true);
    await world.stop(engine);
    await world.pool.query('TRUNCATE engine_suspensions, engine_deliveries');
    world.start();
    await expect.poll(() => isSuspended(id), wait).toBe(true);
  });
});

describe('operators are told what they cannot do', () => {
  it('to a delivery that is not suspended, or not there', async () => {
    const id = await request('fine', held);
    const nobody = 'd0000000-0000-4000-8000-00000000dead';
    for (const how of ['resume', 'skip'] as const) {
      expect(refusal(await world.suspended[how](id, operator)).code).toBe('CONFLICT');
      expect(refusal(await world.suspended[how](nobody, operator)).code).toBe('NOT_FOUND');
    }
    expect(await typesOf(id)).toEqual(['DeliveryRequested']);
  });

  it('skip what is not the reason, or without which there is nothing', async () => {
    const program = new OtherProgram(({ type, revision }) => type === 'ApprovalGranted' || revision === 0);
    const id = await request('first', held);
    world.start({}, 'one', program);
    await expect.poll(() => isSuspended(id), wait).toBe(true);
    // Understood here.
    expect(refusal(await world.suspended.skip(id, operator)).code).toBe('CONFLICT');
    const newer = await world.log.append('delivery-e0000000-0000-4000-8000-000000000000', 'no-stream', [
      { ...newEvent(), type: 'DeliveryTeleported' },
    ]);
    expect(newer.ok).toBe(true);
    const strange = 'e0000000-0000-4000-8000-000000000000';
    await expect.poll(() => isSuspended(strange), wait).toBe(true);
    expect(refusal(await world.suspended.skip(strange, operator)).code).toBe('CONFLICT');
  });
});

it('a delivery whose state makes the process manager throw is suspended, and others go on', async () => {
  let isBroken = true;
  const program = new (class extends EventCodec {
    override decode<Event extends DomainEvent>(recorded: RecordedEvent): Decoded<Event> {
      const decoded = super.decode<Event>(recorded);
      const { data } = decoded.event as unknown as { data: { content?: { text?: string } } };
      if (data.content?.text !== 'defective') return decoded;
      Object.defineProperty(data, 'expiresAt', {
        configurable: true,
        get() {
          if (isBroken) throw new Error('a defect');
          return undefined;
        },
      });
      return decoded;
    }
  })();
  const id = await request('defective');
  await request('sound');
  world.start({}, 'one', program);
  await expect.poll(async () => (await world.suspended.list.find(id))?.error, wait).toBe('a defect');
  await expect.poll(() => world.sent, wait).toEqual(['sound']);
  isBroken = false;
  good((await world.suspended.resume(id, operator)) as never);
  await expect.poll(() => world.sent, wait).toEqual(['sound', 'defective']);
  await expect.poll(() => statusOf(id), wait).toBe('DELIVERED');
});

it('an outcome that comes while its delivery cannot be understood puts the attempt in doubt', async () => {
  let id = '';
  const about = { idempotency: 'none', inDoubt: 'hold' } as const;
  world.start({ about, send: async () => void (await poison(id)) });
  id = await request('cut off', held);
  await approve(id);
  await expect.poll(() => isSuspended(id), wait).toBe(true);
  good((await world.suspended.skip(id, operator)) as never);
  await expect.poll(() => statusOf(id).catch(() => undefined), wait).toBe('HELD');
  expect((await typesOf(id)).at(-1)).toBe('AttemptInDoubt');
  expect(world.sent).toEqual(['cut off']);
});
