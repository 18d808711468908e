import { followStreams } from '../commands/follow-streams.js';
import type { EventReader } from '../event-store/event-store.js';
import type { InboxPresence } from '../projections/inbox-presence.js';
import type { InboxOwner } from '../projections/inbox-query.js';
import { Latest } from '../projections/runner/latest.js';
import { inbox } from '../projections/views.js';
import { ApiError } from './errors.js';

/** A message that has changed, and the position of its newest change. */
export interface InboxChange {
  readonly id: string;
  readonly position: bigint;
}

/** Subscriptions at once, of all persons and of one: a page has one, and a person some pages and devices. */
const MAX_LISTENERS = 10_000;
const MAX_OF_ONE = 20;

/** Tells connected persons of changes in their inboxes: each instance follows the log, and knows who is connected to it. */
export class InboxLive {
  readonly #presence: InboxPresence;
  readonly #listeners = new Map<string, Set<Latest<InboxChange>>>();
  #count = 0;
  #follower: Promise<void> | undefined;

  constructor(presence: InboxPresence) {
    this.#presence = presence;
  }

  /** Watches the log until `signal` aborts. @param after exclusive */
  follow(reader: EventReader, after: bigint, signal: AbortSignal): void {
    this.#follower = followStreams(reader, { prefix: inbox.prefix, after, signal }, (id, { data, position }) =>
      this.#tell(String(data.person ?? data.subject), { id, position }),
    );
  }

  async stopped(): Promise<void> {
    await this.#follower;
  }

  /** Changes from now on. The person counts as connected until it is returned. @throws ApiError when there are too many */
  listen(owner: InboxOwner): Latest<InboxChange> {
    const own = this.#listeners.get(owner.person) ?? new Set();
    if (this.#count >= MAX_LISTENERS || own.size >= MAX_OF_ONE)
      throw new ApiError('RATE_LIMITED', 'too many subscriptions to inboxes are open', undefined, 10);
    const left = this.#presence.connected(owner);
    const queue = new Latest<InboxChange>(() => {
      left();
      own.delete(queue);
      this.#count -= 1;
      if (own.size === 0) this.#listeners.delete(owner.person);
    });
    own.add(queue);
    this.#listeners.set(owner.person, own);
    this.#count += 1;
    return queue;
  }

  #tell(person: string, change: InboxChange): void {
    for (const queue of this.#listeners.get(person) ?? []) queue.push(change.id, change);
  }
}
