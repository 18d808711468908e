import type { DeliveryEvent } from '../domain/delivery-events.js';
import type { DestinationEvent } from '../domain/destination.js';
import type { InboxEvent } from '../domain/inbox.js';
import type { SuppressionEvent } from '../domain/suppression.js';
import type { Decoded, DomainEvent } from '../event-store/codec.js';
import type { Statement } from './columns.js';
import type { DeliveryView, DestinationView, InboxView, SuppressionView } from './views.js';

/** A read model: what of the log it follows and what it writes. */
export interface Projection {
  readonly name: string;
  /** Raised when the same history must give other rows; a stored lower version is rebuilt at the next start. */
  readonly version: number;
  /** Its own alone: emptied when it is rebuilt. */
  readonly tables: readonly string[];
  /** Default false: true when its rows depend on the order of events of different streams. */
  readonly isOrdered?: boolean;
  /** Which streams it follows. */
  readonly prefixes: readonly string[];
  /**
   * What has to be written for a batch. Pure, and must not depend on how history was cut into batches. Never rejects
   * a recorded event: what is recorded has happened.
   */
  statements(changes: Changes): Statement[];
}

/** What a batch of events did, per stream; streams in the order of their first event. */
export interface Changes {
  readonly deliveries: readonly Change<DeliveryView, DeliveryEvent>[];
  readonly destinations: readonly Change<DestinationView, DestinationEvent>[];
  readonly suppressions: readonly Change<SuppressionView, SuppressionEvent>[];
  readonly inbox: readonly Change<InboxView, InboxEvent>[];
}

/** @returns those whose stream begins in this batch, and the others */
export function byAge<View, Event extends DomainEvent>(
  changes: readonly Change<View, Event>[],
): Record<'added' | 'others', Change<View, Event>[]> {
  const sorted: Record<'added' | 'others', Change<View, Event>[]> = { added: [], others: [] };
  for (const change of changes) sorted[change.before ? 'others' : 'added'].push(change);
  return sorted;
}

export interface Change<View, Event extends DomainEvent> {
  readonly id: string;
  /** Undefined when the stream begins in this batch. */
  readonly before: View | undefined;
  readonly after: View;
  /** What leads from one to the other, at least one, in order. */
  readonly events: readonly Decoded<Event>[];
}
