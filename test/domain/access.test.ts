import { describe, expect, it } from 'vitest';
import {
  type AccessCommand,
  type AccessEvent,
  type AccessState,
  access,
  permissionsOf,
} from '../../src/domain/access.js';
import { specification } from '../support/given.js';

const given = specification<AccessState, AccessCommand, AccessEvent>(access);
const now = '2026-03-02T12:00:00.000Z';
const later = '2026-03-03T12:00:00.000Z';
const earlier = '2026-03-01T12:00:00.000Z';

const created = (data: object = {}): AccessEvent => ({
  type: 'ApiKeyCreated',
  at: earlier,
  data: { keyId: 'k1', name: 'billing', roles: ['sender'], hash: 'h1', by: 'admin', ...data },
});
const create = (data: object = {}): AccessCommand => ({
  ...{ type: 'CreateApiKey', now, keyId: 'k1', name: 'billing', roles: ['sender'], hash: 'h1', by: 'admin' },
  ...data,
});
const rotate: AccessCommand = { type: 'RotateApiKey', now, keyId: 'k1', hash: 'h2', previousUntil: later };
const nights: AccessEvent = {
  type: 'RoleDefined',
  at: earlier,
  data: { role: 'nights', permissions: ['VIEW_DELIVERY'] },
};

describe('a key', () => {
  it('is created with roles that exist, of the house or the organization’s own', () => {
    given()
      .when(create())
      .then({ ...created(), at: now } as AccessEvent);
    given(nights)
      .when(create({ roles: ['nights', 'sender'] }))
      .then({ ...created({ roles: ['nights', 'sender'] }), at: now } as AccessEvent);
    given()
      .when(create({ roles: ['nights'] }))
      .thenRejected('BAD_USER_INPUT', 'roles.0');
    given()
      .when(create({ roles: ['__proto__'] }))
      .thenRejected('BAD_USER_INPUT', 'roles.0');
    given()
      .when(create({ roles: [], name: ' ', expiresAt: earlier }))
      .thenRejected('BAD_USER_INPUT', 'name', 'roles', 'expiresAt');
    given(created()).when(create()).thenRejected('CONFLICT');
  });

  it('rotates: the new secret counts, the one before until the overlap ends, older ones no more', () => {
    const once = given(created()).when(rotate).state;
    expect(once.keys.get('k1')?.secrets).toEqual([{ hash: 'h2' }, { hash: 'h1', until: later }]);
    const twice = given(created(), {
      type: 'ApiKeyRotated',
      at: now,
      data: { keyId: 'k1', hash: 'h2', previousUntil: later },
    }).when({ ...rotate, hash: 'h3' }).state;
    expect(twice.keys.get('k1')?.secrets).toEqual([{ hash: 'h3' }, { hash: 'h2', until: later }]);
  });

  it('that is revoked, expired or unknown is not rotated; revoking again changes nothing', () => {
    const revoked: AccessEvent = { type: 'ApiKeyRevoked', at: now, data: { keyId: 'k1' } };
    given(created(), revoked).when(rotate).thenRejected('CONFLICT');
    given(created({ expiresAt: earlier }))
      .when(rotate)
      .thenRejected('CONFLICT');
    given().when(rotate).thenRejected('NOT_FOUND');
    given(created(), revoked).when({ type: 'RevokeApiKey', now, keyId: 'k1' }).thenNothing();
    expect(given(created(), revoked).state.keys.get('k1')?.secrets).toEqual([]);
  });
});

describe('a role', () => {
  it('is the organization’s own, and never one of the house', () => {
    given()
      .when({ type: 'DefineRole', now, role: 'admin', permissions: ['VIEW_DELIVERY'] })
      .thenRejected('BAD_USER_INPUT', 'name');
    given()
      .when({ type: 'DefineRole', now, role: 'Not one', permissions: [] })
      .thenRejected('BAD_USER_INPUT', 'name', 'permissions');
    given(nights)
      .when({ type: 'DefineRole', now, role: 'nights', permissions: ['VIEW_DELIVERY'] })
      .thenNothing();
  });

  it('that somebody has is not removed', () => {
    given(nights)
      .when({ type: 'RemoveRole', now, role: 'nights' })
      .then({ type: 'RoleRemoved', at: now, data: { role: 'nights' } });
    given(nights, created({ roles: ['nights'] }))
      .when({ type: 'RemoveRole', now, role: 'nights' })
      .thenRejected('CONFLICT');
    given().when({ type: 'RemoveRole', now, role: 'nights' }).thenRejected('NOT_FOUND');
  });

  it('allows what it allows today', () => {
    const { state } = given(nights, { type: 'RoleDefined', at: now, data: { role: 'nights', permissions: ['ADMIN'] } });
    expect([...permissionsOf(state, ['nights', 'analyst', 'gone', 'constructor'])]).toEqual([
      'ADMIN',
      'VIEW_ANALYTICS',
    ]);
  });
});

describe('roles of people', () => {
  const assign = (identity: string, roles: string[]): AccessCommand => ({ type: 'AssignRoles', now, identity, roles });
  it('are given to actors, not to e-mail addresses, and taken by an empty list', () => {
    given()
      .when(assign('corp:1', ['approver']))
      .then({ type: 'RolesAssigned', at: now, data: { identity: 'corp:1', roles: ['approver'] } });
    given()
      .when(assign('ada@example.com', ['approver']))
      .thenRejected('BAD_USER_INPUT', 'identity');
    given()
      .when(assign('corp:1\nadmin', ['approver']))
      .thenRejected('BAD_USER_INPUT', 'identity');
    given().when(assign('corp:1', [])).thenNothing();
    const assigned: AccessEvent = { type: 'RolesAssigned', at: now, data: { identity: 'corp:1', roles: ['approver'] } };
    expect(given(assigned).when(assign('corp:1', [])).state.assignments.size).toBe(0);
  });
});
