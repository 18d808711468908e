import type { Instant } from '../../domain/vocabulary.js';
import type { Projection } from '../projection.js';

/** Making a read model anew from the log beside the one that is asked, or going back to the one before. */
export interface Rebuild {
  readonly id: string;
  readonly name: string;
  /** `verify` compares and changes nothing; `rollback` brings the version before the last rebuild up to date. */
  readonly kind: 'rebuild' | 'verify' | 'rollback';
  readonly state: 'running' | 'done' | 'failed' | 'cancelled';
  readonly phase: 'building' | 'indexing' | 'verifying' | 'switching';
  /** Whether both versions had the same rows at the same position; null when that was not, or could not be, compared. */
  readonly comparison: 'equal' | 'different' | null;
  /** Why it failed, or what it waits for. */
  readonly reason: string | null;
  /** How far it is, and how far it has to go: events, which only the embedded log counts exactly. */
  readonly processed: number;
  readonly total: number;
  /** The most it may read; null when it may go as fast as it can. */
  readonly eventsPerSecond: number | null;
  readonly startedAt: Instant;
  readonly finishedAt: Instant | null;
}

/** Which version of a read model: the one that is asked, one that is being made, the one before the last rebuild. */
export type Role = 'live' | 'building' | 'kept';

/** More streams than this cannot be understood only when the program is the wrong one for this log. */
const MAX_PARKED_STREAMS = 10_000;

/** One version of a projection and how far it is. */
export class Member {
  readonly projection: Projection;
  readonly role: Role;
  position = 0n;
  /** Streams with parked events: their later events are parked too. */
  readonly parkedStreams = new Set<string>();
  /** How many events are parked. */
  parked = 0;
  /** Events that an operator has decided to pass over in this projection, by stream. */
  readonly skips = new Map<string, Set<bigint>>();
  /** The newest rebuild, while the program knows of it; told of the live version. */
  rebuild: Rebuild | undefined;
  /** An event whose rows Postgres did not take: to be parked when it comes again. */
  poison: { readonly position: bigint; readonly error: string } | undefined;

  readonly #toldOf: (rebuild: Rebuild) => void;

  /** @param toldOf gets every change of a rebuild */
  constructor(projection: Projection, toldOf: (rebuild: Rebuild) => void = () => {}, role: Role = 'live') {
    this.projection = projection;
    this.#toldOf = toldOf;
    this.role = role;
  }

  /** What its checkpoint and its parked events are stored under. */
  get key(): string {
    return keyOf(this.projection.name, this.role);
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

  /** From now on it is what the other one was. */
  takeOver({ position, parkedStreams, parked }: Member): void {
    this.position = position;
    this.parkedStreams.clear();
    for (const stream of parkedStreams) this.parkedStreams.add(stream);
    this.parked = parked;
    this.poison = undefined;
  }
}

export const keyOf = (name: string, role: Role): string => (role === 'live' ? name : `${name}@${role}`);

/** Where the tables of a version are that is not live. */
export const schemaOf = (name: string, role: Exclude<Role, 'live'>): string => `waybill_${role}_${name}`;
