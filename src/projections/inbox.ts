import type { Instant, JsonObject, Priority } from '../domain/vocabulary.js';
import { type Column, replacing, upsert } from './columns.js';
import type { Projection } from './projection.js';
import { type InboxView, inbox } from './views.js';

/** One message of one inbox. */
export interface InboxRow {
  readonly id: string;
  readonly organizationId: string;
  /** Whose inbox, by the person's name in the log. */
  readonly person: string;
  readonly deliveryId: string;
  /** Title, text and data; sealed in the read model. */
  readonly content: JsonObject;
  readonly priority: Priority;
  readonly storedAt: Instant;
  readonly readAt: Instant | null;
  readonly expiresAt: Instant;
  /** Position in the log of its first event, as text: its place among the messages of the inbox. */
  readonly place: string;
  /** Position of its newest event. */
  readonly position: string;
}

export function inboxRow({ id, state, place, position }: InboxView): InboxRow {
  const { organizationId, subject, deliveryId, content, priority, storedAt, expiresAt, readAt = null } = state;
  return {
    id,
    organizationId,
    person: subject,
    deliveryId,
    content: content as JsonObject,
    priority,
    storedAt,
    readAt,
    expiresAt,
    place: String(place),
    position: String(position),
  };
}

const columns: readonly Column<InboxRow>[] = [
  { name: 'id', type: 'uuid', of: (row) => row.id },
  { name: 'organization_id', type: 'text', of: (row) => row.organizationId },
  { name: 'person', type: 'text', of: (row) => row.person },
  { name: 'delivery_id', type: 'uuid', of: (row) => row.deliveryId },
  { name: 'content', type: 'jsonb', of: (row) => row.content },
  { name: 'priority', type: 'text', of: (row) => row.priority },
  { name: 'stored_at', type: 'timestamptz', of: (row) => row.storedAt },
  { name: 'read_at', type: 'timestamptz', of: (row) => row.readAt },
  { name: 'expires_at', type: 'timestamptz', of: (row) => row.expiresAt },
  { name: 'place', type: 'bigint', of: (row) => BigInt(row.place) },
  { name: 'position', type: 'bigint', of: (row) => BigInt(row.position) },
];
const write = upsert('inbox_messages', columns, ['id'], replacing('read_at', 'position'));

export const inboxMessages: Projection = {
  name: 'inbox',
  version: 1,
  tables: ['inbox_messages'],
  prefixes: [inbox.prefix],
  statements: ({ inbox: changes }) =>
    changes.length === 0 ? [] : [write(changes.map(({ after }) => inboxRow(after)))],
};
