import fc from 'fast-check';
import { v5, version } from 'uuid';
import { describe, expect, it } from 'vitest';
import { bulkItemKey, deliveryIdForKey, derivedId, eventId, newDeliveryId, newId } from '../../src/commands/ids.js';
import { isUuid } from '../../src/domain/vocabulary.js';
import { ORGANIZATION } from '../support/deliveries.js';

const OTHER_ORGANIZATION = 'b0000000-0000-4000-8000-00000000000b';
/** Any text that UTF-8 can carry. */
const name = fc.string({ unit: 'binary' });

describe('a derived id', () => {
  it('is what the uuid package says version 5 is', () => {
    fc.assert(
      fc.property(fc.uuid(), name, (namespace, each) => {
        expect(derivedId(namespace, each)).toBe(v5(each, namespace));
      }),
    );
  });

  it('is the example of RFC 9562, appendix A.4', () => {
    expect(derivedId('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'www.example.com')).toBe(
      '2ed6657d-e927-568b-95e1-2665a8aea6a2',
    );
  });
});

describe('the id of a new delivery', () => {
  it('is a UUID of version 8 whose partition is any and which lies beside those of its time', () => {
    const moments = fc.date({ min: new Date(0), max: new Date('2500-01-01'), noInvalidDate: true });
    fc.assert(
      fc.property(moments, moments, (one, other) => {
        const [first, second] = [newDeliveryId(one), newDeliveryId(other)];
        expect(isUuid(first)).toBe(true);
        expect(version(first)).toBe(8);
        expect(Number.parseInt(first.slice(1, 13).replace('-', ''), 16)).toBe(one.getTime());
        if (one < other) expect(first.slice(1) < second.slice(1)).toBe(true);
      }),
    );
  });

  it('is another one each time, in every partition', () => {
    const now = new Date();
    const ids = Array.from({ length: 10_000 }, () => newDeliveryId(now));
    expect(new Set(ids).size).toBe(10_000);
    expect(new Set(ids.map((id) => id[0])).size).toBe(16);
  });
});

describe('the id of a delivery with a key', () => {
  it('is the same for the same key, and of its own for every other key and organization', () => {
    fc.assert(
      fc.property(name, name, (key, other) => {
        expect(deliveryIdForKey(ORGANIZATION, key)).toBe(deliveryIdForKey(ORGANIZATION, key));
        expect(deliveryIdForKey(ORGANIZATION, key)).not.toBe(deliveryIdForKey(OTHER_ORGANIZATION, key));
        if (key !== other) expect(deliveryIdForKey(ORGANIZATION, key)).not.toBe(deliveryIdForKey(ORGANIZATION, other));
      }),
    );
  });

  // The id is in every link and log line of a delivery that was ever made with a key: it must never change.
  it('is the one that it has always been', () => {
    expect(deliveryIdForKey(ORGANIZATION, 'invoice-7')).toBe('6eff4fb1-f5bd-5eb6-a6a8-4b677569643e');
  });

  it('is of its own for every item of every bulk', () => {
    const keys = ['a', 'a1', 'b'].flatMap((bulk) => [0, 1, 10, 11].map((index) => bulkItemKey(bulk, index)));
    expect(new Set([...keys, 'a', 'a1', 'a0', 'b'].map((key) => deliveryIdForKey(ORGANIZATION, key))).size).toBe(16);
  });
});

it('events of one command have ids of their own, the same whenever they are made', () => {
  const command = newId();
  const ids = [0, 1, 2, 10].map((index) => eventId(command, index));
  expect(new Set(ids).size).toBe(4);
  expect([0, 1, 2, 10].map((index) => eventId(command, index))).toEqual(ids);
});

it('new ids are told from what is none', () => {
  expect(isUuid(newId())).toBe(true);
  expect(isUuid(newId().toUpperCase())).toBe(true);
  for (const no of ['', 'x', `${newId()}0`, ` ${newId()}`, newId().replaceAll('-', ''), `${newId()}\n`])
    expect(isUuid(no)).toBe(false);
});
