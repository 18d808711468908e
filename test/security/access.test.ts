import { createClient } from 'graphql-ws';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import WebSocket from 'ws';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/** Keys and roles from outside: made, used, rotated, revoked, over HTTP and over sockets. */
let waybill: WaybillProcess;
beforeAll(async () => {
  waybill = await startWaybill({ env: { WAYBILL_LOG_LEVEL: 'info' } });
});
afterAll(() => waybill?.stop());

interface Key {
  readonly secret: string;
  readonly apiKey: { readonly id: string; readonly prefix: string; readonly roles: string[]; readonly status: string };
}
const KEY = 'secret apiKey { id prefix name roles status createdBy expiresAt previousSecretUntil }';

async function create(organizationId: string, roles: string[], more: object = {}): Promise<Key> {
  const input = { organizationId, name: 'test', roles, ...more };
  const mutation = `mutation ($input: ApiKeyInput!) { createApiKey(input: $input) { ${KEY} } }`;
  return (await waybill.ask<{ createApiKey: Key }>(mutation, { input })).createApiKey;
}

async function as(secret: string, query: string, variables?: object) {
  const response = await fetch(`${waybill.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${secret}` },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors = [] } = (await response.json()) as {
    data: Record<string, never> | null;
    errors?: { message: string; extensions: { code: string } }[];
  };
  return { status: response.status, data, codes: errors.map(({ extensions }) => extensions.code), errors };
}

const ME = '{ me { actor organizations isInstallationAdmin permissions { organizationId permissions } } }';

describe('a key', () => {
  it('is shown once, says who it is, and is listed by its prefix without its secret', async () => {
    const { secret, apiKey } = await create('org-a', ['sender']);
    expect(secret.startsWith(`${apiKey.prefix}_`)).toBe(true);
    expect((await as(secret, ME)).data).toEqual({
      me: {
        actor: `key:${apiKey.id}`,
        organizations: ['org-a'],
        isInstallationAdmin: false,
        permissions: [{ organizationId: 'org-a', permissions: ['CREATE_DELIVERY', 'VIEW_DELIVERY'] }],
      },
    });
    const list = `query ($prefix: String) { apiKeys(organizationId: "org-a", prefix: $prefix) { id name createdBy } }`;
    const { apiKeys } = await waybill.ask<{ apiKeys: object[] }>(list, { prefix: apiKey.prefix.slice(0, -1) });
    expect(apiKeys).toEqual([{ id: apiKey.id, name: 'test', createdBy: 'admin' }]);
    expect(JSON.stringify(apiKeys)).not.toContain(secret.slice(-49));
  });

  it('may do what its roles allow and nothing else', async () => {
    const { secret } = await create('org-a', ['analyst']);
    expect((await as(secret, '{ deliveries { totalCount } }')).codes).toEqual(['FORBIDDEN']);
    expect((await as(secret, '{ projections { name } }')).codes).toEqual(['FORBIDDEN']);
    const day = '{ dashboard(from: "2026-01-01T00:00:00Z", to: "2026-01-02T00:00:00Z") { total } }';
    expect((await as(secret, day)).data).toEqual({ dashboard: [] });
    const more = 'mutation { createApiKey(input: { name: "more", roles: ["admin"] }) { secret } }';
    expect((await as(secret, more)).codes).toEqual(['FORBIDDEN']);
  });

  it('of an administrator of one organization manages keys there and is blind elsewhere', async () => {
    const { secret } = await create('org-a', ['admin']);
    const other = await create('org-b', ['sender']);
    const made = await as(secret, `mutation { createApiKey(input: { name: "mine", roles: ["sender"] }) { ${KEY} } }`);
    expect(made.codes).toEqual([]);
    const revoke = (id: string) => as(secret, `mutation { revokeApiKey(id: "${id}") { status } }`);
    const nobodys = `${other.apiKey.id.slice(0, -2)}00`;
    const [theirs, none] = [await revoke(other.apiKey.id), await revoke(nobodys)];
    expect(theirs.codes).toEqual(['NOT_FOUND']);
    expect(theirs.errors[0]?.message).toBe(none.errors[0]?.message);
    expect((await as(secret, '{ apiKeys(organizationId: "org-b") { id } }')).codes).toEqual(['FORBIDDEN']);
    expect((await as(other.secret, ME)).status).toBe(200);
  });

  it('rotates with overlap, and without', async () => {
    const { secret, apiKey } = await create('org-a', ['sender']);
    const rotate = (overlapSeconds: number) =>
      waybill.ask<{ rotateApiKey: Key }>(
        `mutation { rotateApiKey(id: "${apiKey.id}", overlapSeconds: ${overlapSeconds}) { ${KEY} } }`,
      );
    const second = (await rotate(600)).rotateApiKey;
    expect(second.apiKey).toMatchObject({ id: apiKey.id, previousSecretUntil: expect.any(String) });
    expect([(await as(secret, ME)).status, (await as(second.secret, ME)).status]).toEqual([200, 200]);
    const third = (await rotate(0)).rotateApiKey;
    const after = await Promise.all([secret, second.secret, third.secret].map((each) => as(each, ME)));
    expect(after.map(({ status }) => status)).toEqual([401, 401, 200]);
  });

  it('that is revoked is refused, and its subscriptions end within seconds', async () => {
    const { secret, apiKey } = await create('org-a', ['auditor']);
    const closed = new Promise<{ code: number; reason: string }>((resolve) => {
      const client = createClient({
        url: `${waybill.url.replace('http', 'ws')}/graphql`,
        webSocketImpl: WebSocket,
        connectionParams: { authorization: `Bearer ${secret}` },
        retryAttempts: 0,
        on: { closed: (event) => resolve(event as { code: number; reason: string }) },
      });
      void client
        .iterate({ query: 'subscription { deliveryUpdated { id } }' })
        .next()
        .catch(() => undefined);
      client.on('connected', () => {
        void waybill.ask(`mutation { revokeApiKey(id: "${apiKey.id}", reason: "left in a repository") { status } }`);
      });
    });
    expect(await closed).toMatchObject({ code: 4403 });
    expect(await as(secret, ME)).toMatchObject({ status: 401, codes: ['UNAUTHENTICATED'] });
    const list = await waybill.ask<{ apiKeys: object[] }>(
      `{ apiKeys(organizationId: "org-a", prefix: "${apiKey.prefix}") { status revokedAt } }`,
    );
    expect(list.apiKeys).toEqual([{ status: 'REVOKED', revokedAt: expect.any(String) }]);
  });

  it('with a role of the organization’s own follows the role', async () => {
    const define = (permissions: string) =>
      waybill.ask(
        `mutation { defineRole(organizationId: "org-c", name: "night-shift", permissions: [${permissions}]) { name } }`,
      );
    await define('VIEW_ANALYTICS');
    const { secret } = await create('org-c', ['night-shift']);
    expect((await as(secret, '{ deliveries { totalCount } }')).codes).toEqual(['FORBIDDEN']);
    await define('VIEW_DELIVERY');
    expect((await as(secret, '{ deliveries { totalCount } }')).data).toEqual({ deliveries: { totalCount: 0 } });
    expect(
      await waybill.graphql('mutation { removeRole(organizationId: "org-c", name: "night-shift") }'),
    ).toMatchObject({
      errors: [{ extensions: { code: 'CONFLICT' } }],
    });
  });

  it('never stands in what the process writes', async () => {
    const { secret } = await create('org-a', ['sender']);
    await as(secret, '{ projections { name } }');
    await as(`${secret}x`, ME);
    expect(waybill.output()).toContain('access denied');
    expect(waybill.output()).not.toContain(secret.slice(-49));
    expect(waybill.output()).not.toContain('127.0.0.1"');
  });
});

it('bad input for keys names the fields', async () => {
  const { errors } = await waybill.graphql(
    'mutation { createApiKey(input: { organizationId: "org-a", name: "", roles: ["nope"], expiresAt: "2020-01-01T00:00:00Z" }) { secret } }',
  );
  expect(errors[0]?.extensions).toMatchObject({ code: 'BAD_USER_INPUT' });
  expect(errors[0]?.extensions?.fields?.map(({ path }) => path)).toEqual(['roles.0', 'name', 'expiresAt']);
});
