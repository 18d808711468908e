import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ApiAdapter } from '../../../src/channels/adapters/api.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import type { Reaction } from '../../support/peers/http-peer.js';
import { startWebhookReceiver, type WebhookReceiver } from '../../support/peers/webhook-receiver.js';
import { type Behaviour, conforms, LOOPBACK, messageOf, options } from './conformance.js';
import { receiving } from './peers.js';

const KEY = 'k3y-of-the-api';
const content: Content = { text: 'Ada Lovelace' };
const QUOTE = { message: `${KEY} Ada Lovelace` };

const REACTIONS: Readonly<Record<Behaviour, Reaction>> = {
  accepts: { status: 201 },
  unavailable: { status: 500, body: QUOTE },
  unauthorized: { status: 403, body: QUOTE },
  limited: { status: 429, headers: { 'retry-after': '7' }, body: QUOTE },
  silent: 'silence',
  drops: 'drop',
};

conforms({
  name: 'api',
  create: (egress) => new ApiAdapter(egress, 'Waybill/test'),
  start: () => receiving(({ url }) => ({ url, headers: { 'X-Api-Key': KEY } }), REACTIONS),
  bad: [
    { change: { url: '{{ host }}/x' }, path: 'url' },
    { change: { url: 'http://10.0.0.1/{{ id }}' }, path: 'url' },
    { change: { url: 'https://example.com/{{ id' }, path: 'url' },
    { change: { method: 'TRACE' }, path: 'method' },
    { change: { headers: { Host: 'x' } }, path: 'headers.Host' },
    { change: { bodyTemplate: '{% if %}' }, path: 'bodyTemplate' },
    { change: { contentType: 'json' }, path: 'contentType' },
    { change: { success: { statuses: [] } }, path: 'success.statuses' },
    { change: { success: { field: 'a..b' } }, path: 'success.field' },
  ],
  refusals: [
    { when: '404', behave: (peer) => peer.answer({ status: 404, body: QUOTE }), category: 'PERMANENT' },
    { when: '422', behave: (peer) => peer.answer({ status: 422, body: QUOTE }), category: 'VALIDATION' },
    {
      when: '200 with a failure in it',
      behave: (peer) => peer.answer({ body: { status: 'failed', ...QUOTE } }),
      change: { success: { field: 'status', equals: 'ok' } },
      category: 'PERMANENT',
      code: 'NOT_SUCCESSFUL',
    },
    {
      when: 'a status that is no success here',
      behave: (peer) => peer.answer({ status: 202, body: QUOTE }),
      change: { success: { statuses: [200] } },
      category: 'PERMANENT',
    },
  ],
  redirect: (port) => ({ url: `http://127.0.0.1:${port}/` }),
  addresses: { good: 'https://api.example.com/messages', bad: 'api.example.com' },
  content,
  confidential: [KEY, 'Ada Lovelace'],
  retryAfterMs: 7_000,
});

describe('api', () => {
  let receiver: WebhookReceiver;
  let egress: Egress;
  beforeEach(async () => {
    receiver = await startWebhookReceiver();
    egress = new Egress({ allowedNetworks: LOOPBACK });
  });
  afterEach(async () => {
    await receiver.close();
    await egress.close();
  });
  const send = (change: JsonObject, more: Content = content) =>
    new ApiAdapter(egress, 'Waybill/test').send(messageOf({ url: receiver.url, ...change }, more), options());

  it('makes URL, headers and body from templates', async () => {
    await send(
      {
        url: `${receiver.url}/{{ customer | url_encode }}?d={{ deliveryId }}`,
        method: 'PUT',
        headers: { 'X-Customer': '{{ customer }}' },
        bodyTemplate: '{"said": {{ text | json }}}',
      },
      { text: 'a "b"', data: { customer: 'é/x' } },
    );
    expect(receiver.received[0]).toMatchObject({
      method: 'PUT',
      path: '/hook/%C3%A9%2Fx?d=delivery-1',
      body: { said: 'a "b"' },
      headers: { 'x-customer': 'é/x', 'idempotency-key': 'attempt-0001', 'content-type': 'application/json' },
    });
  });

  it('lets no value choose another host', async () => {
    const url = `http://127.0.0.1:${receiver.port}{{ tail }}`;
    expect(await send({ url }, { data: { tail: '@169.254.169.254/' } })).toMatchObject({ code: 'BAD_URL' });
    expect(receiver.received).toHaveLength(0);
  });

  it('reads success and the id from the answer', async () => {
    receiver.respond = () => ({ status: 200, body: { result: { state: 'ok', id: 77 } } });
    const success = { field: 'result.state', equals: 'ok', messageIdField: 'result.id' };
    expect(await send({ success })).toEqual({ kind: 'accepted', delivered: false, providerMessageId: '77' });
    expect(await send({ success: { field: 'result.nothing' } })).toMatchObject({ code: 'NOT_SUCCESSFUL' });
  });
});
