import { describe, it } from 'vitest';
import { dataSubject } from '../../src/domain/data-subject.js';
import { specification } from '../support/given.js';

const given = specification(dataSubject);
const now = '2026-03-02T12:00:00.000Z';
const asked = { now, subject: 'person:jane', by: 'ada', reason: 'she asked for it' };
const data = { subject: 'person:jane', by: 'ada', reason: 'she asked for it' };
const erase = { type: 'Erase', organizationId: 'clinic', keys: ['k1', 'k2'], ...asked } as const;
const held = { type: 'LegalHoldPlaced', at: now, data } as const;
const released = { type: 'LegalHoldReleased', at: now, data } as const;
const erased = {
  type: 'SubjectErased',
  at: now,
  data: { organizationId: 'clinic', keys: ['k1', 'k2'], ...data },
} as const;

describe('a person', () => {
  it('is erased, with the keys that are to be destroyed', () => given().when(erase).then(erased));
  it('of whom nothing is held has nothing to erase', () =>
    given()
      .when({ ...erase, keys: [] })
      .thenNothing());
  it('may be erased again, when something new is held', () => given(erased).when(erase).then(erased));
  it('under a legal hold is not erased', () => given(held).when(erase).thenRejected('CONFLICT'));
  it('is erased after the hold is released', () => given(held, released).when(erase).then(erased));
});

describe('a legal hold', () => {
  it('is placed once', () => {
    given()
      .when({ type: 'PlaceLegalHold', ...asked })
      .then(held);
    given(erased)
      .when({ type: 'PlaceLegalHold', ...asked })
      .then(held);
    given(held)
      .when({ type: 'PlaceLegalHold', ...asked })
      .thenRejected('CONFLICT');
  });
  it('is released where there is one', () => {
    given(held)
      .when({ type: 'ReleaseLegalHold', ...asked })
      .then(released);
    given(erased, held)
      .when({ type: 'ReleaseLegalHold', ...asked })
      .then(released);
    given()
      .when({ type: 'ReleaseLegalHold', ...asked })
      .thenRejected('CONFLICT');
  });
});
