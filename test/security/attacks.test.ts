import { createHmac, randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildSchema } from 'graphql';
import { createClient } from 'graphql-ws';
import { OAuth2Server } from 'oauth2-mock-server';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import WebSocket from 'ws';
import { OPERATIONS } from '../../src/security/permissions.js';
import { callOf, type Loot } from '../support/every-operation.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/** What an attacker would try, against a whole Waybill; each time a typed refusal, and nothing happens. */
let waybill: WaybillProcess;
let receiver: WebhookReceiver;
let issuer: OAuth2Server;
let folder: string;

/** Words that stand in org-b's data and must never reach org-a. */
const MARKER = 'b-secret-marker';

beforeAll(async () => {
  issuer = new OAuth2Server();
  await issuer.issuer.keys.generate('RS256');
  await issuer.start(0, 'localhost');
  receiver = await startWebhookReceiver();
  folder = await mkdtemp(join(tmpdir(), 'waybill-attacks-'));
  const config = {
    auth: { maxFailures: 1_000, oidc: [{ name: 'corp', issuer: issuer.issuer.url, audience: 'waybill' }] },
    limits: { requestsPerMinute: 2_000 },
    trustedProxies: ['127.0.0.1/32'],
  };
  await writeFile(join(folder, 'waybill.yaml'), JSON.stringify(config));
  // 127.0.0.1 and nothing else is allowed, so that what is refused below is refused for what it is.
  const env = {
    WAYBILL_CONFIG: join(folder, 'waybill.yaml'),
    WAYBILL_ALLOWED_NETWORKS: '127.0.0.1/32',
    WAYBILL_LOG_LEVEL: 'info',
  };
  waybill = await startWaybill({ env });
  await plant();
}, 120_000);
afterAll(async () => {
  await waybill?.stop();
  await Promise.all([receiver?.close(), issuer?.stop(), rm(folder, { recursive: true, force: true })]);
});

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly codes: (string | undefined)[];
  readonly data: Record<string, unknown> | null;
}

async function send(body: unknown, token?: string, headers: Record<string, string> = {}): Promise<Answer> {
  const response = await fetch(`${waybill.url}/graphql`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...headers,
    },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  const text = await response.text();
  const { data = null, errors = [] } = JSON.parse(text) as {
    data?: Record<string, unknown> | null;
    errors?: { extensions?: { code?: string } }[];
  };
  return {
    status: response.status,
    headers: response.headers,
    text,
    data,
    codes: errors.map(({ extensions }) => extensions?.code),
  };
}
const ask = (token: string, query: string, variables?: object) => send({ query, variables }, token);

const planted = {
  keyA: '',
  keyB: '',
  keyBId: '',
  destinationB: '',
  deliveryB: '',
  deliveryA: '',
  cursorB: '',
  auditorA: '',
};

async function keyFor(organizationId: string, role: string): Promise<{ secret: string; id: string }> {
  const { createApiKey } = await waybill.ask<{ createApiKey: { secret: string; apiKey: { id: string } } }>(
    `mutation { createApiKey(input: { organizationId: "${organizationId}", name: "${MARKER}", roles: ["${role}"] }) {
      secret apiKey { id } } }`,
  );
  return { secret: createApiKey.secret, id: createApiKey.apiKey.id };
}

const REQUEST = 'mutation ($input: RequestDeliveryInput!) { requestDelivery(input: $input) { delivery { id } } }';
const held = { approval: { approvers: ['admin'] } };

async function request(organizationId: string, input: object): Promise<string> {
  const to = [{ channel: 'WEBHOOK', address: receiver.url }];
  const made = await waybill.ask<{ requestDelivery: { delivery: { id: string } } }>(REQUEST, {
    input: { organizationId, to, content: { text: MARKER }, ...input },
  });
  return made.requestDelivery.delivery.id;
}

async function plant(): Promise<void> {
  planted.keyA = (await keyFor('org-a', 'admin')).secret;
  planted.auditorA = (await keyFor('org-a', 'auditor')).secret;
  const b = await keyFor('org-b', 'admin');
  planted.keyB = b.secret;
  planted.keyBId = b.id;
  const config = { webhook: { url: receiver.url, headers: { 'X-Marker': MARKER } } };
  const made = await ask(
    planted.keyB,
    'mutation ($input: DestinationInput!) { createDestination(input: $input) { id } }',
    { input: { label: MARKER, type: 'WEBHOOK', config } },
  );
  planted.destinationB = (made.data as { createDestination: { id: string } }).createDestination.id;
  planted.deliveryB = await request('org-b', {
    ...held,
    tags: [MARKER],
    correlationId: MARKER,
    metadata: { m: MARKER },
  });
  planted.deliveryA = await request('org-a', { ...held, content: { text: 'mine' } });
  const list = await ask(planted.keyB, '{ deliveries(first: 1) { pageInfo { endCursor } } }');
  planted.cursorB = (list.data as { deliveries: { pageInfo: { endCursor: string } } }).deliveries.pageInfo.endCursor;
}

/** Everything org-b has, as its administrator and the installation's see it. */
async function stateOfB(): Promise<unknown> {
  return await waybill.ask(
    `query ($delivery: ID!, $destination: ID!) {
      delivery(id: $delivery) { status holds { reason } history { type revision } }
      deliveries(filter: { organizationId: "org-b" }) { totalCount }
      destination(id: $destination) { label config enabled disabledReason }
      destinations(organizationId: "org-b") { id }
      apiKeys(organizationId: "org-b") { id status roles }
      roles(organizationId: "org-b") { name } roleAssignments(organizationId: "org-b") { identity } }`,
    { delivery: planted.deliveryB, destination: planted.destinationB },
  );
}

describe('another tenant', () => {
  it('gets nothing of it and changes nothing, by any query or mutation, with any of its ids, cursors and filters', async () => {
    const served = buildSchema(await readFile(new URL('../../src/graphql/schema.graphql', import.meta.url), 'utf8'));
    const before = await stateOfB();
    let calls = 0;
    for (const organizationId of ['org-b', undefined])
      for (const id of [planted.deliveryB, planted.destinationB, planted.keyBId, `${planted.deliveryB}-1-1`]) {
        const loot: Loot = {
          ...{ organizationId, id, destinationId: planted.destinationB, deliveryId: planted.deliveryB },
          ...{ cursor: planted.cursorB, config: { webhook: { url: receiver.url } } },
        };
        for (const [root, type] of [
          ['query', served.getQueryType()],
          ['mutation', served.getMutationType()],
        ] as const)
          for (const field of Object.values(type?.getFields() ?? {})) {
            const { query, variables } = callOf(root, field, loot);
            const answer = await ask(planted.keyA, query, variables);
            const what = `${field.name} ${JSON.stringify(variables)}: ${answer.text.slice(0, 300)}`;
            // A key's name is the marker in both organizations; what is asked for is whose it is.
            if (field.name !== 'apiKeys') expect(answer.text, what).not.toContain(MARKER);
            expect(answer.text, what).not.toContain('"org-b"');
            for (const code of answer.codes)
              expect(code, what).toMatch(/^(NOT_FOUND|FORBIDDEN|BAD_USER_INPUT|CONFLICT|UNAVAILABLE)$/);
            calls++;
          }
      }
    expect(calls).toBeGreaterThan(200);
    expect(await stateOfB()).toEqual(before);
  }, 120_000);

  it('cannot tell what exists elsewhere from what does not exist', async () => {
    const nothing = randomUUID();
    for (const [theirs, none] of [
      [`{ delivery(id: "${planted.deliveryB}") { id } }`, `{ delivery(id: "${nothing}") { id } }`],
      [
        `mutation { cancelDelivery(id: "${planted.deliveryB}") { id } }`,
        `mutation { cancelDelivery(id: "${nothing}") { id } }`,
      ],
      [
        `mutation { testDestination(id: "${planted.destinationB}") { ok } }`,
        `mutation { testDestination(id: "${nothing}") { ok } }`,
      ],
      [
        `{ deliveries(filter: { organizationId: "org-b" }) { totalCount } }`,
        `{ deliveries(filter: { organizationId: "org-z" }) { totalCount } }`,
      ],
      [`{ apiKeys(organizationId: "org-b") { id } }`, `{ apiKeys(organizationId: "org-z") { id } }`],
    ] as const)
      expect((await ask(planted.keyA, theirs)).text).toBe((await ask(planted.keyA, none)).text);
    const dependent = (id: string) => ask(planted.keyA, REQUEST, { input: { to: [], dependsOn: [id] } });
    expect((await dependent(planted.deliveryB)).text).toBe((await dependent(nothing)).text);
  });

  it('hears nothing of it by subscriptions', async () => {
    const heard: string[] = [];
    const client = createClient({
      url: `${waybill.url.replace('http', 'ws')}/graphql`,
      webSocketImpl: WebSocket,
      connectionParams: { authorization: `Bearer ${planted.keyA}` },
    });
    const listen = (args: string) =>
      client.subscribe(
        { query: `subscription { deliveryUpdated${args} { id organizationId tags } }` },
        {
          next: ({ data }) => void heard.push((data?.deliveryUpdated as { id: string } | undefined)?.id ?? ''),
          error: () => undefined,
          complete: () => undefined,
        },
      );
    for (const args of ['', `(id: "${planted.deliveryB}")`, '(organizationId: "org-b")']) listen(args);
    // Answered after the subscriptions on the same socket have begun.
    await client.iterate({ query: '{ me { actor } }' }).next();
    await waybill.ask(`mutation { approveDelivery(id: "${await request('org-b', held)}") { id } }`);
    const mine = await request('org-a', { content: { text: 'mine' } });
    await expect.poll(() => heard.includes(mine), { timeout: 20_000 }).toBe(true);
    expect(new Set(heard)).toEqual(new Set([mine]));
    await client.dispose();
  });

  it('is not reached by what a key says of itself, or by headers', async () => {
    const headers = { 'x-organization-id': 'org-b', 'x-forwarded-user': 'admin', 'x-waybill-organizations': '*' };
    const answer = await send({ query: '{ me { organizations } }' }, planted.keyA, headers);
    expect(answer.data).toEqual({ me: { organizations: ['org-a'] } });
  });
});

describe('an auditor', () => {
  it('reads its organization and changes nothing, by any mutation', async () => {
    const served = buildSchema(await readFile(new URL('../../src/graphql/schema.graphql', import.meta.url), 'utf8'));
    const loot: Loot = {
      ...{ organizationId: undefined, id: planted.deliveryA, destinationId: planted.destinationB },
      ...{ deliveryId: planted.deliveryA, cursor: '', config: {} },
    };
    for (const field of Object.values(served.getMutationType()?.getFields() ?? {})) {
      const { query, variables } = callOf('mutation', field, loot);
      // In their own inbox, where there is no such message.
      const isTheirOwn = OPERATIONS[`Mutation.${field.name}`]?.needs === 'authenticated';
      const refused = isTheirOwn ? 'NOT_FOUND' : 'FORBIDDEN';
      expect((await ask(planted.auditorA, query, variables)).codes, field.name).toEqual([refused]);
    }
    const read = await ask(planted.auditorA, `{ delivery(id: "${planted.deliveryA}") { id history { type } } }`);
    expect(read.data?.delivery).toMatchObject({ id: planted.deliveryA });
  });
});

describe('credentials', () => {
  const claims = (more: object = {}) => ({
    ...{ iss: issuer.issuer.url, sub: 'mallory', aud: 'waybill', exp: Math.floor(Date.now() / 1_000) + 300 },
    ...{ organizations: ['org-a'], roles: ['auditor'], ...more },
  });
  const signed = (more: object = {}) =>
    issuer.issuer.buildToken({
      scopesOrTransform: (_, payload) => {
        for (const name of Object.keys(payload)) delete (payload as Record<string, unknown>)[name];
        Object.assign(payload, claims(more));
      },
    });
  const encoded = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const ME = '{ me { actor organizations } }';

  it('of a known issuer let in', async () => {
    expect((await ask(await signed(), ME)).data).toEqual({ me: { actor: 'corp:mallory', organizations: ['org-a'] } });
  });

  it('expired, forged, unsigned or confused are refused', async () => {
    const jwk = issuer.issuer.keys.toJSON()[0];
    const confused = `${encoded({ alg: 'HS256', kid: jwk?.kid })}.${encoded(claims())}`;
    const [header, , signature] = (await signed()).split('.');
    const tokens = [
      await signed({ exp: Math.floor(Date.now() / 1_000) - 600 }),
      await signed({ aud: 'other' }),
      await signed({ iss: 'https://evil.example' }),
      `${encoded({ alg: 'none' })}.${encoded(claims())}.`,
      `${confused}.${createHmac('sha256', JSON.stringify(jwk)).update(confused).digest('base64url')}`,
      `${header}.${encoded(claims({ roles: ['admin'] }))}.${signature}`,
      `${planted.keyA.slice(0, -1)}${planted.keyA.endsWith('x') ? 'y' : 'x'}`,
      `wbl_${'0'.repeat(31)}_${'0'.repeat(49)}`,
      "' or '1'='1",
    ];
    for (const token of tokens) {
      const answer = await ask(token, ME);
      expect([answer.status, answer.codes]).toEqual([401, ['UNAUTHENTICATED']]);
    }
  });

  it('cannot make an actor of the house, or an administrator', async () => {
    expect((await ask(await signed({ sub: 'admin', roles: ['admin'], organizations: ['*'] }), ME)).data).toEqual({
      me: { actor: 'corp:admin', organizations: [] },
    });
    const approve = `mutation { approveDelivery(id: "${planted.deliveryA}") { status } }`;
    expect((await ask(await signed({ sub: 'admin', roles: ['admin'] }), approve)).codes).toEqual(['FORBIDDEN']);
  });
});

describe('queries', () => {
  it('too deep, too wide or too many are refused, before they run', async () => {
    const nested = `{ ${'a { '.repeat(5_000)} b ${'} '.repeat(5_000)} }`;
    const veryNested = `{ ${'a { '.repeat(200_000)} b ${'} '.repeat(200_000)} }`;
    const lists = `query ($v: JSON = ${'['.repeat(50_000)}${']'.repeat(50_000)}) { me { actor } }`;
    const aliases = `{ ${Array.from({ length: 6_000 }, (_, n) => `a${n}: me { actor }`).join(' ')} }`;
    const writes = `mutation { ${Array.from({ length: 51 }, (_, n) => `a${n}: cancelDelivery(id: "${randomUUID()}") { id }`).join(' ')} }`;
    const inFragments = `mutation { ...a ...a } fragment a on Mutation { ${Array.from({ length: 40 }, (_, n) => `a${n}: cancelDelivery(id: "x") { id }`).join(' ')} }`;
    const circular = '{ me { ...a } } fragment a on Me { ...b } fragment b on Me { ...a }';
    const laughs = `{ me { ...f0 } } ${Array.from({ length: 20 }, (_, n) => `fragment f${n} on Me { ...f${n + 1} ...f${n + 1} }`).join(' ')} fragment f20 on Me { actor }`;
    for (const query of [nested, veryNested, lists, aliases, writes, inFragments, circular, laughs]) {
      const answer = await ask(planted.keyA, query);
      expect([answer.codes[0], answer.data], query.slice(0, 60)).toEqual(['BAD_USER_INPUT', null]);
    }
    expect((await ask(planted.keyA, '{ me { actor } }')).status).toBe(200);
  }, 60_000);

  it('in batches are not served', async () => {
    const answer = await send([{ query: '{ me { actor } }' }, { query: '{ me { actor } }' }], planted.keyA);
    expect(answer.codes[0]).toBe('BAD_USER_INPUT');
  });

  it('for the schema are for administrators of the installation', async () => {
    for (const query of [
      '{ __schema { types { name } } }',
      '{ ...a } fragment a on Query { x: __type(name: "Query") { name } }',
    ])
      expect((await ask(planted.keyA, query)).codes).toEqual(['FORBIDDEN']);
    expect((await ask(waybill.adminKey, '{ __schema { queryType { name } } }')).codes).toEqual([]);
  });

  it('beyond the rate are refused, and the client is told when to come back', async () => {
    const { secret } = await keyFor('org-r', 'auditor');
    const first = await ask(secret, '{ me { actor } }');
    expect(first.headers.get('ratelimit-limit')).toBe('2000');
    expect(first.headers.get('ratelimit-remaining')).toBe('1999');
    expect(first.headers.get('ratelimit-policy')).toBe('2000;w=60');
    expect(Number(first.headers.get('ratelimit-reset'))).toBeGreaterThan(0);
  });
});

describe('requests made for others (SSRF)', () => {
  const blocked = [
    ...['http://169.254.169.254/latest/meta-data/', 'http://10.0.0.1/', 'http://192.168.1.1/', 'http://[::1]/'],
    ...['http://[::ffff:10.0.0.1]/', 'http://[::ffff:a9fe:a9fe]/', 'http://[64:ff9b::a00:1]/', 'http://[fd00::1]/'],
    ...[
      'http://0x0a000001/',
      'http://167772161/',
      'http://012.0.0.1/',
      'http://0.0.0.0/',
      'http://user:pw@example.com/',
    ],
    ...['file:///etc/passwd', 'gopher://127.0.0.1/', 'http://127.0.0.2/', 'javascript:alert(1)'],
  ];
  it.each(blocked)('%s is refused as a bare address and as a destination', async (url) => {
    const bare = await ask(planted.keyA, REQUEST, { input: { to: [{ channel: 'WEBHOOK', address: url }] } });
    expect(bare.codes).toEqual(['BAD_USER_INPUT']);
    const create = 'mutation ($input: DestinationInput!) { createDestination(input: $input) { id } }';
    // Also where it is asked for tokens, or takes all requests.
    const oauth = { tokenUrl: url, clientId: 'a', clientSecret: 'b' };
    const good = receiver.url;
    for (const webhook of [{ url }, { url: good, oauth }, { url: good, proxy: { url } }]) {
      const input = { label: 'x', type: 'WEBHOOK', config: { webhook } };
      expect((await ask(planted.keyA, create, { input })).codes).toEqual(['BAD_USER_INPUT']);
    }
  });

  it('a redirect to somewhere inside is not followed', async () => {
    let inside = 0;
    const server = (handle: Parameters<typeof createServer>[1]): Promise<Server> =>
      new Promise((resolve) => {
        const made = createServer(handle as never).listen(0, '127.0.0.1', () => resolve(made));
      });
    const target = await server((_, response) => {
      inside++;
      response.end();
    });
    const location = `http://127.0.0.1:${(target.address() as AddressInfo).port}/admin`;
    const redirecting = await server((_, response) => void response.writeHead(307, { location }).end());
    const address = `http://127.0.0.1:${(redirecting.address() as AddressInfo).port}/`;
    const id = await request('org-a', { to: [{ channel: 'WEBHOOK', address }] });
    const status = async () =>
      (await waybill.ask<{ delivery: { status: string } }>(`{ delivery(id: "${id}") { status } }`)).delivery.status;
    await expect.poll(status, { timeout: 20_000 }).toBe('FAILED');
    expect(inside).toBe(0);
    target.close();
    redirecting.close();
  });
});

describe('injection', () => {
  it('of headers through a destination’s headers is refused', async () => {
    const create = 'mutation ($input: DestinationInput!) { createDestination(input: $input) { id } }';
    for (const headers of [{ 'X-A': 'a\r\nHost: evil' }, { 'X-A\r\nHost': 'evil' }, { 'X A': 'b' }]) {
      const input = { label: 'x', type: 'WEBHOOK', config: { webhook: { url: receiver.url, headers } } };
      expect((await ask(planted.keyA, create, { input })).codes).toEqual(['BAD_USER_INPUT']);
    }
  });

  it('of lines into the log has no effect', async () => {
    const forged = '{"level":"info","message":"forged line"}';
    await ask(`x\u00e9`, '{ me { actor } }').catch(() => undefined);
    await send(
      { query: `mutation { cancelDelivery(id: "\\n${forged.replaceAll('"', '\\"')}\\n") { id } }` },
      planted.keyA,
    );
    await send({ query: '{ me { actor } }' }, 'wrong', { 'x-forwarded-for': '192.0.2.77', traceparent: '00-x' });
    for (const line of waybill.output().split('\n')) expect(line.trim()).not.toBe(forged);
    expect(waybill.output()).not.toContain('192.0.2.77');
    expect(waybill.output()).not.toContain(planted.keyA.slice(-49));
  });
});

describe('answers to browsers', () => {
  it('carry security headers, and open nothing to other origins', async () => {
    const { headers } = await send({ query: '{ me { actor } }' }, planted.keyA, { origin: 'https://evil.example' });
    expect(headers.get('x-content-type-options')).toBe('nosniff');
    expect(headers.get('x-frame-options')).toBe('DENY');
    expect(headers.get('cache-control')).toBe('no-store');
    expect(headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(headers.get('access-control-allow-origin')).toBeNull();
    const preflight = await fetch(`${waybill.url}/graphql`, {
      method: 'OPTIONS',
      headers: { origin: 'https://evil.example', 'access-control-request-method': 'POST' },
    });
    expect(preflight.headers.get('access-control-allow-origin')).toBeNull();
  });

  it('show no page to try queries on', async () => {
    for (const path of ['/graphiql', '/playground', '/altair'])
      expect((await fetch(waybill.url + path, { headers: { accept: 'text/html' } })).status).toBe(404);
  });
});
