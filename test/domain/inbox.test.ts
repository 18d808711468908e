import { describe, expect, it } from 'vitest';
import { decide, evolve, type InboxCommand, type InboxEvent, inboxMessage } from '../../src/domain/inbox.js';

const [EARLIER, NOW, LATER] = ['2026-03-02T12:00:00.000Z', '2026-03-02T12:00:01.000Z', '2026-03-03T12:00:00.000Z'];
const message = {
  organizationId: 'hospital-001',
  subject: 'person:ada',
  deliveryId: 'd-1',
  content: { title: 'Report' },
  priority: 'NORMAL',
  expiresAt: LATER,
} as const;
const stored: InboxEvent = { type: 'InboxMessageStored', at: EARLIER, data: message };
const read: InboxEvent = { type: 'InboxMessageRead', at: EARLIER, data: { person: 'person:ada', by: 'corp:ada' } };

const given = (...events: InboxEvent[]) => ({
  when: (command: InboxCommand) => decide(command, events.reduce(evolve, inboxMessage.initial)),
});
const mark = (type: 'MarkRead' | 'MarkUnread', change = {}): InboxCommand => ({
  ...{ type, now: NOW, by: 'corp:ada', subject: 'person:ada' },
  ...change,
});
const nothing = { ok: true, events: [] };
const notFound = { ok: false, rejection: { code: 'NOT_FOUND' } };

describe('a message in an inbox', () => {
  it('is stored once', () => {
    const store: InboxCommand = { type: 'StoreMessage', now: NOW, message };
    expect(given().when(store)).toEqual({ ok: true, events: [{ ...stored, at: NOW }] });
    expect(given(stored).when(store)).toEqual(nothing);
  });

  it('is read and marked unread, each time it changes something', () => {
    const data = { person: 'person:ada', by: 'corp:ada' };
    expect(given(stored).when(mark('MarkRead'))).toEqual({
      ok: true,
      events: [{ type: 'InboxMessageRead', at: NOW, data }],
    });
    expect(given(stored, read).when(mark('MarkRead'))).toEqual(nothing);
    expect(given(stored).when(mark('MarkUnread'))).toEqual(nothing);
    expect(given(stored, read).when(mark('MarkUnread'))).toEqual({
      ok: true,
      events: [{ type: 'InboxMessageUnread', at: NOW, data }],
    });
  });

  it('does not exist for others, before it is stored, and after it has expired', () => {
    expect(given(stored).when(mark('MarkRead', { subject: 'person:bob' }))).toMatchObject(notFound);
    expect(given().when(mark('MarkRead'))).toMatchObject(notFound);
    expect(given(stored).when(mark('MarkRead', { now: LATER }))).toMatchObject(notFound);
  });

  it('shows when it was read', () => {
    expect([stored, read].reduce(evolve, inboxMessage.initial)).toMatchObject({ storedAt: EARLIER, readAt: EARLIER });
    expect(() => evolve(inboxMessage.initial, read)).toThrow('never stored');
    const unknown = { ...read, type: 'InboxMessageBurnt' } as unknown as InboxEvent;
    expect(() => evolve(evolve(inboxMessage.initial, stored), unknown)).toThrow('is not an event of inboxes');
  });
});
