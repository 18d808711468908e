import { createHmac, randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildSchema } from 'graphql';
import { createClient } from 'graphql-ws';
import { OAuth2Server } from 'oauth2-mock-server';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import WebSocket from 'ws';
import { createChannels } from '../../src/channels/registry.js';
import type { JsonObject } from '../../src/domain/vocabulary.js';
import { OPERATIONS } from '../../src/security/permissions.js';
import { callOf, type Loot } from '../support/every-operation.js';
import { type HttpPeer, type Reaction, startHttpPeer } from '../support/peers/http-peer.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';
import { exampleOf, INSIDE, isHost, placesOf, put, type TextField } from '../support/provider-examples.js';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/** What an attacker would try, against a whole Waybill; each time a typed refusal, and nothing happens. */
let waybill: WaybillProcess;
let receiver: WebhookReceiver;
let issuer: OAuth2Server;
let folder: string;

/** What there is to be attacked, as the documentation's examples configure it. */
const channels = createChannels({ allowedNetworks: ['127.0.0.1/32'] });
const { adapters } = channels.registry;
const places = placesOf(adapters);
const named = (channel: string, provider: string) => {
  const adapter = adapters.find((each) => each.describe().channel === channel && each.describe().provider === provider);
  if (!adapter) throw new Error(`no ${provider} of ${channel}`);
  const { configKey } = adapter.describe();
  return { adapter, configKey, example: exampleOf(adapter, adapters) };
};

/** Words that stand in org-b's data and must never reach org-a. */
const MARKER = 'b-secret-marker';
const PERSON = 'user-42';

beforeAll(async () => {
  issuer = new OAuth2Server();
  await issuer.issuer.keys.generate('RS256');
  await issuer.start(0, 'localhost');
  receiver = await startWebhookReceiver();
  folder = await mkdtemp(join(tmpdir(), 'waybill-attacks-'));
  const provider = (name: string, channel: string, service: string) => {
    const { configKey, example } = named(channel, service);
    return { name, channel, config: { [configKey]: example } };
  };
  const config = {
    providers: [
      provider('calls', 'VOICE', 'twilio'),
      provider('windows', 'PUSH', 'wns'),
      provider('browsers', 'WEB_PUSH', 'webpush'),
    ],
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
}, 300_000);
afterAll(async () => {
  await waybill?.stop();
  await Promise.all([
    channels.close(),
    receiver?.close(),
    issuer?.stop(),
    rm(folder, { recursive: true, force: true }),
  ]);
});

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly codes: (string | undefined)[];
  /** Of all errors, the fields they name. */
  readonly fields: string[];
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
    errors?: { extensions?: { code?: string; fields?: { path: string }[] } }[];
  };
  return {
    status: response.status,
    headers: response.headers,
    text,
    data,
    codes: errors.map(({ extensions }) => extensions?.code),
    fields: errors.flatMap(({ extensions }) => extensions?.fields ?? []).map(({ path }) => path),
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
  subjectB: '',
  auditorA: '',
  /** Of an organization that tries many things: requests are counted by the key. */
  keyS: '',
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
  planted.keyS = (await keyFor('org-s', 'admin')).secret;
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
  expect(made.codes, made.text).toEqual([]);
  planted.destinationB = (made.data as { createDestination: { id: string } }).createDestination.id;
  planted.deliveryB = await request('org-b', {
    ...held,
    tags: [MARKER],
    correlationId: MARKER,
    metadata: { m: MARKER },
  });
  // In the inbox and on the suppression list of somebody whom org-a may know by the same address.
  await request('org-b', { to: [{ channel: 'IN_APP', address: PERSON }] });
  await ask(
    planted.keyB,
    `mutation { suppressAddress(channel: EMAIL, address: "${PERSON}@x.example", note: "${MARKER}") }`,
  );
  const report = `{ subjectReport(recipient: { channel: IN_APP, address: "${PERSON}" }) { subject inboxMessages { messages { text } } } }`;
  const theirs = async () => (await ask(planted.keyB, report)).data as { subjectReport: { subject: string } } | null;
  await vi.waitFor(async () => expect(JSON.stringify(await theirs())).toContain(MARKER), { timeout: 60_000 });
  planted.subjectB = (await theirs())?.subjectReport.subject ?? '';
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

  it('has no use for a cursor that it was not given, of any list, in any order', async () => {
    for (const list of ['deliveries', 'complianceReport', 'attempts', 'legs', 'suppressions'])
      for (const order of ['NEWEST_FIRST', 'OLDEST_FIRST']) {
        const theirs = async () => {
          const { data } = await ask(
            planted.keyB,
            `{ l: ${list}(order: ${order}, first: 1) { pageInfo { endCursor } } }`,
          );
          return (data as { l: { pageInfo: { endCursor: string | null } } }).l.pageInfo.endCursor;
        };
        await expect.poll(theirs, { timeout: 20_000 }).toEqual(expect.any(String));
        const from = `order: ${order}, after: "${await theirs()}"`;
        expect((await ask(planted.keyB, `{ ${list}(${from}) { edges { cursor } } }`)).codes, list).toEqual([]);
        const refused = await ask(planted.keyA, `{ ${list}(${from}) { edges { cursor } } }`);
        expect([refused.codes, refused.fields], list).toEqual([['BAD_USER_INPUT'], ['after']]);
      }
  });

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

  it('hears nothing of it by any subscription, in nobody’s inbox either', async () => {
    const served = buildSchema(await readFile(new URL('../../src/graphql/schema.graphql', import.meta.url), 'utf8'));
    const loot = {
      id: planted.deliveryB,
      destinationId: planted.destinationB,
      deliveryId: planted.deliveryB,
      config: {},
    };
    const token = `mutation { createInboxToken(address: "${PERSON}") { token } }`;
    const { createInboxToken } = (await ask(planted.keyA, token)).data as { createInboxToken: { token: string } };
    const [heard, begun]: [string[], Promise<unknown>[]] = [[], []];
    const clients = [planted.keyA, createInboxToken.token].map((key) => {
      const client = createClient({
        url: `${waybill.url.replace('http', 'ws')}/graphql`,
        webSocketImpl: WebSocket,
        connectionParams: { authorization: `Bearer ${key}` },
      });
      const hear = (answer: unknown) => void heard.push(JSON.stringify(answer));
      for (const field of Object.values(served.getSubscriptionType()?.getFields() ?? {}))
        for (const organizationId of ['org-b', undefined])
          for (const cursor of ['0', planted.cursorB]) {
            const sink = { next: hear, error: hear, complete: () => undefined };
            client.subscribe(callOf('subscription', field, { ...loot, organizationId, cursor }), sink);
          }
      begun.push(client.iterate({ query: '{ me { actor } }' }).next());
      return client;
    });
    await Promise.all(begun);
    await request('org-b', { to: [{ channel: 'IN_APP', address: PERSON }] });
    await waybill.ask(`mutation { approveDelivery(id: "${await request('org-b', held)}") { id } }`);
    await request('org-a', { to: [{ channel: 'IN_APP', address: PERSON }], content: { text: 'for the one of a' } });
    await expect.poll(() => heard.join(), { timeout: 30_000 }).toContain('for the one of a');
    expect(heard.join()).not.toContain(MARKER);
    expect(heard.join()).not.toContain('"org-b"');
    for (const client of clients) await client.dispose();
  });

  it('gets nothing of it by any export, with its ids, its persons and its name', async () => {
    const get = async (key: string, file: string, parameters: Record<string, string>) => {
      const url = `${waybill.url}/export/${file}?${new URLSearchParams(parameters)}`;
      const response = await fetch(url, { headers: { authorization: `Bearer ${key}` } });
      return [response.status, await response.text()] as const;
    };
    const [, all] = await get(planted.keyA, 'nothing.csv', {});
    const names = /there are: ([a-z, -]+);/.exec(all)?.[1]?.split(', ') ?? [];
    expect(names).toEqual(expect.arrayContaining(['deliveries', 'audit', 'subject-report']));
    const span = { from: '2020-01-01T00:00:00Z', to: '2099-01-01T00:00:00Z' };
    const needed: Record<string, Record<string, string>> = {
      ...{ dashboard: span, engagement: span, 'subject-report': { subject: planted.subjectB } },
    };
    const filters = [{}, { organizationId: 'org-b' }, { destinationId: planted.destinationB }, { tag: MARKER }];
    let seen = 0;
    for (const name of names)
      for (const filter of [...filters, { delivery: planted.deliveryB }]) {
        const [status, text] = await get(planted.keyA, `${name}.jsonl`, { ...needed[name], ...filter });
        expect([200, 400], name).toContain(status);
        if (status === 200) seen++;
        // In its own audit trail org-a sees what it has itself asked for.
        const theirs = name === 'audit' ? [] : [MARKER, planted.deliveryB];
        for (const word of ['"org-b"', ...theirs]) expect(text, name).not.toContain(word);
      }
    expect(seen).toBeGreaterThan(names.length);
    // It is there for whose it is.
    expect((await get(planted.keyB, 'deliveries.jsonl', { tag: MARKER }))[1]).toContain(planted.deliveryB);
    expect((await get(planted.keyB, 'subject-report.jsonl', { subject: planted.subjectB }))[1]).toContain(MARKER);
    const persons = `{ subjectReport(recipient: { channel: IN_APP, address: "${PERSON}" }) { keys inboxMessages { messages { text } } } }`;
    expect((await ask(planted.keyA, persons)).text).not.toContain(MARKER);
    expect((await ask(planted.keyA, '{ suppressions { totalCount } }')).data).toEqual({
      suppressions: { totalCount: 0 },
    });
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

const CREATE = 'mutation ($input: DestinationInput!) { createDestination(input: $input) { id } }';

/** Has an HTTP server of its own in its tests, or calls nobody. */
const OTHERWISE = new Set(['apns', 'smtp', 'sftp', 'local', 'inapp', 'download']);

/** Up to the first field below the channel's own object: an alternative may say what is wrong above or below it. */
const partOf = (path: string): string => path.replaceAll('[]', '').split('.').slice(0, 3).join('.');
const subscription = () => named('WEB_PUSH', 'webpush').example.to as JsonObject;

/** Requests a delivery by a provider whose every URL is the peer's. @returns its id */
async function sentBy(
  { adapter, example }: Pick<TextField, 'adapter' | 'example'>,
  peer: HttpPeer,
  change: JsonObject = {},
  content: object = {},
): Promise<string> {
  const { channel, configKey } = adapter.describe();
  const pointed = places
    .filter((place) => place.adapter === adapter && !/^(proxy|oauth)\./.test(place.path))
    .reduce((config, { path }) => put(config, path, `${peer.origin}/base`), example);
  const retry = { strategy: 'FIXED', maxAttempts: 1, initialDelayMs: 50, jitter: 0 };
  const input = { label: 'x', type: channel, config: { [configKey]: { ...pointed, ...change } }, retry };
  const made = await ask(planted.keyS, CREATE, { input });
  expect(made.codes, made.text).toEqual([]);
  const { id: destinationId } = (made.data as { createDestination: { id: string } }).createDestination;
  const data = { total: 1, totalEvents: 1, ward: 4, customer: 'c', name: 'n', status: 's' };
  const to = [{ destinationId }];
  const asked = await ask(planted.keyS, REQUEST, {
    input: { to, content: { subject: 's', text: 't', data, ...content } },
  });
  expect(asked.codes, asked.text).toEqual([]);
  return (asked.data as { requestDelivery: { delivery: { id: string } } }).requestDelivery.delivery.id;
}

async function statusOf(id: string): Promise<string> {
  return (await waybill.ask<{ delivery: { status: string } }>(`{ delivery(id: "${id}") { status } }`)).delivery.status;
}

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
    ...['https://example.com/a\r\nX-Injected: yes', 'https://exam\tple.com/'],
  ];
  it.each(blocked)('%j is refused as a bare address and as a destination', async (url) => {
    const bare = await ask(planted.keyA, REQUEST, { input: { to: [{ channel: 'WEBHOOK', address: url }] } });
    expect(bare.codes).toEqual(['BAD_USER_INPUT']);
    // Also where it is asked for tokens, or takes all requests.
    const oauth = { tokenUrl: url, clientId: 'a', clientSecret: 'b' };
    const good = receiver.url;
    for (const webhook of [{ url }, { url: good, oauth }, { url: good, proxy: { url } }]) {
      const input = { label: 'x', type: 'WEBHOOK', config: { webhook } };
      expect((await ask(planted.keyA, CREATE, { input })).codes).toEqual(['BAD_USER_INPUT']);
    }
  });

  it.each(places.map((place) => [place.name, place] as const))(
    '%s takes nothing of it either, and says which field it is',
    async (_, place) => {
      const { channel, configKey } = place.adapter.describe();
      const hosts = INSIDE.filter((host) => /^(169|\[::ffff:a9|\[64)/.test(host));
      const values = isHost(place.path)
        ? hosts.map((host) => host.replace(/^\[|\]$/g, ''))
        : [...hosts.map((host) => `https://${host}:8443/x`), 'file:///etc/passwd', 'https://a:b@example.com/'];
      for (const value of values) {
        const config = { [configKey]: put(place.example, place.path, value) };
        const { codes, fields } = await ask(planted.keyS, CREATE, { input: { label: 'x', type: channel, config } });
        expect([value, codes]).toEqual([value, ['BAD_USER_INPUT']]);
        expect(fields.map(partOf)).toContain(partOf(`config.${configKey}.${place.path}`));
      }
    },
    60_000,
  );

  it.each<[string, string[]]>([
    ['VOICE', ['+1555', 'tel:+4915123456789', '+4915123456789\r\nX-Injected: yes', 'http://10.0.0.1/']],
    [
      'PUSH',
      ['http://10.0.0.1/', 'https://evil.example/w/?token=x', 'https://a.notify.windows.com.evil.example/?token=x'],
    ],
    [
      'PUSH',
      ['https://a.notify.windows.com@10.0.0.1/w/?token=x', 'https://a.notify.windows.com:8443/w/?token=\r\nX: y'],
    ],
    ['WEB_PUSH', INSIDE.map((host) => JSON.stringify({ ...subscription(), endpoint: `https://${host}/push` }))],
    ['WEB_PUSH', ['{}', '[', JSON.stringify({ ...subscription(), endpoint: 'file:///etc/passwd' })]],
    ['DOWNLOAD', ['0', '-60', '1e9', '99999999', '60\r\nX-Injected: yes', '../../etc/passwd']],
  ])('bare addresses of %s: %j', async (channel, addresses) => {
    for (const address of addresses) {
      const bare = await ask(planted.keyS, REQUEST, { input: { to: [{ channel, address }], content: { text: 'x' } } });
      expect([address, bare.codes, bare.fields]).toEqual([address, ['BAD_USER_INPUT'], ['to.0.address']]);
    }
  });

  it('a redirect of any provider to somewhere inside is not followed', async () => {
    let inside = 0;
    const target = await startHttpPeer(() => {
      inside++;
      return {};
    });
    const location = `${target.origin}/admin`;
    const redirecting = await startHttpPeer(() => ({ status: 307, headers: { location } }));
    const called = adapters.filter((adapter) => !OTHERWISE.has(adapter.describe().provider));
    const ids = await Promise.all(
      called.map((adapter) => sentBy({ adapter, example: exampleOf(adapter, adapters) }, redirecting)),
    );
    for (const [index, id] of ids.entries()) {
      const { channel, provider } = called[index]?.describe() ?? {};
      await expect.poll(() => statusOf(id), { timeout: 60_000, message: `${channel} ${provider}` }).toBe('FAILED');
    }
    // The two that use Google's storage ask for one token together when they begin at the same time.
    expect(redirecting.received.length).toBeGreaterThanOrEqual(ids.length - 1);
    expect(inside).toBe(0);
    await Promise.all([target.close(), redirecting.close()]);
  }, 120_000);

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
    await expect.poll(() => statusOf(id), { timeout: 20_000 }).toBe('FAILED');
    expect(inside).toBe(0);
    target.close();
    redirecting.close();
  });
});

describe('injection', () => {
  it('of headers through a destination’s headers is refused', async () => {
    for (const headers of [{ 'X-A': 'a\r\nHost: evil' }, { 'X-A\r\nHost': 'evil' }, { 'X A': 'b' }]) {
      const input = { label: 'x', type: 'WEBHOOK', config: { webhook: { url: receiver.url, headers } } };
      expect((await ask(planted.keyA, CREATE, { input })).codes).toEqual(['BAD_USER_INPUT']);
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

describe('what a request or a provider says', () => {
  const forged = '{"level":"info","message":"forged by a provider"}';
  const evil = {
    text: `a\r\nX-Injected: yes\r\n</Say><Redirect>http://10.0.0.1/</Redirect></text><image src="file:///etc/passwd"/>\r\n${forged}\r\n`,
  };

  it.each([
    ['VOICE', 'twilio', {}],
    ['VOICE', 'connect', {}],
    ['PUSH', 'fcm', { title: '{{ ward }}' }],
    ['PUSH', 'wns', {}],
    ['WEB_PUSH', 'webpush', {}],
  ])(
    'by %s and %s is neither header, markup nor a line of the log',
    async (channel, service, change) => {
      const quoting: Reaction = {
        status: 400,
        body: { message: `\n${forged}\n`, code: 20_001, error: { message: `\n${forged}\n` } },
      };
      const peer = await startHttpPeer(({ path }) =>
        /token/i.test(path) || path.endsWith('/base') ? { body: { access_token: 't', expires_in: 3_600 } } : quoting,
      );
      const id = await sentBy(named(channel, service), peer, change, evil);
      await expect.poll(() => statusOf(id), { timeout: 60_000 }).toMatch(/^(FAILED|SENT|HELD)$/);
      expect(peer.received.length).toBeGreaterThan(0);
      for (const { headers, raw } of peer.received) {
        expect(headers).not.toHaveProperty('x-injected');
        const text = decodeURIComponent(raw.replaceAll('+', ' ').replace(/%(?![0-9A-F]{2})/gi, '%25'));
        if (/<Response>|<toast/.test(text)) expect(text).not.toMatch(/<Redirect>http:\/\/10|<image/);
      }
      for (const line of waybill.output().split('\n')) expect(line.trim()).not.toBe(forged);
      await peer.close();
    },
    90_000,
  );

  it.each([
    ['VOICE', 'twilio', 'bodyTemplate'],
    ['PUSH', 'fcm', 'title'],
    ['PUSH', 'wns', 'bodyTemplate'],
    ['WEB_PUSH', 'webpush', 'title'],
  ])(
    'in a template of %s and %s (%s) runs no code, and reads no file',
    async (channel, service, field) => {
      const peer = await startHttpPeer(() => ({
        body: { access_token: 't', expires_in: 3_600, sid: 'CA1', name: 'n' },
      }));
      const { configKey, example } = named(channel, service);
      const call = { ...example, [field]: '{{ "".constructor.constructor("return process.env.PATH")() }}' };
      const refused = await ask(planted.keyS, CREATE, {
        input: { label: 'x', type: channel, config: { [configKey]: call } },
      });
      expect([refused.codes, refused.fields]).toEqual([['BAD_USER_INPUT'], [`config.${configKey}.${field}`]]);
      for (const code of ['{{ name.constructor.constructor }}', '{{ __proto__ }}', '{% include "/etc/passwd" %}']) {
        const id = await sentBy(named(channel, service), peer, { [field]: code });
        await expect.poll(() => statusOf(id), { timeout: 60_000 }).toBe('FAILED');
      }
      expect(peer.received).toEqual([]);
      await peer.close();
    },
    120_000,
  );

  it('in the name of a file of DOWNLOAD stays a name', async () => {
    const lines = `a\r\nX-Injected: yes\r\n${forged}.txt`;
    const refused = await ask(planted.keyS, REQUEST, {
      input: {
        to: [{ channel: 'DOWNLOAD', address: '3600' }],
        content: { subject: lines, attachments: [{ filename: lines, contentType: 'text/plain', base64: 'YQ==' }] },
      },
    });
    expect(refused.codes).toEqual(['BAD_USER_INPUT']);
    expect(refused.fields.length).toBeGreaterThan(0);
    const filename = 'pass"wd; filename=evil.exe.txt';
    const attachments = [{ filename, contentType: 'text/plain', base64: 'YQ==' }];
    const asked = await ask(planted.keyS, REQUEST, {
      input: { to: [{ channel: 'DOWNLOAD', address: '3600' }], content: { attachments } },
    });
    expect(asked.codes, asked.text).toEqual([]);
    const { id } = (asked.data as { requestDelivery: { delivery: { id: string } } }).requestDelivery.delivery;
    await expect.poll(() => statusOf(id), { timeout: 60_000 }).toBe('DELIVERED');
    const { downloads } = await waybill.ask<{ downloads: { files: { name: string; url: string }[] }[] }>(
      `{ downloads(deliveryId: "${id}") { files { name url } } }`,
    );
    const { name = '', url = '' } = downloads[0]?.files[0] ?? {};
    expect(name).not.toMatch(/[\r\n/]/);
    const response = await fetch(new URL(url, waybill.url));
    expect(response.status).toBe(200);
    expect(response.headers.get('x-injected')).toBeNull();
    expect(response.headers.get('content-disposition')).toMatch(
      /^attachment; filename="[^"\r\n]*"; filename\*=UTF-8''[\w%.-]+$/,
    );
    for (const line of waybill.output().split('\n')) expect(line.trim()).not.toBe(forged);
  }, 90_000);
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
