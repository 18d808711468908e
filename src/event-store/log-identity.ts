import { randomUUID } from 'node:crypto';
import type { EventStore } from './event-store.js';

/**
 * Who a log is: the id of the newest event in a stream of its own. Its first event is written by whoever comes first;
 * another one is added when the log begins a second time at an earlier point, restored from a backup: what was told after
 * that point before is not its story any more. Positions kept elsewhere mean something only together with the identity.
 */
export interface LogIdentity {
  readonly id: string;
  /** Whose stories have the same beginning. */
  readonly formerly: readonly string[];
}

const STREAM = 'waybill-log';

export async function identityOf(store: EventStore): Promise<LogIdentity> {
  const [first] = await store.readStream(STREAM, { limit: 1 });
  // Of several instances that start on a new log one is the first; the others read what it has written.
  if (!first) await store.append(STREAM, 'no-stream', [eventOf('LogIdentified')]);
  const ids = (await store.readStream(STREAM)).map(({ id }) => id);
  const id = ids.pop();
  if (id === undefined) throw new Error(`the event store has no stream ${STREAM}, although one was written`);
  return { id, formerly: ids };
}

/** To be called on a log that was just restored, before anybody else opens it. */
export async function markRestored(store: EventStore): Promise<void> {
  const last = await store.readLast(STREAM);
  await store.append(STREAM, last?.revision ?? 'no-stream', [eventOf('LogRestored')]);
}

const eventOf = (type: 'LogIdentified' | 'LogRestored') => ({
  id: randomUUID(),
  type,
  data: {},
  metadata: { schemaVersion: '1', occurredAt: new Date().toISOString() },
});
