import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { idOf, newApiKey, parseApiKey, placeOf, prefixOf } from '../../src/security/api-key.js';

it('a key says where it is recorded, and two are never alike', () => {
  fc.assert(
    fc.property(fc.uuid(), (streamId) => {
      const made = newApiKey({ streamId });
      const parsed = parseApiKey(made.text);
      expect(parsed).toEqual({ id: made.id, streamId, keyId: made.keyId, hash: made.hash });
      expect(idOf(streamId, made.keyId)).toBe(made.id);
      expect(made.text.startsWith(`${prefixOf(made.id)}_`)).toBe(true);
      expect(made.text).toMatch(/^wbl_[0-9A-Za-z]{31}_[0-9A-Za-z]{49}$/);
      const again = newApiKey({ id: made.id });
      expect(again.id).toBe(made.id);
      expect(again.hash).not.toBe(made.hash);
    }),
  );
});

it('one character changed, added or lost: no key', () => {
  const { text } = newApiKey({ streamId: randomUUID() });
  fc.assert(
    fc.property(fc.nat(text.length - 1), fc.constantFrom(...'0aZ_-'), (at, other) => {
      fc.pre(text[at] !== other);
      expect(parseApiKey(text.slice(0, at) + other + text.slice(at + 1))).toBeUndefined();
      expect(parseApiKey(text.slice(0, at) + other + text.slice(at))).toBeUndefined();
      expect(parseApiKey(text.slice(0, at) + text.slice(at + 1))).toBeUndefined();
    }),
  );
});

it('what is beyond a UUID is no place', () => {
  expect(placeOf('z'.repeat(31))).toBeUndefined();
  expect(placeOf('../../etc/passwd')).toBeUndefined();
});
