import { type Decision, record, reject } from './rejection.js';
import type { Instant, Json, Priority } from './vocabulary.js';

/** One message in a person's inbox: the in-app channel. Stored when it is delivered, read and marked unread by the person. */

/** What the person sees. No HTML: a page that shows somebody else's HTML as its own can be made to do anything. */
export interface InboxContent {
  readonly title?: string;
  readonly text?: string;
  readonly data?: Json;
}

export interface StoredMessage {
  readonly organizationId: string;
  /** The person's name in the log, from which nobody can tell the address. */
  readonly subject: string;
  /** Whose key protects the content: the person's, for the week and class of the delivery; the person's own without it. */
  readonly keptAs?: string;
  readonly deliveryId: string;
  readonly content: InboxContent;
  readonly priority: Priority;
  /** From then on it is shown no more. */
  readonly expiresAt: Instant;
}

interface Marked {
  /** Whose inbox it is in, by their name. Not `subject`: nothing in here needs a key. */
  readonly person: string;
  readonly by: string;
}

export type InboxEvent =
  | { readonly type: 'InboxMessageStored'; readonly at: Instant; readonly data: StoredMessage }
  | { readonly type: 'InboxMessageRead'; readonly at: Instant; readonly data: Marked }
  | { readonly type: 'InboxMessageUnread'; readonly at: Instant; readonly data: Marked };

export type InboxState =
  | { readonly tag: 'absent' }
  | ({ readonly tag: 'stored'; readonly storedAt: Instant; readonly readAt?: Instant } & StoredMessage);

export type InboxCommand =
  | { readonly type: 'StoreMessage'; readonly now: Instant; readonly message: StoredMessage }
  | {
      readonly type: 'MarkRead' | 'MarkUnread';
      readonly now: Instant;
      readonly by: string;
      /** Whose inbox it is looked for in; in another one there is no such message. */
      readonly subject: string;
    };

export function decide(command: InboxCommand, state: InboxState): Decision<InboxEvent> {
  const { now } = command;
  if (command.type === 'StoreMessage')
    return state.tag === 'absent' ? record({ type: 'InboxMessageStored', at: now, data: command.message }) : record();
  const { subject, by, type } = command;
  if (state.tag === 'absent' || state.subject !== subject || state.expiresAt <= now)
    return reject('NOT_FOUND', 'there is no such message in this inbox');
  const isRead = state.readAt !== undefined;
  if (isRead === (type === 'MarkRead')) return record();
  return record({ type: isRead ? 'InboxMessageUnread' : 'InboxMessageRead', at: now, data: { person: subject, by } });
}

export function evolve(state: InboxState, event: InboxEvent): InboxState {
  if (event.type === 'InboxMessageStored') return { tag: 'stored', storedAt: event.at, ...event.data };
  if (state.tag === 'absent') throw new Error(`${event.type} is recorded of a message that was never stored`);
  const { readAt: _, ...unread } = state;
  switch (event.type) {
    case 'InboxMessageRead':
      return { ...unread, readAt: event.at };
    case 'InboxMessageUnread':
      return unread;
    default:
      // Not a matter of types: the event is whatever was recorded under this name.
      throw new Error(`${(event as { type: string }).type} is not an event of inboxes`);
  }
}

export const inboxMessage = {
  category: 'inbox',
  initial: { tag: 'absent' } as InboxState,
  decide,
  evolve,
} as const;
