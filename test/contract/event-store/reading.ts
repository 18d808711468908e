import { randomUUID } from 'node:crypto';
import type {
  EventStore,
  RecordedEvent,
  SubscribeOptions,
  SubscriptionBatch,
} from '../../../src/event-store/event-store.js';

/** Beginning of the names of one test's streams, which no other has. */
export const newPrefix = (): string => `test${randomUUID().replaceAll('-', '')}-`;
export const newStream = (prefix = newPrefix()): string => `${prefix}${randomUUID()}`;

/** Everything after a position, in pages. */
export async function readAllAfter(store: EventStore, position: bigint, limit = 7): Promise<RecordedEvent[]> {
  const all: RecordedEvent[] = [];
  for (let from = position; ; from = all.at(-1)?.position ?? from) {
    const page = await store.readAll(from, limit);
    all.push(...page);
    if (page.length === 0) return all;
  }
}

/** Everything down to a position, from the end, in pages. */
export async function readAllDownTo(store: EventStore, position: bigint, limit: number): Promise<RecordedEvent[]> {
  const all: RecordedEvent[] = [];
  for (let before: bigint | 'end' = 'end'; ; before = all.at(-1)?.position ?? 0n) {
    const page = await store.readAllBackwards(before, limit);
    all.push(...page.filter((event) => event.position > position));
    if (page.length === 0 || page.some((event) => event.position <= position)) return all;
  }
}

/** Reads a subscription until `enough`, then ends it. */
export async function subscribed(
  store: EventStore,
  options: Omit<SubscribeOptions, 'signal'>,
  enough: (events: RecordedEvent[], batch: SubscriptionBatch) => boolean | Promise<boolean>,
): Promise<{ readonly events: RecordedEvent[]; readonly batches: SubscriptionBatch[] }> {
  const stop = new AbortController();
  const events: RecordedEvent[] = [];
  const batches: SubscriptionBatch[] = [];
  for await (const batch of store.subscribe({ ...options, signal: stop.signal })) {
    batches.push(batch);
    events.push(...batch.events);
    if (await enough(events, batch)) stop.abort();
  }
  return { events, batches };
}
