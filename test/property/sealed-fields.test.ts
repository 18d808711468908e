import { describe, expect, it } from 'vitest';
import type { DeliveryRequested } from '../../src/domain/delivery-events.js';
import { FORGOTTEN } from '../../src/domain/retention.js';
import { EventCodec, subjectsOf } from '../../src/event-store/codec.js';
import { decodeRecord, encodeRecord } from '../../src/event-store/embedded-record.js';
import type { RecordedEvent } from '../../src/event-store/event-store.js';
import { closedFields, SealedFields, SealedTokens } from '../../src/event-store/sealed-fields.js';
import { MemoryKeys } from '../support/keys.js';

const at = '2026-03-02T12:00:00.000Z';
const envelope = { organizationId: 'clinic', commandId: 'c', actor: 'ada' };
const EVENT = 'f0000000-0000-4000-8000-000000000001';

/** To Jane, by e-mail and else by text message, and to Joe. */
const requested: DeliveryRequested = {
  type: 'DeliveryRequested',
  at,
  data: {
    organizationId: 'clinic',
    subject: 'group:1',
    priority: 'HIGH',
    legs: [
      {
        leg: 1,
        recipients: 1,
        routes: [
          { channel: 'EMAIL', address: 'jane@example.com', subject: 'person:jane' },
          { channel: 'SMS', address: '+4915112345678', subject: 'person:jane-phone' },
        ],
      },
      { leg: 2, recipients: 1, routes: [{ channel: 'EMAIL', address: 'joe@example.com', subject: 'person:joe' }] },
    ],
    content: { subject: 'Your biopsy', text: 'Dear Jane' },
    personalization: { name: 'Jane Roe' },
    tags: ['lab'],
  },
};
const failed = {
  type: 'AttemptFailed',
  at,
  data: { leg: 1, failure: { category: 'PERMANENT', code: 'SMTP_550', message: 'no such user jane@example.com' } },
};
const created = {
  type: 'DestinationCreated',
  at,
  data: { label: 'x', type: 'EMAIL', config: { recipients: ['jane@example.com'] }, secrets: { pass: 'hunter2' } },
};
const PLANTED = ['jane', 'joe@', '4915112345678', 'Jane', 'biopsy', 'hunter2'];

function world() {
  const keys = new MemoryKeys();
  const codec = new EventCodec(new SealedFields(keys));
  /** Through the log and out of it, where nothing is remembered. */
  const stored = (event: { type: string; at: string; data: object }, id = EVENT, streamId = 'delivery-1') => {
    keys.prepare(subjectsOf([event], 'clinic', 'group:1'));
    const encoded = codec.encode(event, id, envelope, { streamId, subject: 'group:1' });
    return { encoded, recorded: decodeRecord(7, encodeRecord(streamId, 0, encoded, at)) };
  };
  return { keys, codec, stored };
}

describe('what is sensitive in an event', () => {
  it.each([requested, failed, created])('is not in the log, and comes out of it again: $type', (event) => {
    const { codec, stored } = world();
    const { encoded, recorded } = stored(event);
    const text = JSON.stringify({ ...recorded, position: '7' })
      .replaceAll('person:jane', '')
      .replaceAll('-phone', '');
    for (const planted of PLANTED) expect(text).not.toContain(planted);
    expect(codec.decode(recorded).event.data).toEqual(event.data);
    // What was sealed here is not decrypted here.
    expect(codec.decode({ ...recorded, data: encoded.data }).event.data).toBe(event.data);
  });

  it('is sealed anew each time, with one ciphertext for each whose key it is', () => {
    const { stored } = world();
    const [one, other] = [stored(requested), stored(requested)].map(
      ({ recorded }) => recorded.data.sealed as unknown as { key: string; value: string }[],
    );
    expect(one).toHaveLength(4);
    expect(one?.map(({ key }) => key)).toEqual(other?.map(({ key }) => key));
    expect(new Set([...(one ?? []), ...(other ?? [])].map(({ value }) => value)).size).toBe(8);
  });

  it('is bound to its event, its stream and its key: moved or changed it cannot be opened', () => {
    const { codec, stored } = world();
    const { recorded } = stored(requested);
    const elsewhere = stored(requested, 'f0000000-0000-4000-8000-000000000002').recorded;
    const [sealed = [], others = []] = [recorded, elsewhere].map(
      ({ data }) => data.sealed as unknown as { key: string; value: string }[],
    );
    const flipped = Buffer.from(sealed[0]?.value ?? '', 'base64');
    flipped[20] = (flipped[20] as number) ^ 1;
    const attempts: RecordedEvent[] = [
      { ...recorded, id: elsewhere.id },
      { ...recorded, streamId: 'delivery-2' },
      { ...recorded, data: { ...recorded.data, sealed: others as never } },
      { ...recorded, data: { ...recorded.data, sealed: [{ ...sealed[1], value: sealed[2]?.value }] as never } },
      {
        ...recorded,
        data: { ...recorded.data, sealed: [{ ...sealed[0], value: flipped.toString('base64') }] as never },
      },
      { ...recorded, data: { ...recorded.data, sealed: [{ ...sealed[0], value: 'AAAA' }] as never } },
    ];
    for (const attempt of attempts) expect(() => codec.decode(attempt)).toThrow('cannot be opened');
  });

  it('cannot be guessed at when its key is not at hand', () => {
    const { keys, codec, stored } = world();
    const { recorded } = stored(requested);
    keys.forgetAll();
    expect(() => codec.decode(recorded)).toThrow('is not at hand');
  });
});

describe('when a key is destroyed', () => {
  it('what was sealed with it reads [erased], also where it was just sealed, and the rest stays', () => {
    const { keys, codec, stored } = world();
    const { encoded, recorded } = stored(requested);
    keys.destroy('person:jane');
    keys.destroy('group:1');
    for (const data of [recorded.data, encoded.data]) {
      const { legs, content, personalization, erased, tags } = codec.decode({ ...recorded, data }).event
        .data as DeliveryRequested['data'];
      expect({ content, personalization, erased, tags }).toEqual({
        content: { text: '[erased]' },
        personalization: undefined,
        erased: true,
        tags: ['lab'],
      });
      expect(legs.flatMap(({ routes }) => routes.map(({ address }) => address))).toEqual([
        '[erased]',
        '+4915112345678',
        'joe@example.com',
      ]);
    }
  });

  it.each([
    [failed, { failure: { ...failed.data.failure, message: '[erased]' } }],
    [created, { config: {}, secrets: {} }],
  ])('so do the other events', (event, data) => {
    const { keys, codec, stored } = world();
    const { recorded } = stored(event);
    keys.destroy('group:1');
    expect(codec.decode(recorded).event.data).toMatchObject(data);
  });
});

describe('somebody who was erased', () => {
  it.each([
    [failed, { failure: { category: 'PERMANENT', code: 'SMTP_550', message: '[erased]' } }],
    [{ type: 'AttemptSucceeded', at, data: { leg: 1, warning: 'for jane@example.com' } }, { warning: '[erased]' }],
    [{ type: 'Bounced', at, data: failed.data }, { failure: { ...failed.data.failure, message: '[erased]' } }],
    [{ type: 'Opened', at, data: { leg: 1 } }, {}],
  ])('is not written of again: %o', (event, change) => {
    const { keys, codec } = world();
    expect(subjectsOf([event], 'clinic', FORGOTTEN)).toEqual([]);
    const encoded = codec.encode(event, EVENT, envelope, { streamId: 'delivery-1', subject: FORGOTTEN });
    expect(encoded.data).toEqual({ ...event.data, ...change });
    const recorded = decodeRecord(7, encodeRecord('delivery-1', 0, encoded, at));
    for (const each of [codec, new EventCodec(closedFields)])
      expect(each.decode(recorded).event.data).toEqual({ ...event.data, ...change });
    expect(keys.ofSubject(FORGOTTEN)).toBeUndefined();
  });
});

it('only what is sealed makes a key, and a person’s is known to be theirs', () => {
  const whose = 'kept:2026-11-22:standard:person:jane';
  expect(subjectsOf([{ type: 'Delivered', at, data: {} }], 'clinic', whose)).toEqual([]);
  const jane = { subject: whose, organizationId: 'clinic', members: ['person:jane'] };
  expect(subjectsOf([{ type: 'Delivered', at, data: {} }, failed], 'clinic', whose)).toEqual([jane]);
  expect(subjectsOf([failed], 'clinic', 'destination:d')).toEqual([
    { subject: 'destination:d', organizationId: 'clinic' },
  ]);
  const stored = { type: 'InboxMessageStored', at, data: { subject: 'person:jane', keptAs: whose, content: {} } };
  expect(subjectsOf([stored], 'clinic', 'organization:clinic')).toEqual([jane]);
});

describe('read models', () => {
  const closed = new EventCodec(closedFields);

  it('see no content, and of what may be asked for a token that opens only with the key', async () => {
    const { keys, stored } = world();
    const tokens = new SealedTokens(keys);
    const message = (closed.decode(stored(failed).recorded).event as typeof failed).data.failure.message;
    const config = (closed.decode(stored(created).recorded).event.data as typeof created.data & { config: object })
      .config as unknown as { sealed: string };
    for (const planted of PLANTED) expect(message + JSON.stringify(config)).not.toContain(planted);
    expect([tokens.isToken(message), tokens.isToken('no such user')]).toEqual([true, false]);
    expect(await tokens.open([message, config.sealed])).toEqual([
      { message: failed.data.failure.message },
      { config: created.data.config },
    ]);
    keys.destroy('group:1');
    expect(await tokens.open([message])).toEqual([undefined]);
  });

  it('see nothing of a request but its outline', () => {
    const { stored } = world();
    const { data } = closed.decode(stored(requested).recorded).event as DeliveryRequested;
    expect(data.content).toEqual({});
    expect(data.legs[1]).toEqual({
      leg: 2,
      recipients: 1,
      routes: [{ channel: 'EMAIL', subject: 'person:joe' }],
    });
  });
});
