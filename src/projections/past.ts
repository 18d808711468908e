import type { DeliveryEvent } from '../domain/delivery-events.js';
import type { Instant } from '../domain/vocabulary.js';
import { type Decoded, type EventCodec, skippedRevisions } from '../event-store/codec.js';
import type { EventReader, RecordedEvent } from '../event-store/event-store.js';
import { BadQuery } from './cursor.js';
import { type DeliveryView, deliveries } from './views.js';

/** A moment of the log, itself included: by when events were recorded, or by position. */
export type Moment = { readonly at: Date } | { readonly position: bigint };

/** A moment that is past, so that what it shows is the same for ever. */
export interface Past {
  /** The log position that read models must have reached to know all streams of then. */
  readonly needs: bigint;
  /** Nothing that was requested later than this, by its own clock, was there. */
  readonly latest: Instant;
  readonly includes: (event: RecordedEvent) => boolean;
  /** Rows of read models that do not meet this SQL condition were then as they are now. */
  changedSince(parameter: (value: unknown) => string): string;
}

/** How far the clocks of the instances and of the event store may be apart. */
const CLOCKS_MS = 60_000;

/** @throws BadQuery for a moment that is not past */
export async function pastOf(moment: Moment, reader: EventReader, now = Date.now()): Promise<Past> {
  const head = await reader.head();
  const shifted = (time: number, by: number) => new Date(time + by).toISOString();
  if ('at' in moment) {
    const time = moment.at.getTime();
    if (time > now) throw new BadQuery('asOf.at', 'must not be in the future');
    const until = moment.at.toISOString();
    return {
      needs: head,
      latest: shifted(time, CLOCKS_MS),
      includes: ({ created }) => created <= until,
      changedSince: (parameter) => `updated_at > ${parameter(shifted(time, -CLOCKS_MS))}`,
    };
  }
  const { position } = moment;
  if (position > head) throw new BadQuery('asOf.position', `must not be beyond the end of the log, ${head}`);
  const [next] = await reader.readAll(position, 1);
  return {
    needs: position,
    latest: shifted(next ? Date.parse(next.created) : now, CLOCKS_MS),
    includes: (event) => event.position <= position,
    changedSince: (parameter) => `position > ${parameter(String(position))}`,
  };
}

/** Streams read at once. Few, because each may hold attachments. */
const AT_ONCE = 8;

/**
 * A delivery as the log has it up to some of its events, and those events; undefined when it has none of them. What cannot
 * be understood ends it, as it does in the read models.
 */
export interface PastDelivery {
  readonly view: DeliveryView;
  readonly events: readonly Decoded<DeliveryEvent>[];
}

export type Included = (event: RecordedEvent) => boolean;

/** For each delivery what `use` makes of its stream, in order; the streams themselves are let go of one by one. */
export async function eachStream<Id extends { readonly id: string }, Result>(
  reader: EventReader,
  ids: readonly Id[],
  use: (delivery: Id, recorded: readonly RecordedEvent[]) => Result,
): Promise<Result[]> {
  const results: Result[] = [];
  for (let start = 0; start < ids.length; start += AT_ONCE)
    results.push(
      ...(await Promise.all(
        ids
          .slice(start, start + AT_ONCE)
          .map(async (delivery) => use(delivery, await reader.readStream(deliveries.prefix + delivery.id))),
      )),
    );
  return results;
}

export function foldedTo(
  codec: EventCodec,
  id: string,
  recorded: readonly RecordedEvent[],
  includes: Included,
): PastDelivery | undefined {
  const skipped = skippedRevisions(recorded);
  const events: Decoded<DeliveryEvent>[] = [];
  let view: DeliveryView | undefined;
  try {
    for (const event of recorded) {
      if (skipped.has(event.revision) || !includes(event)) continue;
      const decoded = codec.decode<DeliveryEvent>(event);
      view = deliveries.fold(view, id, decoded);
      events.push(decoded);
    }
  } catch {
    // Read models park what follows; what came before stands.
  }
  return view && { view, events };
}
