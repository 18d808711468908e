import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type AccessEvent, access, isLive, permissionsOf } from '../../src/domain/access.js';
import { newApiKey } from '../../src/security/api-key.js';
import { ApiKeys, type KnownAccess } from '../../src/security/api-keys.js';
import { AdminKey, Authenticator } from '../../src/security/authenticator.js';
import type { Principal } from '../../src/security/principal.js';

const ADMIN_KEY = 'an-administrators-key-of-many-letters';
const IP = '192.0.2.1';

/** One organization, its keys, and a clock. */
function world() {
  const streamId = randomUUID();
  let known: KnownAccess = { state: access.initial, organizationId: undefined };
  let looks = 0;
  const clock = { now: Date.parse('2026-03-02T12:00:00.000Z') };
  const at = (ms = 0) => new Date(clock.now + ms).toISOString();
  const record = (event: AccessEvent) => {
    known = { state: access.evolve(known.state, event), organizationId: 'hospital' };
  };
  const accesses = {
    async find(id: string) {
      looks++;
      return id === streamId ? known : { state: access.initial, organizationId: undefined };
    },
    peek: (id: string) => (id === streamId ? known : undefined),
  };
  const keys = new ApiKeys(accesses, { permissionsOf, isLive }, () => clock.now);
  const authenticator = new Authenticator([keys, new AdminKey(ADMIN_KEY)], { maxFailures: 3, windowSeconds: 60 });
  const create = (more: object = {}) => {
    const key = newApiKey({ streamId });
    const data = { keyId: key.keyId, name: 'x', roles: ['sender'], hash: key.hash, by: 'admin', ...more };
    record({ type: 'ApiKeyCreated', at: at(), data });
    return key;
  };
  const ask = async (token: string | undefined, ip = IP) =>
    authenticator.authenticate(token === undefined ? undefined : `Bearer ${token}`, ip);
  const who = async (token: string, ip = IP) => {
    const verdict = await ask(token, ip);
    return verdict.ok ? verdict.session.principal : verdict.reason;
  };
  return { create, record, ask, who, clock, at, streamId, looks: () => looks };
}

const permissions = (principal: Principal | string) =>
  typeof principal === 'string' ? principal : [...principal.grants.keys()];

describe('an API key', () => {
  it('stands for its organization and roles, and is looked up once', async () => {
    const { create, who, looks } = world();
    const { text, id } = create();
    const principal = await who(text);
    expect(principal).toMatchObject({ actor: `key:${id}`, organizations: ['hospital'], isInstallationAdmin: false });
    expect(permissions(principal)).toEqual(['CREATE_DELIVERY', 'VIEW_DELIVERY']);
    expect(await who(text)).toBe(principal);
    expect(looks()).toBe(1);
  });

  it('of the same id with another secret is refused', async () => {
    const { create, who } = world();
    const { id } = create();
    expect(await who(newApiKey({ id }).text)).toBe('credentials');
  });

  it('that is revoked is refused at once, also where it was remembered', async () => {
    const { create, who, record, at } = world();
    const { text, keyId } = create();
    expect(await who(text)).toMatchObject({ organizations: ['hospital'] });
    record({ type: 'ApiKeyRevoked', at: at(), data: { keyId } });
    expect(await who(text)).toBe('credentials');
  });

  it('expires', async () => {
    const { create, who, at, clock } = world();
    const { text } = create({ expiresAt: at(60_000) });
    expect(await who(text)).toMatchObject({ organizations: ['hospital'] });
    clock.now += 60_000;
    expect(await who(text)).toBe('credentials');
  });

  it('rotates with overlap', async () => {
    const { create, who, record, at, clock } = world();
    const old = create();
    await who(old.text);
    const next = newApiKey({ id: old.id });
    record({ type: 'ApiKeyRotated', at: at(), data: { keyId: old.keyId, hash: next.hash, previousUntil: at(1_000) } });
    expect(await who(old.text)).toMatchObject({ actor: `key:${old.id}` });
    expect(await who(next.text)).toMatchObject({ actor: `key:${old.id}` });
    clock.now += 1_000;
    expect(await who(old.text)).toBe('credentials');
    expect(await who(next.text)).toMatchObject({ actor: `key:${old.id}` });
  });

  it('gets what its role allows now, not what it allowed when it was first seen', async () => {
    const { create, who, record, at } = world();
    record({ type: 'RoleDefined', at: at(), data: { role: 'own', permissions: ['VIEW_DELIVERY'] } });
    const { text } = create({ roles: ['own'] });
    await who(text);
    record({ type: 'RoleDefined', at: at(), data: { role: 'own', permissions: ['VIEW_ANALYTICS'] } });
    expect(permissions(await who(text))).toEqual(['VIEW_ANALYTICS']);
  });
});

describe('guessing', () => {
  it('is slowed: the address is not listened to, right or wrong; others are', async () => {
    const { create, who, ask } = world();
    const { text } = create();
    for (let n = 0; n < 3; n++) expect(await who(`guess-${n}`)).toBe('credentials');
    expect(await ask(ADMIN_KEY)).toMatchObject({ ok: false, reason: 'blocked', retryAfterSeconds: expect.any(Number) });
    expect(await who(text)).toBe('blocked');
    expect(await who(ADMIN_KEY, '192.0.2.2')).toMatchObject({ actor: 'admin' });
  });

  it('does not keep out who was let in before', async () => {
    const { create, who } = world();
    const { text } = create();
    await who(text);
    for (let n = 0; n < 5; n++) await who(`guess-${n}`);
    expect(await who(text)).toMatchObject({ organizations: ['hospital'] });
  });

  it('from many addresses of one IPv6 network counts as one', async () => {
    const { who } = world();
    for (let n = 0; n < 3; n++) await who('guess', `2001:db8:1:2::${n}`);
    expect(await who('guess', '2001:db8:1:2:ffff::1')).toBe('blocked');
    expect(await who('guess', '2001:db8:1:3::1')).toBe('credentials');
    for (let n = 0; n < 3; n++) await who('guess', `::ffff:198.51.100.7`);
    expect(await who('guess', '198.51.100.7')).toBe('blocked');
  });

  it('without credentials, or with absurdly long ones, is no guess', async () => {
    const { ask, who } = world();
    for (let n = 0; n < 9; n++) await ask(undefined);
    for (let n = 0; n < 9; n++) expect(await who('x'.repeat(20_000))).toBe('credentials');
    expect(await who(ADMIN_KEY)).toMatchObject({ actor: 'admin' });
  });
});
