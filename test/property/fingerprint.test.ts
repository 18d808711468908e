import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RequestDeliveryInput } from '../../src/commands/delivery-input.js';
import { DestinationDirectory } from '../../src/commands/destination-directory.js';
import { CommandExecutor } from '../../src/commands/executor.js';
import { Intake } from '../../src/commands/intake.js';
import { retention } from '../../src/domain/retention.js';
import { type Json, PRIORITIES } from '../../src/domain/vocabulary.js';
import { EventCodec } from '../../src/event-store/codec.js';
import type { EventStore } from '../../src/event-store/event-store.js';
import { Subjects } from '../../src/security/subjects.js';
import { ada } from '../support/commands.js';
import { FakeCatalog } from '../support/fake-catalog.js';

/** Requests to bare addresses need no store. */
const noStore = {} as EventStore;
const intake = new Intake({
  catalog: new FakeCatalog(),
  directory: new DestinationDirectory(new CommandExecutor(noStore, new EventCodec())),
  reader: noStore,
  load: async () => ({ state: { tag: 'absent' }, revision: undefined }),
  defaults: async () => [],
  retention: async () => retention.initial,
  limits: { maxAttachmentBytes: 1_000 },
  subjects: new Subjects(Buffer.alloc(32, 1)),
});

async function prepared(input: RequestDeliveryInput) {
  const answer = await intake.prepare(input, ada, new Date(0));
  if (!answer.ok || !('order' in answer) || answer.order.command.type !== 'RequestDelivery')
    throw new Error(`refused: ${JSON.stringify(answer)}`);
  const { fingerprint, ...request } = answer.order.command.request;
  return { id: answer.order.id, fingerprint, recorded: JSON.parse(JSON.stringify(request)) as unknown };
}

const json = fc.jsonValue({ maxDepth: 3 }) as fc.Arbitrary<Json>;
const inputs: fc.Arbitrary<RequestDeliveryInput> = fc.record(
  {
    idempotencyKey: fc.constant('invoice-7'),
    to: fc.constant([{ channel: 'WEBHOOK' as const, address: 'https://a.example' }]),
    content: fc.record({ subject: fc.constantFrom('a', 'b'), data: json }, { requiredKeys: [] }),
    priority: fc.constantFrom(...PRIORITIES),
    tags: fc.array(fc.constantFrom('x', 'y'), { maxLength: 3 }),
    metadata: json,
    scheduledAt: fc.date({ min: new Date(0), max: new Date('2999-01-01'), noInvalidDate: true }),
    slaSeconds: fc.integer({ min: 1, max: 100 }),
  },
  { requiredKeys: ['idempotencyKey', 'to'] },
);

/** The same value with the keys of all its objects in another order. */
function reordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reordered);
  if (typeof value !== 'object' || value === null || value instanceof Date) return value;
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, inner]) => [key, reordered(inner)]),
  );
}

describe('the fingerprint of a request', () => {
  it('does not depend on the order of keys, nor on fields that are left empty', async () => {
    await fc.assert(
      fc.asyncProperty(inputs, async (input) => {
        const same = { approval: null, expiresAt: null, ...(reordered(input) as RequestDeliveryInput) };
        const [one, other] = [await prepared(input), await prepared(same)];
        expect([other.id, other.fingerprint]).toEqual([one.id, one.fingerprint]);
      }),
    );
  });

  it('differs where what would be recorded does', async () => {
    await fc.assert(
      fc.asyncProperty(inputs, inputs, async (input, otherInput) => {
        const [one, other] = [await prepared(input), await prepared(otherInput)];
        if (!isDeepStrictEqual(one.recorded, other.recorded)) expect(other.fingerprint).not.toBe(one.fingerprint);
        expect(other.id).toBe(one.id);
      }),
      { numRuns: 1_000 },
    );
  });
});
