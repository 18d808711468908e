import { createHmac } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportSPKI, generateKeyPair, importJWK, SignJWT } from 'jose';
import { OAuth2Server } from 'oauth2-mock-server';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { access, isLive, permissionsOf } from '../../src/domain/access.js';
import { ApiKeys, type KnownAccess } from '../../src/security/api-keys.js';
import { AdminKey, Authenticator } from '../../src/security/authenticator.js';
import { type TokenIssuer, Tokens } from '../../src/security/tokens.js';

/** Tokens of a real issuer (oauth2-mock-server: discovery, JWKS, signatures), and what attackers make of them. */
let issuer: OAuth2Server;
let url: string;
let warnings: string[];
let known: KnownAccess;

beforeAll(async () => {
  issuer = new OAuth2Server();
  await issuer.issuer.keys.generate('RS256');
  await issuer.start(0, 'localhost');
  url = issuer.issuer.url as string;
});
afterAll(() => issuer?.stop());
beforeEach(() => {
  warnings = [];
  known = { state: access.initial, organizationId: undefined };
});

const settings = (more: Partial<TokenIssuer> = {}): TokenIssuer => ({
  name: 'corp',
  issuer: url,
  audience: ['waybill'],
  algorithms: ['RS256', 'ES256'],
  leewaySeconds: 30,
  claims: { actor: 'sub', organizations: 'organizations', roles: 'roles' },
  roles: {},
  installationAdmins: [],
  ...more,
});

function authenticator(more: Partial<TokenIssuer> = {}) {
  const accesses = { find: async () => known, peek: () => known };
  const tokens = new Tokens([settings(more)], {
    accesses,
    rules: { permissionsOf },
    streamOf: (id) => id,
    isOrganization: (text) => /^[\w.-]+$/.test(text),
    isIdentity: (text) => /^[\w.:|/+=-]+$/.test(text),
    warn: (message) => void warnings.push(message),
  });
  const schemes = [new ApiKeys(accesses, { permissionsOf, isLive }), new AdminKey('k'.repeat(40)), tokens];
  return new Authenticator(schemes, { maxFailures: 1_000, windowSeconds: 60 });
}

const nowSeconds = () => Math.floor(Date.now() / 1_000);
const claims = (more: object = {}) => ({
  ...{ iss: url, sub: '8f14e45f', aud: 'waybill', exp: nowSeconds() + 300 },
  ...{ organizations: ['ward', 'clinic'], roles: ['auditor'] },
  ...more,
});
/** As the issuer signs it. */
const token = (more: object = {}) =>
  issuer.issuer.buildToken({
    scopesOrTransform: (_, payload) => {
      for (const name of Object.keys(payload)) delete (payload as Record<string, unknown>)[name];
      Object.assign(payload, claims(more));
    },
  });

async function who(given: string, more: Partial<TokenIssuer> = {}, by = authenticator(more)) {
  const verdict = await by.authenticate(`Bearer ${given}`, '192.0.2.1');
  if (!verdict.ok) return verdict.reason;
  const { actor, organizations, isInstallationAdmin, grants } = verdict.session.principal;
  return { actor, organizations, isInstallationAdmin, permissions: [...grants.keys()] };
}

describe('a token', () => {
  it('stands for a person, their organizations and roles', async () => {
    expect(await who(await token())).toEqual({
      actor: 'corp:8f14e45f',
      organizations: ['ward', 'clinic'],
      isInstallationAdmin: false,
      permissions: ['VIEW_DELIVERY', 'VIEW_ANALYTICS', 'VIEW_AUDIT'],
    });
  });

  it('gives roles by organization, by a path, by names of its own, or in one organization for all', async () => {
    const byOrganization = await token({ organizations: { ward: ['sender'], clinic: ['analyst'] }, roles: [] });
    const verdict = await authenticator().authenticate(`Bearer ${byOrganization}`, '');
    if (!verdict.ok) throw new Error(verdict.reason);
    expect(Object.fromEntries(verdict.session.principal.grants)).toEqual({
      CREATE_DELIVERY: ['ward'],
      VIEW_DELIVERY: ['ward'],
      VIEW_ANALYTICS: ['clinic'],
    });
    const nested = await token({ roles: undefined, realm_access: { roles: ['wb-figures', 'admin'] } });
    const theirs = {
      claims: { actor: 'sub', organizations: 'organizations', roles: 'realm_access.roles' },
      roles: { 'wb-figures': ['analyst'] },
      organization: 'ward',
    };
    expect(await who(nested, theirs)).toMatchObject({ organizations: ['ward'], permissions: ['VIEW_ANALYTICS'] });
  });

  it('adds the roles the organization has assigned, as they are now', async () => {
    const by = authenticator();
    const given = await token({ organizations: ['ward'], roles: [] });
    expect(await who(given, {}, by)).toMatchObject({ permissions: [] });
    const assigned = { identity: 'corp:8f14e45f', roles: ['approver'] };
    const state = access.evolve(access.initial, { type: 'RolesAssigned', at: '', data: assigned });
    known = { state, organizationId: 'ward' };
    expect(await who(given, {}, by)).toMatchObject({ permissions: ['VIEW_DELIVERY', 'APPROVE_DELIVERY'] });
  });

  it('makes an administrator of the installation only by a role that is named for it', async () => {
    expect(await who(await token({ roles: ['admin'] }))).toMatchObject({ isInstallationAdmin: false });
    const chief = { installationAdmins: ['waybill-chief'] };
    expect(await who(await token({ roles: ['waybill-chief'] }), chief)).toMatchObject({
      organizations: 'all',
      isInstallationAdmin: true,
    });
  });

  it('whose subject is an e-mail address, missing or garbled is refused, and the operator is told why', async () => {
    for (const sub of ['ada@example.com', undefined, 7, 'admin\nadmin'])
      expect(await who(await token({ sub }))).toBe('credentials');
    expect(warnings[0]).toContain('the claim "sub" is no opaque identity');
    expect(warnings.join()).not.toContain('ada@');
  });

  it('of a key that the issuer has begun to use since is verified, by keys read once more', async () => {
    const by = authenticator({ keysCooldownMs: 0 });
    expect(await who(await token(), {}, by)).toMatchObject({ actor: 'corp:8f14e45f' });
    const { kid } = await issuer.issuer.keys.generate('ES256');
    const next = await issuer.issuer.buildToken({
      kid,
      scopesOrTransform: (_, payload) => void Object.assign(payload, claims({ sub: 'later' })),
    });
    expect(await who(next, {}, by)).toMatchObject({ actor: 'corp:later' });
  });
});

describe('refused:', () => {
  it.each<[string, () => object, string]>([
    ['expired', () => ({ exp: nowSeconds() - 31 }), 'expired'],
    ['without an end', () => ({ exp: undefined }), 'credentials'],
    ['not valid yet', () => ({ nbf: nowSeconds() + 60 }), 'credentials'],
    ['for somebody else', () => ({ aud: 'another-service' }), 'credentials'],
    ['for nobody', () => ({ aud: undefined }), 'credentials'],
    ['of another issuer', () => ({ iss: 'https://evil.example' }), 'credentials'],
  ])('a token %s', async (_, more, reason) => {
    expect(await who(await token(more()))).toBe(reason);
  });

  it('is lenient by the leeway only', async () => {
    expect(await who(await token({ exp: nowSeconds() - 20 }))).toMatchObject({ actor: 'corp:8f14e45f' });
  });

  const encoded = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url');

  it.each(['none', 'None', 'nOnE'])('the algorithm "%s"', async (alg) => {
    expect(await who(`${encoded({ alg, typ: 'JWT' })}.${encoded(claims())}.`)).toBe('credentials');
    expect(await who(`${encoded({ alg, typ: 'JWT' })}.${encoded(claims())}.c2ln`)).toBe('credentials');
  });

  it('key confusion: the public key taken for a shared secret', async () => {
    const jwk = issuer.issuer.keys.toJSON().find(({ kty }) => kty === 'RSA');
    if (!jwk) throw new Error('the issuer has no key');
    const pem = await exportSPKI((await importJWK(jwk, 'RS256', { extractable: true })) as never);
    for (const secret of [pem, pem.trim(), JSON.stringify(jwk)]) {
      const signed = `${encoded({ alg: 'HS256', kid: jwk.kid })}.${encoded(claims())}`;
      const mac = createHmac('sha256', secret).update(signed).digest('base64url');
      expect(await who(`${signed}.${mac}`)).toBe('credentials');
    }
  });

  it('a key that the token brings along, or says where to find', async () => {
    let asked = 0;
    const server: Server = createServer((_, response) => {
      asked++;
      response.end('{"keys":[]}');
    }).listen(0);
    const port = (server.address() as AddressInfo).port;
    const { privateKey, publicKey } = await generateKeyPair('RS256', { extractable: true });
    const jwk = { kty: 'RSA', ...(await import('jose').then(({ exportJWK }) => exportJWK(publicKey))) };
    const [real] = issuer.issuer.keys.toJSON();
    for (const header of [
      { jwk },
      { jku: `http://127.0.0.1:${port}/keys` },
      { x5u: `http://127.0.0.1:${port}/cert` },
      { kid: real?.kid ?? '' },
      { kid: '../../../dev/null' },
    ]) {
      const forged = await new SignJWT(claims()).setProtectedHeader({ alg: 'RS256', ...header }).sign(privateKey);
      expect(await who(forged)).toBe('credentials');
    }
    expect(asked).toBe(0);
    server.close();
  });

  it('one bit changed', async () => {
    const good = await token();
    const [header, payload, signature = ''] = good.split('.');
    expect(await who(`${header}.${encoded(claims({ roles: ['admin'] }))}.${signature}`)).toBe('credentials');
    const flipped = Buffer.from(signature, 'base64url');
    flipped[7] = (flipped[7] as number) ^ 1;
    expect(await who(`${header}.${payload}.${flipped.toString('base64url')}`)).toBe('credentials');
  });

  it('everything, while the issuer cannot be asked: as unavailable, not as wrong', async () => {
    const dead = new OAuth2Server();
    await dead.issuer.keys.generate('RS256');
    await dead.start(0, 'localhost');
    const deadUrl = dead.issuer.url as string;
    await dead.stop();
    const given = await token({ iss: deadUrl });
    const by = authenticator({ issuer: deadUrl });
    expect(await who(given, {}, by)).toBe('unavailable');
    expect(await who(given, {}, by)).toBe('unavailable');
    expect(warnings).toHaveLength(1);
  });

  it('an issuer whose discovery document is another’s', async () => {
    expect(await who(await token({ iss: `${url}/` }), { issuer: `${url}/` })).toBe('unavailable');
    expect(warnings).toEqual([expect.stringContaining('that of another issuer')]);
  });
});
