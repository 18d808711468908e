import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import type { DeliveryRequested } from '../../src/domain/delivery-events.js';
import { EventCodec } from '../../src/event-store/codec.js';
import { ContentLost } from '../../src/event-store/event-store.js';
import { type DataKeys, SealedFields } from '../../src/event-store/sealed-fields.js';

/**
 * `sealed.json` has requests as they lie in somebody's log, one with all of its content, one with a part of it outside, and
 * their key. Rows are added, never changed: what they hold must be readable for ever.
 */
const { key, rows, contents } = JSON.parse(await readFile(new URL('sealed.json', import.meta.url), 'utf8'));
const own = { id: key.id, subject: 'person:jane', key: Buffer.from(key.key, 'base64') };
const keys: DataKeys = { ofSubject: () => own, byId: () => own, prepare: () => undefined, load: () => undefined };
const codec = new EventCodec(
  new SealedFields(keys, {
    check: async () => undefined,
    async *read({ hash }, _, { start, end }) {
      yield Buffer.from(contents[hash] ?? '', 'base64').subarray(start, end);
    },
    lost: (_, reason) => new ContentLost(reason),
  }),
);

it.each([
  ['all in the event', 0, undefined],
  ['its HTML outside the log', 1, `<p>${'Jane '.repeat(7_000)}</p>`],
  ['its HTML outside the log, in pieces', 2, `<p>${'Jane '.repeat(7_000)}</p>`],
] as const)('a sealed request with %s', async (_, row, html) => {
  const recorded = { ...rows[row], position: BigInt(rows[row].position) };
  const { data } = codec.decode<DeliveryRequested>(recorded).event;
  const whole = (await codec.complete(data, recorded.streamId)) ?? data;
  expect(whole.content).toEqual({ subject: 'Your biopsy', text: 'Dear Jane', ...(html && { html }) });
  expect(whole.personalization).toEqual({ name: 'Jane' });
  expect(whole.legs[0]?.routes[0]?.address).toBe('jane@example.com');
});
