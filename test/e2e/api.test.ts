import { createClient } from 'graphql-ws';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import WebSocket from 'ws';
import { deliveryIdForKey } from '../../src/commands/ids.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';
import { client, ORGANIZATION, types } from './journeys.js';

/** The public API as such: who gets in, what is refused and how, paging, time travel, subscriptions, rebuilds. */
let waybill: WaybillProcess;
let receiver: WebhookReceiver;
let api: ReturnType<typeof client>;

beforeAll(async () => {
  [waybill, receiver] = await Promise.all([startWaybill(), startWebhookReceiver()]);
  api = client(waybill);
});

afterAll(async () => {
  await waybill?.stop();
  await receiver?.close();
});

const post = (body: string, authorization?: string) =>
  fetch(`${waybill.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(authorization !== undefined && { authorization }) },
    body,
  });

const REQUEST = 'mutation ($input: RequestDeliveryInput!) { requestDelivery(input: $input) { delivery { id } } }';
const hook = () => ({ channel: 'WEBHOOK', address: receiver.url });
const refusalOf = (input: object) => api.refusal(REQUEST, { input: { organizationId: ORGANIZATION, ...input } });
const totalCount = async () =>
  (await waybill.ask<{ deliveries: { totalCount: number } }>('{ deliveries(first: 1) { totalCount } }')).deliveries
    .totalCount;

describe('credentials', () => {
  it.each([undefined, 'Bearer wrong', 'Basic abc', 'Bearer '])(
    'turn away %s before anything is parsed',
    async (given) => {
      const response = await post(JSON.stringify({ query: '{ nonsense' }), given);
      expect(response.status).toBe(401);
      expect(await response.json()).toMatchObject({ errors: [{ extensions: { code: 'UNAUTHENTICATED' } }] });
    },
  );

  it('are not needed to see that it is alive and ready', async () => {
    expect(await (await fetch(`${waybill.url}/health`)).json()).toEqual({ status: 'ok' });
    const ready = async () => {
      const answer = await fetch(`${waybill.url}/ready`);
      return [answer.status, await answer.json()];
    };
    await expect
      .poll(ready, { timeout: 10_000 })
      .toEqual([
        200,
        { status: 'ready', parts: { log: 'up', postgres: 'up', engine: 'up', projections: 'up', audit: 'up' } },
      ]);
  });
});

describe('bad input is refused, names the field and stores nothing:', () => {
  const past = '2020-01-01T00:00:00Z';
  const inHours = (hours: number) => new Date(Date.now() + hours * 3_600_000).toISOString();
  const attachment = (bytes: number) => ({
    filename: 'a.bin',
    contentType: 'application/octet-stream',
    base64: Buffer.alloc(bytes).toString('base64'),
  });

  it.each<[string, () => object, string[]]>([
    ['an unknown field', () => ({ to: [hook()], colour: 'red' }), ['colour']],
    ['a wrong type', () => ({ to: [hook()], tags: 'one', content: { text: 7 } }), ['content.text']],
    ['a bad e-mail address', () => ({ to: [{ channel: 'EMAIL', address: 'nobody' }] }), ['to.0.address']],
    ['a bad number', () => ({ to: [{ channel: 'SMS', address: '12' }] }), ['to.0.address']],
    ['a bad URL', () => ({ to: [{ channel: 'WEBHOOK', address: 'ftp://example.com' }] }), ['to.0.address']],
    ['a private address', () => ({ to: [{ channel: 'WEBHOOK', address: 'http://10.1.2.3/' }] }), ['to.0.address']],
    [
      'a metadata address',
      () => ({ to: [{ channel: 'WEBHOOK', address: 'http://169.254.169.254/' }] }),
      ['to.0.address'],
    ],
    ['a 300-character key', () => ({ to: [hook()], idempotencyKey: 'k'.repeat(300) }), ['idempotencyKey']],
    ['a schedule in the past', () => ({ to: [hook()], scheduledAt: past }), ['scheduledAt']],
    ['expiry before schedule', () => ({ to: [hook()], scheduledAt: inHours(2), expiresAt: inHours(1) }), ['expiresAt']],
    ['a date that is none', () => ({ to: [hook()], scheduledAt: '2027-02-30T00:00:00Z' }), ['scheduledAt']],
    ['a date without offset', () => ({ to: [hook()], scheduledAt: '2027-02-20T00:00:00' }), ['scheduledAt']],
    [
      'an unknown dependency',
      () => ({ to: [hook()], dependsOn: ['b3f0c7f6-3d1c-4f2e-9a64-6a1f0f6f3b11'] }),
      ['dependsOn.0'],
    ],
    [
      'attachments over the limit',
      () => ({ to: [hook()], content: { attachments: [attachment(11 * 1024 * 1024)] } }),
      ['content.attachments'],
    ],
    [
      'an attachment that is not base64',
      () => ({ to: [hook()], content: { attachments: [{ ...attachment(3), base64: '!!' }] } }),
      ['content.attachments.0.base64'],
    ],
    ['two ways to one target', () => ({ to: [{ ...hook(), destinationId: 'x' }] }), ['to.0']],
    ['no targets and no defaults', () => ({ organizationId: 'nobody-home' }), ['to']],
    [
      'an unknown destination in a fallback',
      () => ({ to: [{ ...hook(), fallback: [{ destinationId: 'x' }] }] }),
      ['to.0.fallback.0.destinationId'],
    ],
    ['an unknown recipient', () => ({ to: [{ recipientId: 'r' }] }), ['to.0.recipientId']],
    ['an unknown template', () => ({ to: [hook()], templateId: 't' }), ['templateId']],
    [
      'a channel nobody is configured for',
      () => ({ to: [{ channel: 'EMAIL', address: 'a@b.example' }] }),
      ['to.0.provider'],
    ],
    [
      'more approvals than approvers',
      () => ({ to: [hook()], approval: { approvers: ['a'], minimum: 2 } }),
      ['approval.minimum'],
    ],
    ['an organization that is no name', () => ({ to: [hook()], organizationId: '../etc' }), ['organizationId']],
  ])('%s', async (_, input, paths) => {
    const before = await totalCount();
    const refusals = await refusalOf(input());
    expect(refusals.map(({ code }) => code)).toEqual(refusals.map(() => 'BAD_USER_INPUT'));
    expect(refusals.flatMap((refusal) => refusal.paths)).toEqual(expect.arrayContaining(paths));
    expect(await totalCount()).toBe(before);
  });

  it('a dependency on itself', async () => {
    // The id follows from organization and key, so it can be known beforehand.
    const own = deliveryIdForKey(ORGANIZATION, 'ouroboros');
    expect(await refusalOf({ to: [hook()], idempotencyKey: 'ouroboros', dependsOn: [own] })).toEqual([
      { code: 'BAD_USER_INPUT', paths: ['dependsOn.0'] },
    ]);
    expect((await api.request({ to: [hook()], idempotencyKey: 'ouroboros' })).id).toBe(own);
  });

  it('1,001 deliveries in one bulk, and a bulk with one bad item', async () => {
    const BULK = 'mutation ($inputs: [RequestDeliveryInput!]!) { requestDeliveries(inputs: $inputs) { replayed } }';
    const before = await totalCount();
    const input = { organizationId: ORGANIZATION, to: [hook()] };
    expect(await api.refusal(BULK, { inputs: Array.from({ length: 1_001 }, () => input) })).toEqual([
      { code: 'BAD_USER_INPUT', paths: ['inputs'] },
    ]);
    const inputs = [input, input, { ...input, scheduledAt: past }];
    expect(await api.refusal(BULK, { inputs })).toEqual([{ code: 'BAD_USER_INPUT', paths: ['inputs.2.scheduledAt'] }]);
    expect(await totalCount()).toBe(before);
  });

  it('a body over the limit, a body that is not JSON, queries too deep and too costly', async () => {
    const big = await post(
      JSON.stringify({ query: '{ projections { name } }', pad: 'x'.repeat(26 * 1024 * 1024) }),
      `Bearer ${waybill.adminKey}`,
    );
    expect(await big.json()).toMatchObject({
      errors: [{ extensions: { code: 'BAD_USER_INPUT', fields: [{ path: 'body' }] } }],
    });
    const garbled = await post('{', `Bearer ${waybill.adminKey}`);
    expect(await garbled.json()).toMatchObject({
      errors: [{ extensions: { code: 'BAD_USER_INPUT', fields: [{ path: 'body' }] } }],
    });
    const deep = `{ __schema { types ${'{ fields { type '.repeat(8)} { name } ${'} }'.repeat(8)} } }`;
    expect(await api.refusal(deep)).toMatchObject([{ code: 'BAD_USER_INPUT' }]);
    const page = 'deliveries(first: 200) { edges { node { id history { type } attempts { id } legs { id } } } }';
    const costly = `{ ${Array.from({ length: 9 }, (_, index) => `p${index}: ${page}`).join(' ')} }`;
    expect(await api.refusal(costly)).toEqual([{ code: 'BAD_USER_INPUT', paths: ['query'] }]);
  });

  it('destinations: unknown fields, bad values, hidden secrets that are not there', async () => {
    const CREATE = 'mutation ($input: DestinationInput!) { createDestination(input: $input) { id } }';
    const refusal = (type: string, config: object, more: object = {}) =>
      api.refusal(CREATE, { input: { organizationId: ORGANIZATION, label: 'x', type, config, ...more } });
    const url = receiver.url;
    expect(await refusal('WEBHOOK', { webhook: { url: 'http://192.168.1.1/' } })).toEqual([
      { code: 'BAD_USER_INPUT', paths: ['config.webhook.url'] },
    ]);
    expect(await refusal('WEBHOOK', { webhook: { url, colour: 1 } })).toEqual([
      { code: 'BAD_USER_INPUT', paths: ['config.webhook.colour'] },
    ]);
    expect(await refusal('WEBHOOK', { webhook: { url, headers: { Authorization: '********' } } })).toEqual([
      { code: 'BAD_USER_INPUT', paths: ['config.webhook.headers.Authorization'] },
    ]);
    const sftp = ['host', 'username', 'hostKeyFingerprint', 'path'].map((field) => `config.sftp.${field}`);
    expect(await refusal('SFTP', { sftp: {} })).toEqual([{ code: 'BAD_USER_INPUT', paths: sftp }]);
    expect(await refusal('WEBHOOK', { webhook: { url } }, { retry: { maxAttempts: 0, jitter: 2 } })).toEqual([
      { code: 'BAD_USER_INPUT', paths: ['retry.maxAttempts', 'retry.jitter'] },
    ]);
  });
});

describe('a repeated request', () => {
  it('gives the first result, with another body a conflict', async () => {
    const input = { to: [hook()], idempotencyKey: 'once', metadata: { a: 1, b: [2] } };
    const first = await api.request(input);
    const second = await api.request({ ...input, metadata: { b: [2], a: 1 } });
    expect([first.replayed, second.replayed, second.id]).toEqual([false, true, first.id]);
    expect(await refusalOf({ ...input, content: { text: 'other' } })).toEqual([
      { code: 'IDEMPOTENCY_CONFLICT', paths: ['idempotencyKey'] },
    ]);
  });

  it('makes one delivery, fifty times at once', async () => {
    const all = await Promise.all(
      Array.from({ length: 50 }, () =>
        api.request({ to: [{ channel: 'WEBHOOK', address: `${receiver.url}/fifty` }], idempotencyKey: 'fifty' }),
      ),
    );
    expect(new Set(all.map(({ id }) => id)).size).toBe(1);
    expect(all.filter(({ replayed }) => !replayed)).toHaveLength(1);
    await api.until(all[0]?.id ?? '', 'DELIVERED');
    expect(receiver.received.filter(({ path }) => path.endsWith('/fifty'))).toHaveLength(1);
  });

  it('of a whole bulk is safe too', async () => {
    const BULK = `mutation ($inputs: [RequestDeliveryInput!]!, $key: String) {
      requestDeliveries(inputs: $inputs, idempotencyKey: $key) { replayed delivery { id } } }`;
    const inputs = [1, 2, 3].map((n) => ({ organizationId: ORGANIZATION, to: [hook()], content: { data: n } }));
    interface Answer {
      requestDeliveries: { replayed: boolean; delivery: { id: string } }[];
    }
    const first = (await waybill.ask<Answer>(BULK, { inputs, key: 'bulk' })).requestDeliveries;
    const second = (await waybill.ask<Answer>(BULK, { inputs, key: 'bulk' })).requestDeliveries;
    expect(second).toEqual(first.map(({ delivery }) => ({ delivery, replayed: true })));
    const other = inputs.map((input, index) => (index === 1 ? { ...input, content: { data: 9 } } : input));
    expect(await api.refusal(BULK, { inputs: other, key: 'bulk' })).toEqual([
      { code: 'IDEMPOTENCY_CONFLICT', paths: ['inputs.1.idempotencyKey'] },
    ]);
  });
});

describe('reading', () => {
  it('shows a caller its own writes at once, and says how far it is', async () => {
    const { id } = await api.request({ to: [hook()], approval: { approvers: ['admin'] } });
    const read = await api.delivery(id);
    expect(read).toMatchObject({ id, status: 'HELD' });
    expect(BigInt(read.asOf)).toBeGreaterThanOrEqual(BigInt(read.history[0]?.position ?? Number.NaN));
  });

  it('travels in time', async () => {
    const { id } = await api.request({ to: [hook()], approval: { approvers: ['admin'] } });
    await api.act('approveDelivery', { id });
    const now = await api.until(id, 'DELIVERED');
    const [requested, granted] = now.history.map(({ position }) => position);
    const before = await api.asOf(id, requested ?? '');
    expect(before).toMatchObject({ status: 'HELD', asOf: requested, attempts: [], completedAt: null });
    expect(types(before as never)).toEqual(['DeliveryRequested']);
    expect(await api.asOf(id, granted ?? '')).toMatchObject({ status: 'QUEUED', holds: [] });
    expect(await api.asOf(id, now.history.at(-1)?.position ?? '')).toMatchObject({
      status: 'DELIVERED',
      attempts: [{ status: 'SUCCEEDED' }],
    });
    expect(await api.asOf(id, '0')).toBeNull();
    expect(await api.refusal(`{ deliveryAsOf(id: "${id}") { id } }`)).toEqual([
      { code: 'BAD_USER_INPUT', paths: ['at'] },
    ]);
  });

  it('pages through everything once, whatever comes in between', async () => {
    const tag = 'paged';
    for (let n = 0; n < 7; n++) await api.request({ to: [hook()], tags: [tag] });
    const seen: string[] = [];
    let after: string | null = null;
    do {
      const { deliveries: page }: { deliveries: Page } = await waybill.ask(
        `query ($after: String) { deliveries(first: 3, after: $after, filter: { tag: "${tag}" }) {
          totalCount edges { node { id } } pageInfo { hasNextPage endCursor } } }`,
        { after },
      );
      expect(page.totalCount).toBe(7 + (seen.length > 0 ? 1 : 0));
      if (seen.length === 0) await api.request({ to: [hook()], tags: [tag] });
      seen.push(...page.edges.map(({ node }) => node.id));
      after = page.pageInfo.hasNextPage ? page.pageInfo.endCursor : null;
    } while (after !== null);
    expect(new Set(seen).size).toBe(7);
    expect(await api.refusal('{ deliveries(after: "nonsense") { totalCount } }')).toEqual([
      { code: 'BAD_USER_INPUT', paths: ['after'] },
    ]);
    expect(await api.refusal('{ deliveries(first: 201) { totalCount } }')).toEqual([
      { code: 'BAD_USER_INPUT', paths: ['first'] },
    ]);
  });

  it('goes through lists from either end, and takes no cursor of the other order', { timeout: 60_000 }, async () => {
    const whose = { organizationId: 'both-ends' };
    const made: string[] = [];
    for (let n = 0; n < 5; n++) made.push((await api.request({ ...whose, to: [hook()] })).id);
    for (const id of made) await api.until(id, 'DELIVERED');
    const then = new Date().toISOString();
    const ofThem = `filter: { organizationId: "${whose.organizationId}" }`;
    for (const [list, keys, args] of [
      ['deliveries', 'id', ofThem],
      ['deliveries', 'id', `${ofThem}, asOf: { at: "${then}" }`],
      ['complianceReport', 'deliveryId', ofThem],
      ['attempts', 'id', ofThem],
      ['legs', 'deliveryId leg', ofThem],
      ['auditTrail', 'index', `filter: { organizationId: "${whose.organizationId}", to: "${then}" }`],
    ] as const) {
      const page = async (order: string, first: number, after: string | null) => {
        const query = `query ($after: String) { list: ${list}(${args}, order: ${order}, first: ${first}, after: $after) {
          edges { node { ${keys} } } pageInfo { hasNextPage endCursor } } }`;
        type Answer = {
          list: { edges: { node: object }[]; pageInfo: { hasNextPage: boolean; endCursor: string | null } };
        };
        return (await waybill.ask<Answer>(query, { after })).list;
      };
      const bothWays = async () => {
        const newest = await page('NEWEST_FIRST', 50, null);
        const begin = await page('OLDEST_FIRST', 3, null);
        const rest = await page('OLDEST_FIRST', 50, begin.pageInfo.endCursor);
        expect(newest.edges.length, list).toBeGreaterThanOrEqual(5);
        expect([...begin.edges, ...rest.edges], list).toEqual(newest.edges.toReversed());
        expect([begin.pageInfo.hasNextPage, rest.pageInfo.hasNextPage], list).toEqual([true, false]);
        return begin.pageInfo.endCursor;
      };
      // The audit trail comes behind the log.
      const cursor = await vi.waitFor(bothWays, { timeout: 20_000, interval: 200 });
      const other = `{ ${list}(${args}, order: NEWEST_FIRST, after: "${cursor}") { edges { cursor } } }`;
      expect([list, await api.refusal(other)]).toEqual([list, [{ code: 'BAD_USER_INPUT', paths: ['after'] }]]);
    }
    for (const list of ['suppressions', 'deadLetters', 'slaLegs', 'attemptsInDoubt', 'suspendedDeliveries'])
      for (const order of ['NEWEST_FIRST', 'OLDEST_FIRST'])
        await waybill.ask(`{ ${list}(${list === 'slaLegs' ? 'what: BREACHED, ' : ''}order: ${order}) { totalCount } }`);
    await waybill.ask(`{ disposals(organizationId: "${ORGANIZATION}", order: OLDEST_FIRST) { cursor } }`);
  });

  it('has rows of aggregates in the order that is asked for', async () => {
    for (const organizationId of ['few', 'more', 'more'])
      await api.until((await api.request({ organizationId, to: [hook()] })).id, 'DELIVERED');
    const days = (from: number) => new Date(Date.now() + from * 86_400_000).toISOString();
    const span = `from: "${days(-30)}", to: "${days(1)}"`;
    const totals = async (direction: string) => {
      const { sla } = await waybill.ask<{ sla: { organizationId: string; total: number }[] }>(
        `{ sla(${span}, orderBy: [{ field: TOTAL, direction: ${direction} }]) { organizationId total } }`,
      );
      return sla.map(({ total }) => total);
    };
    const rising = await totals('ASC');
    expect(new Set(rising).size).toBeGreaterThan(1);
    expect(rising).toEqual(rising.toSorted((one, other) => one - other));
    expect(await totals('DESC')).toEqual(rising.toReversed());
    for (const [query, field] of [
      ['dashboard', 'AVERAGE_DELIVERY_MS'],
      ['providerPerformance', 'SUCCESS_RATE'],
      ['deliveryPerformance', 'PROVIDER'],
      ['engagement', 'OPEN_RATE'],
    ] as const) {
      const by = `orderBy: [{ field: ${field} }, { field: CHANNEL, direction: DESC }]`;
      const answer = await waybill.ask<Record<string, object[]>>(`{ ${query}(${span}, ${by}) { channel } }`);
      expect([query, answer[query]]).toEqual([query, expect.arrayContaining([{ channel: 'WEBHOOK' }])]);
      const six = `orderBy: [${'{ field: CHANNEL } '.repeat(6)}]`;
      expect(await api.refusal(`{ ${query}(${span}, ${six}) { channel } }`)).toEqual([
        { code: 'BAD_USER_INPUT', paths: ['orderBy'] },
      ]);
    }
  });

  interface Page {
    totalCount: number;
    edges: { node: { id: string } }[];
    pageInfo: { hasNextPage: boolean; endCursor: string };
  }

  it('counts the day on the dashboard', async () => {
    const organizationId = 'counted';
    const ids = await Promise.all(
      [1, 2, 3].map(
        async () => (await api.request({ organizationId, to: [hook()], priority: 'HIGH', slaSeconds: 60 })).id,
      ),
    );
    for (const id of ids) await api.until(id, 'DELIVERED');
    const day = new Date().toISOString().slice(0, 10);
    const rows = await waybill.ask(
      `{ dashboard(organizationId: "${organizationId}", from: "${day}T00:00:00Z", to: "${day}T23:59:59Z") {
        bucket channel total delivered failed pending slaCompliance recipients highPriority errorCategories } }`,
    );
    expect(rows).toEqual({
      dashboard: [
        {
          bucket: `${day}T00:00:00.000Z`,
          channel: 'WEBHOOK',
          total: 3,
          delivered: 3,
          failed: 0,
          pending: 0,
          slaCompliance: 1,
          recipients: 3,
          highPriority: 3,
          errorCategories: [],
        },
      ],
    });
  });

  it('never shows a secret again', async () => {
    const config = {
      webhook: { url: receiver.url, headers: { Authorization: 'Bearer hunter2', 'X-Source': 'audit' } },
    };
    const { id } = await api.destination('WEBHOOK', config);
    const read = () => waybill.ask<{ destination: { config: object } }>(`{ destination(id: "${id}") { config } }`);
    const { destination } = await read();
    expect(JSON.stringify(destination)).not.toContain('hunter2');
    expect(destination.config).toMatchObject({
      webhook: { headers: { Authorization: '********', 'X-Source': 'audit' } },
    });
    const UPDATE =
      'mutation ($id: ID!, $input: DestinationInput!) { updateDestination(id: $id, input: $input) { config } }';
    const input = { label: 'same', type: 'WEBHOOK', config: destination.config };
    await waybill.ask(UPDATE, { id, input });
    await api.until((await api.request({ to: [{ destinationId: id }] })).id, 'DELIVERED');
    expect(receiver.received.at(-1)?.headers.authorization).toBe('Bearer hunter2');
    // Sent to another server, the kept header would be given away.
    const elsewhere = {
      ...input,
      config: { webhook: { ...config.webhook, url: 'https://thief.example/', headers: { Authorization: '********' } } },
    };
    expect(await api.refusal(UPDATE, { id, input: elsewhere })).toEqual([
      { code: 'BAD_USER_INPUT', paths: ['config.webhook.headers.Authorization'] },
    ]);
  });

  it('tests a destination without delivering to it', async () => {
    const { id } = await api.destination('WEBHOOK', { webhook: { url: receiver.url } });
    const { testDestination } = await waybill.ask<{ testDestination: { ok: boolean } }>(
      `mutation { testDestination(id: "${id}") { ok latencyMs problems { path problem } } }`,
    );
    expect(testDestination).toMatchObject({ ok: true, problems: [] });
  });
});

describe('subscriptions over graphql-transport-ws', () => {
  const socket = (authorization: string) =>
    createClient({
      url: `${waybill.url.replace('http', 'ws')}/graphql`,
      webSocketImpl: WebSocket,
      connectionParams: { authorization },
      retryAttempts: 0,
    });

  it('tell of a delivery until it has arrived', async () => {
    const held = await api.request({ to: [hook()], approval: { approvers: ['admin'] } });
    const other = await api.request({ to: [hook()], approval: { approvers: ['admin'] } });
    const ws = socket(`Bearer ${waybill.adminKey}`);
    const updates = ws.iterate<{ deliveryUpdated: { id: string; status: string } }>({
      query: `subscription { deliveryUpdated(id: "${held.id}") { id status } }`,
    });
    const seen: (string | undefined)[] = [];
    const reading = (async () => {
      for await (const { data } of updates) {
        seen.push(`${data?.deliveryUpdated.id} ${data?.deliveryUpdated.status}`);
        if (data?.deliveryUpdated.status === 'DELIVERED') break;
      }
    })();
    // Subscribed once its id is known to the server: a query on the same socket is answered after it.
    const known = ws.iterate({ query: '{ projections { name } }' });
    await known.next();
    await api.act('approveDelivery', { id: other.id });
    await api.act('approveDelivery', { id: held.id });
    await reading;
    expect(seen.at(-1)).toBe(`${held.id} DELIVERED`);
    expect(seen.every((line) => line?.startsWith(held.id))).toBe(true);
    await ws.dispose();
  });

  it('turn strangers away', async () => {
    const ws = socket('Bearer wrong');
    const attempt = ws.iterate({ query: 'subscription { deliveryUpdated { id } }' }).next();
    await expect(attempt).rejects.toBeTruthy();
    await ws.dispose();
  });
});

describe('rebuilding a read model', () => {
  it('shows its progress, gives the same rows, and refuses an unknown name', async () => {
    const before = await totalCount();
    const ws = createClient({
      url: `${waybill.url.replace('http', 'ws')}/graphql`,
      webSocketImpl: WebSocket,
      connectionParams: { authorization: `Bearer ${waybill.adminKey}` },
    });
    const progress = ws.iterate<{
      projectionProgress: { name: string; state: string; processed: number; total: number };
    }>({
      query: 'subscription { projectionProgress(name: "deliveries") { name state processed total } }',
    });
    const done = (async () => {
      for await (const { data } of progress)
        if (data?.projectionProgress.state === 'done') return data.projectionProgress;
      throw new Error('the progress ended before the rebuild');
    })();
    await ws.iterate({ query: '{ projections { name } }' }).next();
    await waybill.ask('mutation { rebuildProjection(name: "deliveries") { id state } }');
    const finished = await done;
    expect(finished.processed).toBe(finished.total);
    expect(await totalCount()).toBe(before);
    expect(await api.refusal('mutation { rebuildProjection(name: "nope") { id } }')).toEqual([
      { code: 'NOT_FOUND', paths: [] },
    ]);
    await ws.dispose();
  });
});
