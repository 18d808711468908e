import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WnsAdapter } from '../../../src/channels/adapters/wns.js';
import type { OutgoingMessage } from '../../../src/channels/channel.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import type { Reaction } from '../../support/peers/http-peer.js';
import { startWnsRecorder, type WnsRecorder, wnsError } from '../../support/peers/wns-recorder.js';
import { type Behaviour, conforms, LOOPBACK, messageOf, options } from './conformance.js';

const SECRET = 's3cret-of-the-app';
const DEVICE = 'https://wns2-par02p.notify.windows.com/w/?token=AwYAAABUi8RfQ2Bk7g';
const QUOTE = `${DEVICE} ${SECRET} Ada Lovelace`;
const content: Content = { subject: 'Ward 4', text: 'Ada Lovelace' };

const REACTIONS: Readonly<Record<Behaviour, Reaction | undefined>> = {
  accepts: undefined,
  unavailable: wnsError(503, QUOTE),
  unauthorized: wnsError(401, QUOTE),
  limited: wnsError(406, QUOTE, { 'retry-after': '30' }),
  silent: 'silence',
  drops: 'drop',
};

const configOf = (port: number, change: JsonObject = {}): JsonObject => ({
  service: 'wns',
  tenantId: '5f1d0d0b-1111-4222-8333-444455556666',
  clientId: '846ec553-a005-41c0-8341-123456789012',
  clientSecret: SECRET,
  to: DEVICE,
  endpoint: `http://127.0.0.1:${port}`,
  tokenEndpoint: `http://127.0.0.1:${port}/token`,
  ...change,
});

conforms({
  name: 'wns',
  create: (egress) => new WnsAdapter(egress),
  async start() {
    const recorder = await startWnsRecorder();
    const answer = (reaction: Reaction | undefined) => {
      recorder.respond = ({ path }) => (path === '/token' ? undefined : reaction);
    };
    return {
      config: configOf(recorder.port),
      port: recorder.port,
      answer,
      behave: (behaviour: Behaviour) => answer(REACTIONS[behaviour]),
      seen: () => recorder.requests.filter(({ path }) => path !== '/token').length,
      accepted: () => recorder.received.length,
      close: recorder.close,
    };
  },
  bad: [
    { change: { tenantId: 'a/b' }, path: 'tenantId' },
    { change: { clientId: '' }, path: 'clientId' },
    { change: { clientSecret: '' }, path: 'clientSecret' },
    { change: { type: 'tile' }, path: 'type' },
    { change: { to: 'http://wns2-par02p.notify.windows.com/w/?token=a' }, path: 'to' },
    { change: { to: 'https://notify.windows.com.example.com/w/?token=a' }, path: 'to' },
    { change: { to: 'https://wns2-par02p.notify.windows.com:8443/w/' }, path: 'to' },
    { change: { to: 'https://me@wns2-par02p.notify.windows.com/w/' }, path: 'to' },
    { change: { endpoint: 'http://10.0.0.1' }, path: 'endpoint' },
    { change: { tokenEndpoint: 'http://10.0.0.1' }, path: 'tokenEndpoint' },
  ],
  refusals: [
    {
      when: 'a channel that is not there',
      behave: (peer) => peer.answer(wnsError(404, QUOTE)),
      category: 'PERMANENT',
      code: 'WNS_404',
    },
    {
      when: 'a channel that has expired',
      behave: (peer) => peer.answer(wnsError(410, QUOTE)),
      category: 'PERMANENT',
      code: 'WNS_410',
    },
    {
      when: 'a channel of another app',
      behave: (peer) => peer.answer(wnsError(403, QUOTE)),
      category: 'CONFIGURATION',
      code: 'WNS_403',
    },
    {
      when: 'a malformed toast',
      behave: (peer) => peer.answer(wnsError(400, QUOTE)),
      category: 'VALIDATION',
      code: 'WNS_400',
    },
    {
      when: 'what was taken and thrown away',
      behave: (peer) => peer.answer({ headers: { 'x-wns-status': 'dropped' } }),
      category: 'PERMANENT',
      code: 'WNS_DROPPED',
    },
    {
      when: 'a device that gets too many',
      behave: (peer) => peer.answer({ headers: { 'x-wns-status': 'channelthrottled' } }),
      category: 'RATE_LIMIT',
    },
  ],
  redirect: (port) => ({ endpoint: `http://127.0.0.1:${port}`, tokenEndpoint: `http://127.0.0.1:${port}/token` }),
  addresses: { good: `${DEVICE}2`, bad: 'https://example.com/w/?token=a' },
  content,
  confidential: ['AwYAAABUi8RfQ2Bk7g', SECRET, 'Ada Lovelace'],
  retryAfterMs: 30_000,
});

describe('wns', () => {
  let recorder: WnsRecorder;
  let egress: Egress;
  let adapter: WnsAdapter;
  beforeEach(async () => {
    egress = new Egress({ allowedNetworks: LOOPBACK });
    adapter = new WnsAdapter(egress);
    recorder = await startWnsRecorder();
  });
  afterEach(async () => {
    await recorder.close();
    await egress.close();
  });
  const send = (change: JsonObject = {}, message: Content = content, more: Partial<OutgoingMessage> = {}) =>
    adapter.send(messageOf(configOf(recorder.port, change), message, more), options());

  it('gives Windows a toast, with one token for many', async () => {
    const outcome = await send({ ttlSeconds: 60 }, { subject: 'A & B', text: '<b>"now"</b>', data: { ward: 4 } });
    await send({}, content, { priority: 'LOW' });
    const [toast, second] = recorder.received;
    expect(toast).toMatchObject({
      path: '/w/?token=AwYAAABUi8RfQ2Bk7g',
      headers: {
        'content-type': 'text/xml; charset=utf-8',
        'x-wns-type': 'wns/toast',
        'x-wns-ttl': '60',
        'x-wns-requestforstatus': 'true',
        'x-wns-priority': 'High',
      },
      body: '<toast launch="{&#34;ward&#34;:4}"><visual><binding template="ToastGeneric"><text>A &#38; B</text><text>&#60;b&#62;&#34;now&#34;&#60;/b&#62;</text></binding></visual></toast>',
    });
    expect(outcome).toEqual({
      kind: 'accepted',
      delivered: false,
      providerMessageId: expect.stringMatching(/^[0-9a-f]{16}$/),
    });
    expect(second?.headers['x-wns-priority']).toBe('Low');
    // A repetition takes the place of the first.
    expect(second?.headers['x-wns-tag']).toBe(toast?.headers['x-wns-tag']);
    expect(recorder.asked).toEqual([
      {
        grant_type: 'client_credentials',
        client_id: recorder.clientId,
        client_secret: recorder.clientSecret,
        scope: 'https://wns.windows.com/.default',
      },
    ]);
  });

  it('asks as the Store wants it where the app is registered there alone', async () => {
    const { tenantId: _, ...config } = configOf(recorder.port);
    await adapter.send(messageOf(config, content), options());
    expect(recorder.asked[0]?.scope).toBe('notify.windows.com');
  });

  it('gives an app what it asks for', async () => {
    await send({ type: 'raw' }, { ...content, data: { ward: 4 } });
    const [raw] = recorder.received;
    expect(raw?.headers).toMatchObject({ 'x-wns-type': 'wns/raw', 'content-type': 'application/octet-stream' });
    expect(JSON.parse(raw?.body ?? '')).toEqual({ title: 'Ward 4', body: 'Ada Lovelace', data: { ward: 4 } });
  });

  it.each([404, 410])('says that a channel is gone (%s)', async (status) => {
    recorder.respond = ({ path }) => (path === '/token' ? undefined : wnsError(status, 'gone'));
    expect(await send()).toMatchObject({ category: 'PERMANENT', gone: true });
  });

  it('counts bytes before it sends them', async () => {
    expect(await send({}, { text: '&'.repeat(1_000) })).toMatchObject({ category: 'VALIDATION', code: 'TOO_LARGE' });
    expect(recorder.requests).toHaveLength(0);
  });

  it('tests the secret anew each time, and sends nothing', async () => {
    const test = (change: JsonObject = {}) => adapter.test(configOf(recorder.port, change), options());
    await send();
    expect(await test()).toMatchObject({ ok: true });
    expect(recorder.asked).toHaveLength(2);
    expect(await test({ clientSecret: 'another' })).toMatchObject({ ok: false, problems: [{ path: 'clientSecret' }] });
    expect(recorder.received).toHaveLength(1);
  });
});
