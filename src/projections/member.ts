import type { Instant } from '../domain/vocabulary.js';
import type { Projection } from './projection.js';

/** One making of a read model from the beginning of the log. */
export interface Rebuild {
  readonly id: string;
  readonly name: string;
  readonly state: 'running' | 'done' | 'failed';
  /** How far it is, and how far it has to go: events, which only the embedded log counts exactly. */
  readonly processed: number;
  readonly total: number;
  readonly startedAt: Instant;
  readonly finishedAt: Instant | null;
}

/** More streams than this cannot be understood only when the program is the wrong one for this log. */
const MAX_PARKED_STREAMS = 10_000;

/** One projection and how far it is. */
export class Member {
  readonly projection: Projection;
  position = 0n;
  /** Streams with parked events: their later events are parked too. */
  readonly parkedStreams = new Set<string>();
  /** How many events are parked. */
  parked = 0;
  /** The newest rebuild, while the program knows of it. */
  rebuild: Rebuild | undefined;
  /** When it was last said how far that is, by `performance.now()`. */
  rebuildToldAt = Number.NEGATIVE_INFINITY;
  /** An event whose rows Postgres did not take: to be parked when it comes again. */
  poison: { readonly position: bigint; readonly error: string } | undefined;

  /** Between the group and following by itself, while a rebuild begins. */
  isDetached = false;

  readonly #toldOf: (rebuild: Rebuild) => void;

  /** @param toldOf gets every change of a rebuild */
  constructor(projection: Projection, toldOf: (rebuild: Rebuild) => void) {
    this.projection = projection;
    this.#toldOf = toldOf;
  }

  /** As it was found stored: one that has begun elsewhere is news. */
  recall(rebuild: Rebuild): void {
    if (rebuild.state === 'running' && rebuild.id !== this.rebuild?.id) this.#toldOf(rebuild);
    this.rebuild = rebuild;
  }

  tell(rebuild: Rebuild): void {
    this.rebuild = rebuild;
    this.#toldOf(rebuild);
  }

  park(streamId: string): void {
    if (this.parkedStreams.has(streamId)) return;
    if (this.parkedStreams.size >= MAX_PARKED_STREAMS)
      throw new Error(`more than ${MAX_PARKED_STREAMS} streams cannot be understood: is this program too old?`);
    this.parkedStreams.add(streamId);
  }
}
