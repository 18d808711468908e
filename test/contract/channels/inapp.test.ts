import { describe, expect, it } from 'vitest';
import { InAppAdapter } from '../../../src/channels/adapters/inapp.js';
import type { InboxMessage, InboxPort } from '../../../src/channels/messages/inbox.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import { conforms, messageOf, options } from './conformance.js';

const content: Content = { subject: 'Report', text: 'Dear Ada Lovelace', data: { link: '/reports/10' } };
const CONFIG: JsonObject = { recipient: 'user-42' };

/** As Waybill's own inboxes: the same key stores one message. */
class Inboxes implements InboxPort {
  readonly stored = new Map<string, InboxMessage>();
  isAway = false;

  async store(message: InboxMessage, key: string): Promise<{ id: string }> {
    if (this.isAway) throw new Error(`cannot store ${JSON.stringify(message)}`);
    this.stored.set(key, message);
    return { id: key };
  }
}
let inboxes = new Inboxes();

conforms({
  name: 'inapp',
  create: () => {
    inboxes = new Inboxes();
    return new InAppAdapter(inboxes);
  },
  async start() {
    return {
      config: CONFIG,
      behave: () => {
        inboxes.isAway = true;
      },
      seen: () => inboxes.stored.size,
      accepted: () => inboxes.stored.size,
      close: async () => undefined,
    };
  },
  bad: [
    { change: { recipient: '' }, path: 'recipient' },
    { change: { recipient: 'a\nb' }, path: 'recipient' },
    { change: { bodyTemplate: '{{ a' }, path: 'bodyTemplate' },
    { change: { ttlSeconds: 59 }, path: 'ttlSeconds' },
  ],
  refusals: [
    {
      when: 'an unknown variable',
      change: { bodyTemplate: '{{ nobody }}' },
      category: 'VALIDATION',
      code: 'TEMPLATE_ERROR',
    },
  ],
  addresses: { good: 'corp:8f14e45f', bad: ' ' },
  content,
  confidential: ['Ada Lovelace', '/reports/10'],
  never: ['unauthorized', 'limited'],
});

describe('inapp', () => {
  const sent = async (content: Content, config: JsonObject = {}, more = {}) => {
    const port = new Inboxes();
    const adapter = new InAppAdapter(port);
    const outcome = await adapter.send(messageOf({ ...CONFIG, ...config }, content, more), {
      ...options(),
      now: new Date('2026-03-04T05:06:07.000Z'),
    });
    return [outcome, [...port.stored.values()][0]] as const;
  };

  it('stores title, text and data, for 30 days unless the delivery expires before', async () => {
    const [, stored] = await sent(content, {}, { priority: 'HIGH' });
    expect(stored).toEqual({
      ...{ organizationId: 'organization-1', deliveryId: 'delivery-1', recipient: 'user-42', priority: 'HIGH' },
      content: { title: 'Report', text: 'Dear Ada Lovelace', data: { link: '/reports/10' } },
      expiresAt: '2026-04-03T05:06:07.000Z',
    });
    const expiresAt = '2026-03-05T00:00:00.000Z';
    expect((await sent(content, {}, { expiresAt }))[1]?.expiresAt).toBe(expiresAt);
    expect((await sent(content, { ttlSeconds: 60 }, { expiresAt }))[1]?.expiresAt).toBe('2026-03-04T05:07:07.000Z');
  });

  it('makes text of HTML, and of templates', async () => {
    expect((await sent({ html: '<h1>Hi</h1><script>alert(1)</script>' }))[1]?.content).toEqual({ text: 'HI' });
    const config = { titleTemplate: 'For {{ name }}', bodyTemplate: '{{ total }} events' };
    const [, stored] = await sent({ text: 'other', data: { total: 3 } }, config, { personalization: { name: 'A\nB' } });
    expect(stored?.content).toEqual({ title: 'For A B', text: '3 events', data: { total: 3 } });
  });

  it('refuses a message that says nothing', async () => {
    expect((await sent({}))[0]).toMatchObject({ kind: 'rejected', code: 'EMPTY_BODY' });
  });
});
