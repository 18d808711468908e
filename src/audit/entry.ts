import { type RecordedEvent, textOf } from '../event-store/event-store.js';

/**
 * An entry of the audit trail is an event of the log; its index is the event's place in the log, counted from 0.
 *
 * Its leaf is the JSON text of `[stream, revision, id, type, data, metadata, recorded]` as `JSON.stringify` writes it:
 * byte for byte what the embedded log holds, sensitive fields as ciphertext. Nothing has to be opened to hash it, so
 * whoever destroys a key changes no hash.
 */
export const leafOf = (event: RecordedEvent): string => textOf(event);

/** What every entry of the log says of itself, to be found by. */
export interface EntryFacts {
  readonly organizationId: string | undefined;
  readonly actor: string | undefined;
  /** The stream it is in or, where it tells of an access, the one that was accessed. */
  readonly subject: string;
}

/** Events of this type tell who has looked at, or tried to do, something that is recorded nowhere else. */
export const ACCESS_RECORDED = 'AccessRecorded';

export function factsOf({ type, streamId, metadata, data }: RecordedEvent): EntryFacts {
  const subject = type === ACCESS_RECORDED && typeof data.resource === 'string' ? data.resource : streamId;
  return { organizationId: metadata.organizationId, actor: metadata.actor, subject };
}

/** Search keys. Streams have an index in the log, so only what an access is about gets a key. */
export const organizationKey = (organizationId: string): string => `o:${organizationId}`;
export const actorKey = (actor: string): string => `a:${actor}`;
export const subjectKey = (subject: string): string => `s:${subject}`;

export function addKeys(keys: Set<string>, { organizationId, actor, subject }: EntryFacts, streamId: string): void {
  if (organizationId !== undefined) keys.add(organizationKey(organizationId));
  if (actor !== undefined) keys.add(actorKey(actor));
  if (subject !== streamId) keys.add(subjectKey(subject));
}
