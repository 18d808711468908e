import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TeamsAdapter } from '../../../src/channels/adapters/teams.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import type { Reaction } from '../../support/peers/http-peer.js';
import { startWebhookReceiver, type WebhookReceiver } from '../../support/peers/webhook-receiver.js';
import { type Behaviour, conforms, LOOPBACK, messageOf, options } from './conformance.js';
import { receiving } from './peers.js';

const SIGNATURE = 's1gnature-of-the-workflow';
const content: Content = { subject: 'For Ada Lovelace', text: 'Report is ready' };
const workflow = (port: number) => `http://127.0.0.1:${port}/workflows/w/triggers/manual/paths/invoke?sig=${SIGNATURE}`;
/** A workflow's refusals (https://learn.microsoft.com/azure/logic-apps/logic-apps-http-endpoint). */
const refusal = (status: number, code: string): Reaction => ({
  status,
  body: { error: { code, message: `${code} ${SIGNATURE} Ada Lovelace` } },
});

const REACTIONS: Readonly<Record<Behaviour, Reaction>> = {
  accepts: { status: 202 },
  unavailable: refusal(502, 'NoResponse'),
  unauthorized: refusal(401, 'DirectApiAuthorizationRequired'),
  limited: { ...(refusal(429, 'WorkflowTriggerIsThrottled') as object), headers: { 'retry-after': '8' } },
  silent: 'silence',
  drops: 'drop',
};

conforms({
  name: 'teams',
  create: (egress) => new TeamsAdapter(egress, 'Waybill/test'),
  start: () => receiving(({ port }) => ({ url: workflow(port) }), REACTIONS),
  bad: [
    { change: { url: 'http://10.0.0.1/' }, path: 'url' },
    { change: { title: '{{ a' }, path: 'title' },
    { change: { mentions: [{ id: 'a@b.example' }] }, path: 'mentions.0.name' },
    { change: { buttons: [{ title: 'Open' }] }, path: 'buttons.0.url' },
  ],
  refusals: [
    {
      when: 'a malformed card',
      behave: (peer) => peer.answer(refusal(400, 'TriggerInputSchemaMismatch')),
      category: 'VALIDATION',
    },
    {
      when: 'a deleted workflow',
      behave: (peer) => peer.answer(refusal(404, 'WorkflowNotFound')),
      category: 'CONFIGURATION',
    },
    {
      when: 'a template without its variable',
      change: { title: '{{ nobody }}' },
      category: 'VALIDATION',
      code: 'TEMPLATE_ERROR',
    },
  ],
  redirect: (port) => ({ url: workflow(port) }),
  addresses: { good: 'https://prod-1.westeurope.logic.azure.com/workflows/a?sig=b', bad: 'http://127.0.0.2.3/' },
  content,
  confidential: [SIGNATURE, 'Ada Lovelace'],
  retryAfterMs: 8_000,
});

describe('teams', () => {
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
  const cardOf = async (change: JsonObject, more: Content = content) => {
    const config = { url: workflow(receiver.port), ...change };
    await new TeamsAdapter(egress, 'Waybill/test').send(messageOf(config, more), options());
    const message = receiver.received[0]?.body as {
      type: string;
      attachments: { contentType: string; content: object }[];
    };
    expect(message.type).toBe('message');
    expect(message.attachments[0]?.contentType).toBe('application/vnd.microsoft.card.adaptive');
    return message.attachments[0]?.content;
  };

  it('is an adaptive card with mentions and buttons', async () => {
    const mentions = [{ id: 'ada@hospital.example', name: 'Ada' }];
    const buttons = [{ title: 'Open', url: 'https://example.com/{{deliveryId}}' }];
    expect(await cardOf({ mentions, buttons, title: 'Report of {{date}}' })).toMatchObject({
      type: 'AdaptiveCard',
      body: [{ text: 'Report of 2026-03-04' }, { text: 'Report is ready' }, { text: '<at>Ada</at>' }],
      actions: [{ type: 'Action.OpenUrl', title: 'Open', url: 'https://example.com/delivery-1' }],
      msteams: { entities: [{ type: 'mention', text: '<at>Ada</at>', mentioned: mentions[0] }] },
    });
  });

  it('may be a card of the request', async () => {
    const card = { type: 'AdaptiveCard', version: '1.5', body: [{ type: 'TextBlock', text: 'own' }] };
    expect(await cardOf({}, { data: card })).toEqual(card);
  });
});
