import { randomUUID } from 'node:crypto';
import type { JsonObject } from '../../src/domain/vocabulary.js';
import type { NewEvent } from '../../src/event-store/event-store.js';

const BYTES = 500;

/** Events are made of few contents: what is measured is the log, not the making and collecting of its input. */
const contents = Array.from({ length: 256 }, () => {
  const some = { deliveryId: randomUUID(), leg: 1, channel: 'WEBHOOK', tags: ['a', 'b'], text: '' };
  const data: JsonObject = { ...some, text: 'x'.repeat(BYTES - JSON.stringify(some).length) };
  const metadata = {
    schemaVersion: '1',
    organizationId: 'hospital-001',
    commandId: randomUUID(),
    actor: 'bench',
    occurredAt: '2026-03-01T00:00:00.000Z',
  };
  return { type: 'DeliveryRequested', data, metadata };
});

/** Events as Waybill records them: 500 bytes of JSON, and metadata about who and what they came from. */
export const newEvents = (count: number): NewEvent[] =>
  Array.from({ length: count }, (_, index) => {
    const { type, data, metadata } = contents[index % contents.length] as (typeof contents)[number];
    return { id: randomUUID(), type, data, metadata };
  });

export const newStream = (): string => `delivery-${randomUUID()}`;
