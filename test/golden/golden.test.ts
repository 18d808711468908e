import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import type { DeliveryEvent } from '../../src/domain/delivery-events.js';
import { absent, evolve } from '../../src/domain/delivery-state.js';
import { deliveryStatus } from '../../src/domain/delivery-status.js';
import { type DestinationEvent, destination } from '../../src/domain/destination.js';
import { type DomainEvent, EventCodec, eventVersions } from '../../src/event-store/codec.js';
import type { RecordedEvent } from '../../src/event-store/event-store.js';
import { existing } from '../support/deliveries.js';

/**
 * `events.json` has every version of every event that was ever recorded, as it lies in somebody's log. Rows are added,
 * never changed and never removed: what they hold must be readable forever.
 */
const rows = JSON.parse(await readFile(new URL('events.json', import.meta.url), 'utf8')) as (Omit<
  RecordedEvent,
  'position'
> & { readonly position: string })[];
const recorded: RecordedEvent[] = rows.map((row) => ({ ...row, position: BigInt(row.position) }));
const codec = new EventCodec();

it('there is a row for every version of every type in the codec’s table', () => {
  expect(eventVersions.size).toBeGreaterThanOrEqual(26);
  const wanted = [...eventVersions].flatMap(([type, version]) =>
    Array.from({ length: version }, (_, index) => `${type} version ${index + 1}`),
  );
  const there = new Set(recorded.map(({ type, metadata }) => `${type} version ${metadata.schemaVersion}`));
  expect([...there].sort()).toEqual(wanted.sort());
});

it.each(recorded)('row $position: $type version $metadata.schemaVersion is understood', (row) => {
  const { event, organizationId } = codec.decode(row);
  expect(event).toMatchObject({ type: row.type, at: row.metadata.occurredAt });
  expect(organizationId).toBe(row.metadata.organizationId);
});

const stream = <Event extends DomainEvent>(id: string): Event[] =>
  recorded.filter(({ streamId }) => streamId === id).map((row) => codec.decode<Event>(row).event);

describe('the rows of one stream fold to what they always meant', () => {
  it.each([
    ['d0000000-0000-4000-8000-000000000001', 'DELIVERED'],
    ['d0000000-0000-4000-8000-000000000003', 'FAILED'],
    ['d0000000-0000-4000-8000-000000000004', 'CANCELLED'],
    ['d0000000-0000-4000-8000-000000000005', 'REJECTED'],
    ['d0000000-0000-4000-8000-000000000006', 'REJECTED'],
    ['d0000000-0000-4000-8000-000000000007', 'EXPIRED'],
    ['d0000000-0000-4000-8000-000000000009', 'SENT'],
    ['d0000000-0000-4000-8000-000000000010', 'SENT'],
    ['d0000000-0000-4000-8000-000000000011', 'DELIVERED'],
  ])('delivery %s: %s', (id, status) => {
    const state = existing(stream<DeliveryEvent>(`delivery-${id}`).reduce(evolve, absent));
    expect(deliveryStatus(state)).toBe(status);
  });

  it('the delivery with the longest story: five attempts in two rounds, the last on its first route', () => {
    const state = stream<DeliveryEvent>('delivery-d0000000-0000-4000-8000-000000000001').reduce(evolve, absent);
    expect(existing(state).legs).toMatchObject([{ attempts: 5, route: 0, round: 1, progress: { tag: 'delivered' } }]);
  });

  it('the destination: changed, with a new secret, then deleted', () => {
    const events = stream<DestinationEvent>('destination-e0000000-0000-4000-8000-000000000001');
    expect(events.reduce(destination.evolve, destination.initial)).toMatchObject({
      tag: 'deleted',
      definition: { label: 'Billing (new)', isDefault: false, secrets: { 'webhook/secret': 'whsec_dHdv' } },
    });
  });
});
