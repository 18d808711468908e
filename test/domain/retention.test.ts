import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  classOf,
  keptSince,
  keptSubject,
  keptWith,
  personOf,
  type RetentionClass,
  retention,
} from '../../src/domain/retention.js';
import { specification } from '../support/given.js';

const given = specification(retention);
const at = '2026-03-02T12:00:00.000Z';
const set = (...classes: RetentionClass[]) =>
  ({ type: 'SetRetention', now: at, organizationId: 'clinic', classes, by: 'ada', reason: 'the law' }) as const;
const wasSet = (...classes: RetentionClass[]) =>
  ({ type: 'RetentionSet', at, data: { organizationId: 'clinic', classes, by: 'ada', reason: 'the law' } }) as const;
const standard = { name: 'standard', keep: 'P90D' };
const phi = { name: 'phi', keep: 'P6Y', tags: ['lab', 'xray'] };

describe('how long an organization keeps things', () => {
  it('is set class by class, and anew', () => {
    given().when(set(standard, phi)).then(wasSet(standard, phi));
    given(wasSet(standard))
      .when(set({ name: 'standard' }))
      .then(wasSet({ name: 'standard' }));
  });
  it('set to what it is already, nothing happens', () => given(wasSet(standard)).when(set(standard)).thenNothing());
  it('loses no class, as deliveries may be kept under it', () =>
    given(wasSet(standard, phi)).when(set(standard)).thenRejected('BAD_USER_INPUT', 'classes'));
  it.each([
    [{ name: 'PHI' }, 'classes.0.name'],
    [{ name: '' }, 'classes.0.name'],
    [{ name: 'a:b' }, 'classes.0.name'],
    [{ name: 'a', keep: '90' }, 'classes.0.keep'],
    [{ name: 'a', keep: 'P' }, 'classes.0.keep'],
    [{ name: 'a', keep: 'P0D' }, 'classes.0.keep'],
    [{ name: 'a', keep: 'PT5M' }, 'classes.0.keep'],
    [{ name: 'a', keep: '-P1D' }, 'classes.0.keep'],
    [{ name: 'a', keep: 'P101Y' }, 'classes.0.keep'],
  ])('%j is refused, naming %s', (one, path) => given().when(set(one)).thenRejected('BAD_USER_INPUT', path));
  it('a name or a tag twice is refused', () =>
    given()
      .when(set(phi, { name: 'phi' }, { name: 'b', tags: ['lab'] }))
      .thenRejected('BAD_USER_INPUT', 'classes.1.name', 'classes.2.tags.0'));
});

describe('the class of a delivery', () => {
  const state = { classes: [standard, phi] };
  it.each([
    [undefined, [], 'standard'],
    [undefined, ['mail'], 'standard'],
    [undefined, ['mail', 'xray'], 'phi'],
    ['standard', ['xray'], 'standard'],
    ['phi', [], 'phi'],
    ['nonsense', ['xray'], undefined],
  ])('named %s, tags %j: %s', (named, tags, expected) => expect(classOf(state, { named, tags })).toBe(expected));
  it('is the standard one where nothing was ever set', () =>
    expect(classOf(retention.initial, { named: 'standard', tags: ['a'] })).toBe('standard'));
});

describe('the time', () => {
  const now = new Date('2026-11-21T23:59:59.999Z');
  it.each([
    ['P90D', '2026-08-23'],
    ['P6Y', '2020-11-21'],
    ['P7Y', '2019-11-21'],
    ['P1Y2M3W4D', '2025-08-27'],
    ['P1D', '2026-11-20'],
  ])('kept %s on 2026-11-21: from %s on', (keep, since) => expect(keptSince(keep, now)).toBe(since));

  it('nothing is old enough before its time, and everything is within a week after it', () => {
    fc.assert(
      fc.property(
        fc.date({ min: new Date('2000-01-01'), max: new Date('2100-01-01'), noInvalidDate: true }),
        fc.integer({ min: 1, max: 3_000 }),
        fc.integer({ min: 0, max: 4_000 }),
        (requestedAt, days, later) => {
          const day = 86_400_000;
          const now = new Date(requestedAt.getTime() + later * day);
          const [, week = ''] = keptSubject('person:p', 'standard', requestedAt).split(':');
          const isOldEnough = week < (keptSince(`P${days}D`, now) as string);
          if (isOldEnough) expect(now.getTime() - requestedAt.getTime()).toBeGreaterThanOrEqual(days * day);
          if (later > days + 7) expect(isOldEnough).toBe(true);
          expect(new Date(week).getUTCDay()).toBe(0);
        },
      ),
    );
  });

  it('a person’s address goes with the delivery it is in; older deliveries had a key for ever', () => {
    const group = keptSubject('group:g', 'phi', new Date('2026-11-21T00:00:00Z'));
    expect(group).toBe('kept:2026-11-22:phi:group:g');
    expect(keptWith(group, 'person:p')).toBe('kept:2026-11-22:phi:person:p');
    expect(keptWith('group:g', 'person:p')).toBe('person:p');
    expect(['kept:2026-11-22:phi:person:p', 'person:p', group, 'destination:d'].map(personOf)).toEqual([
      'person:p',
      'person:p',
      undefined,
      undefined,
    ]);
  });
});
