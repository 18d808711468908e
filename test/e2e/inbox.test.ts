import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from 'graphql-ws';
import { OAuth2Server } from 'oauth2-mock-server';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import WebSocket from 'ws';
import { openInbox } from '../../docs/inbox/inbox.mjs';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';
import { client, ORGANIZATION } from './journeys.js';

/** In-app messages as the people see them whom they are for: stored, live, from a cursor, read, expired, forgotten. */
let waybill: WaybillProcess;
let issuer: OAuth2Server;
let folder: string;
let api: ReturnType<typeof client>;

beforeAll(async () => {
  issuer = new OAuth2Server();
  await issuer.issuer.keys.generate('RS256');
  await issuer.start(0, 'localhost');
  folder = await mkdtemp(join(tmpdir(), 'waybill-inbox-'));
  const oidc = [{ name: 'corp', issuer: issuer.issuer.url, audience: 'waybill', organization: ORGANIZATION }];
  await writeFile(join(folder, 'waybill.yaml'), JSON.stringify({ auth: { oidc } }));
  waybill = await startWaybill({ env: { WAYBILL_CONFIG: join(folder, 'waybill.yaml') } });
  api = client(waybill);
}, 120_000);
afterAll(async () => {
  await waybill?.stop();
  await Promise.all([issuer?.stop(), rm(folder, { recursive: true, force: true })]);
});

interface Message {
  readonly id: string;
  readonly title: string | null;
  readonly text: string | null;
  readonly data: unknown;
  readonly readAt: string | null;
  readonly cursor: string;
}
interface Inbox {
  readonly cursor: string;
  readonly unread: number;
  readonly hasMore: boolean;
  readonly messages: readonly Message[];
}
const FIELDS = 'id title text data readAt cursor place deliveryId';
const INBOX = `query ($after: String, $before: Position, $first: Int) {
  inbox(after: $after, before: $before, first: $first) { cursor unread hasMore messages { ${FIELDS} } } }`;

async function as<Data>(token: string, query: string, variables: object = {}): Promise<Data> {
  const response = await fetch(`${waybill.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = (await response.json()) as { data: Data; errors?: { extensions: { code: string } }[] };
  if (errors) throw new Error(errors.map(({ extensions }) => extensions.code).join());
  return data;
}
const inboxOf = async (token: string, variables: object = {}) =>
  (await as<{ inbox: Inbox }>(token, INBOX, variables)).inbox;

async function tokenFor(address: string, ttlSeconds = 3_600): Promise<string> {
  const { createInboxToken } = await waybill.ask<{ createInboxToken: { token: string } }>(
    `mutation { createInboxToken(organizationId: "${ORGANIZATION}", address: "${address}", ttlSeconds: ${ttlSeconds}) { token } }`,
  );
  return createInboxToken.token;
}
const tell = (address: string, content: object, more = {}) =>
  api.request({ to: [{ channel: 'IN_APP', address }], content, ...more });
const told = async (address: string, text: string) => {
  const { id } = await tell(address, { text });
  return await api.until(id, 'DELIVERED');
};

/** What a subscription hears, until it is closed. */
function listening(token: string, args = '') {
  const heard: Message[] = [];
  const socket = createClient({
    url: `${waybill.url.replace('http', 'ws')}/graphql`,
    webSocketImpl: WebSocket,
    retryAttempts: 0,
    connectionParams: { authorization: `Bearer ${token}` },
  });
  socket.subscribe<{ inboxChanged: Message }>(
    { query: `subscription { inboxChanged${args} { ${FIELDS} } }` },
    {
      next: ({ data }) => void (data && heard.push(data.inboxChanged)),
      error: () => undefined,
      complete: () => undefined,
    },
  );
  // Answered after the subscription on the same socket has begun.
  const begun = socket.iterate({ query: '{ me { actor } }' }).next();
  return { heard, begun, texts: () => heard.map(({ text }) => text), close: () => socket.dispose() };
}

describe('an inbox', () => {
  it('shows its owner what was delivered, and nobody else', async () => {
    const content = { subject: 'Report ready', html: '<p>Of <b>October</b></p>', data: { link: '/reports/10' } };
    const { id } = await tell('ada', content);
    const delivery = await api.until(id, 'DELIVERED');
    const ada = await tokenFor('ada');
    const { messages, unread, hasMore } = await inboxOf(ada);
    const shown = { title: 'Report ready', text: 'Of October', data: { link: '/reports/10' }, readAt: null };
    expect([unread, hasMore, messages]).toEqual([1, false, [expect.objectContaining({ ...shown, deliveryId: id })]]);
    expect(delivery.attempts).toMatchObject([{ provider: 'inapp', providerMessageId: messages[0]?.id }]);

    const bob = await tokenFor('bob');
    expect((await inboxOf(bob)).messages).toEqual([]);
    const stolen = as(bob, 'mutation ($ids: [ID!]!) { markInboxRead(ids: $ids) }', { ids: [messages[0]?.id] });
    await expect(stolen).rejects.toThrow('NOT_FOUND');
    // The token opens the inbox and nothing else, there and nowhere else.
    for (const query of ['{ deliveries { totalCount } }', '{ inbox(organizationId: "other") { cursor } }'])
      await expect(as(ada, query)).rejects.toThrow('FORBIDDEN');
    const more = 'mutation { createInboxToken(address: "bob") { token } }';
    await expect(as(ada, more)).rejects.toThrow('FORBIDDEN');
    expect((await as<{ me: { permissions: object[] } }>(ada, '{ me { permissions { permissions } } }')).me).toEqual({
      permissions: [{ permissions: [] }],
    });
  });

  it('is that of whoever logs in as its address, without a role', async () => {
    await told('corp:8f14e45f', 'for you');
    const token = await issuer.issuer.buildToken({
      scopesOrTransform: (_, payload) => Object.assign(payload, { sub: '8f14e45f', aud: 'waybill' }),
    });
    expect((await inboxOf(token)).messages.map(({ text }) => text)).toEqual(['for you']);
  });

  it('is read and marked unread, and says so to a subscription', async () => {
    const eve = await tokenFor('eve');
    const subscription = listening(eve);
    await subscription.begun;
    await told('eve', 'one');
    await expect.poll(subscription.texts, { timeout: 20_000 }).toEqual(['one']);
    const ids = subscription.heard.map(({ id }) => id);
    for (const mutation of ['markInboxRead', 'markInboxRead', 'markInboxUnread'])
      await as(eve, `mutation ($ids: [ID!]!) { ${mutation}(ids: $ids) }`, { ids });
    await expect.poll(() => subscription.heard.at(-1)?.readAt, { timeout: 20_000 }).toBeNull();
    // Its own writes show in its own queries.
    expect((await inboxOf(eve)).unread).toBe(1);
    await subscription.close();
  });

  it('tells the delivery that it was opened, once', async () => {
    const lou = await tokenFor('lou');
    const { id } = await tell('lou', { text: 'for lou' });
    await api.until(id, 'DELIVERED');
    const ids = (await inboxOf(lou)).messages.map((message) => message.id);
    const others = as(await tokenFor('jon'), 'mutation ($ids: [ID!]!) { markInboxRead(ids: $ids) }', { ids });
    await expect(others).rejects.toThrow('NOT_FOUND');
    for (const mutation of ['markInboxRead', 'markInboxRead', 'markInboxUnread', 'markInboxRead'])
      await as(lou, `mutation ($ids: [ID!]!) { ${mutation}(ids: $ids) }`, { ids });
    // The read model follows within its bound, as these were another's writes.
    interface Told {
      readonly delivery: { readonly legs: readonly { readonly engagement: { readonly opens: number } | null }[] };
    }
    const legs = async () =>
      (await waybill.ask<Told>('query ($id: ID!) { delivery(id: $id) { legs { engagement { opens } } } }', { id }))
        .delivery.legs;
    await expect.poll(legs).toEqual([{ engagement: { opens: 1 } }]);
    const told = await api.delivery(id);
    expect(told.history.filter(({ type }) => type === 'Opened')).toHaveLength(1);
    expect(told).toMatchObject({ status: 'DELIVERED' });
  });

  it('goes on from a cursor: nothing is missed and nothing told twice, by queries and by subscriptions', async () => {
    const cid = await tokenFor('cid');
    for (const text of ['1', '2', '3']) await told('cid', text);
    const { messages } = await inboxOf(cid);
    expect(messages.map(({ text }) => text)).toEqual(['3', '2', '1']);
    const [newest, , oldest] = messages as [Message, Message, Message];
    // A cursor never promises more than was read: what is shown can be newer for a moment, and is told again then.
    let { cursor } = await inboxOf(cid);
    const later = async () => {
      const page = await inboxOf(cid, { after: cursor });
      ({ cursor } = page);
      return page.messages;
    };
    await expect.poll(later).toEqual([]);
    const older = await inboxOf(cid, { before: (newest as unknown as { place: string }).place, first: 1 });
    expect([older.messages.map(({ text }) => text), older.hasMore]).toEqual([['2'], true]);

    await as(cid, 'mutation ($ids: [ID!]!) { markInboxRead(ids: $ids) }', { ids: [oldest.id] });
    await told('cid', '4');
    const subscription = listening(cid, `(after: "${cursor}")`);
    await expect.poll(subscription.texts, { timeout: 20_000 }).toEqual(['1', '4']);
    await told('cid', '5');
    await expect.poll(subscription.texts, { timeout: 20_000 }).toEqual(['1', '4', '5']);
    await subscription.close();

    const since: Message[] = [];
    for (let page = await inboxOf(cid, { after: cursor, first: 1 }); ; ) {
      since.push(...page.messages);
      if (!page.hasMore) break;
      page = await inboxOf(cid, { after: page.cursor, first: 1 });
    }
    expect(since).toEqual(subscription.heard);
    await expect(inboxOf(cid, { after: 'x' })).rejects.toThrow('BAD_USER_INPUT');
  });

  it('knows who is connected', async () => {
    const isConnected = async () => {
      const { inboxPresence } = await waybill.ask<{ inboxPresence: { isConnected: boolean }[] }>(
        `{ inboxPresence(organizationId: "${ORGANIZATION}", addresses: ["fay", "nobody"]) { isConnected } }`,
      );
      return inboxPresence.map((each) => each.isConnected);
    };
    expect(await isConnected()).toEqual([false, false]);
    const subscription = listening(await tokenFor('fay'));
    await expect.poll(isConnected, { timeout: 20_000 }).toEqual([true, false]);
    await subscription.close();
    await expect.poll(isConnected, { timeout: 20_000 }).toEqual([false, false]);
  });

  it('shows no message that has expired', async () => {
    const gil = await tokenFor('gil');
    const expiresAt = new Date(Date.now() + 8_000).toISOString();
    const { id } = await tell('gil', { text: 'soon over' }, { expiresAt });
    await api.until(id, 'DELIVERED');
    const texts = async () => (await inboxOf(gil)).messages.map(({ text }) => text);
    expect(await texts()).toEqual(['soon over']);
    await expect.poll(texts, { timeout: 20_000 }).toEqual([]);
  });

  it('closes with its token', async () => {
    const token = await tokenFor('hal', 8);
    const subscription = listening(token);
    await subscription.begun;
    const isRefused = () =>
      inboxOf(token).then(
        () => false,
        ({ message }) => message === 'UNAUTHENTICATED',
      );
    await expect.poll(isRefused, { timeout: 20_000 }).toBe(true);
    await subscription.close();
  });

  it('forgets a person who is erased', async () => {
    for (const text of ['one', 'between us']) await told('ivy of ward 4', text);
    const ivy = await tokenFor('ivy of ward 4');
    const who = `organizationId: "${ORGANIZATION}", recipient: { channel: IN_APP, address: "ivy of ward 4" }`;
    const held = async (args = '') =>
      (
        await waybill.ask<{ subjectReport: { subject: string; inboxMessages: { messages: Message[] } } }>(
          `{ subjectReport(${who}) { subject suppressions { id } inboxMessages${args} { hasMore messages { text place } } } }`,
        )
      ).subjectReport;
    const report = await held('(first: 1)');
    expect(report).toMatchObject({ inboxMessages: { hasMore: true, messages: [{ text: 'between us' }] } });
    const [{ place } = { place: '' }] = report.inboxMessages.messages as (Message & { place: string })[];
    expect(await held(`(before: "${place}")`)).toMatchObject({
      inboxMessages: { hasMore: false, messages: [{ text: 'one' }] },
    });
    const exported = async () => {
      const query = new URLSearchParams({ organizationId: ORGANIZATION, subject: report.subject });
      const headers = { authorization: `Bearer ${waybill.adminKey}` };
      return await (await fetch(`${waybill.url}/export/subject-report.jsonl?${query}`, { headers })).text();
    };
    const line = (await exported()).split('\n').find((text) => text.includes('"kind":"message"'));
    expect(JSON.parse(line as string)).toMatchObject({ organizationId: ORGANIZATION, message: { text: 'between us' } });

    const ERASE = `mutation { eraseSubject(${who}, reason: "asked for") { keysDestroyed } }`;
    await waybill.ask(`mutation { placeLegalHold(${who}, reason: "case 7") { reason } }`);
    expect(await api.refusal(ERASE)).toEqual([{ code: 'CONFLICT', paths: [] }]);
    expect((await inboxOf(ivy)).messages[0]).toMatchObject({ text: 'between us' });
    await waybill.ask(`mutation { releaseLegalHold(${who}, reason: "closed") }`);
    await waybill.ask(ERASE);
    const erased = { title: null, text: '[erased]', data: null };
    expect((await inboxOf(ivy)).messages).toMatchObject([erased, erased]);
    expect(JSON.stringify(await held()) + (await exported())).not.toMatch(/between us|ivy of/);
  });
});

describe('the page of docs/inbox', () => {
  it('shows messages as they come, marks them, and comes back after an interruption without missing one', async () => {
    await told('jan', 'before');
    const sockets: WebSocket[] = [];
    class Socket extends WebSocket {
      constructor(url: string, protocol: string) {
        super(url, protocol);
        sockets.push(this);
      }
    }
    let shown: { id: string; text: string; readAt: string | null }[] = [];
    const texts = () => shown.map(({ text }) => text);
    const problems: string[] = [];
    const inbox = openInbox({
      url: `${waybill.url.replace('http', 'ws')}/graphql`,
      token: () => tokenFor('jan'),
      onChange: (messages) => {
        shown = messages as typeof shown;
      },
      onProblem: (problem) => void problems.push(problem),
      WebSocket: Socket as never,
    });
    await expect.poll(texts, { timeout: 20_000 }).toEqual(['before']);
    await told('jan', 'live');
    await expect.poll(texts, { timeout: 20_000 }).toEqual(['live', 'before']);
    await inbox.markRead(shown[1]?.id as string);
    await expect.poll(() => shown.map(({ readAt }) => readAt !== null), { timeout: 20_000 }).toEqual([false, true]);

    sockets[0]?.terminate();
    await told('jan', 'meanwhile');
    await expect.poll(texts, { timeout: 20_000 }).toEqual(['meanwhile', 'live', 'before']);
    expect(problems).toEqual(['the connection was lost']);
    expect(sockets).toHaveLength(2);
    await inbox.markUnread(shown[2]?.id as string);
    await expect.poll(() => shown.map(({ readAt }) => readAt), { timeout: 20_000 }).toEqual([null, null, null]);
    inbox.close();
  });
});
