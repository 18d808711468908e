import type { RecordedEvent } from '../../event-store/event-store.js';
import type { Statement } from '../columns.js';
import type { Change } from '../projection.js';
import { deliveries, destinations, inbox, suppressions } from '../views.js';
import { announce } from './announcements.js';
import { CheckpointMoved, haveMoved, moveCheckpoints, type Parked, storeParked } from './checkpoints.js';
import { type Connection, isAboutData, StatementFailed } from './connection.js';
import type { Folded, Folder } from './fold.js';
import type { Member } from './member.js';
import { Mutex } from './mutex.js';
import type { EventBatch } from './pacing.js';

/** A batch, understood, and what it means for each projection. */
interface Prepared {
  readonly batch: EventBatch;
  readonly from: bigint;
  readonly folded: Folded;
  /** What it is without the events that a projection passes over, for those that do. */
  readonly without: ReadonlyMap<Member, Folded>;
  readonly work: Map<Member, Work>;
}

interface Work {
  readonly statements: readonly Statement[];
  readonly parked: readonly Parked[];
}

/** Something about the rows of one projection, not about the connection: trying again gives the same. */
export class RowsRefused extends Error {
  override name = 'RowsRefused';

  constructor(
    readonly member: Member,
    override readonly cause: Error,
  ) {
    super(`${member.projection.name}: ${cause.message}`);
  }
}

export interface TrackOptions {
  readonly folder: Folder;
  /** The writer's. */
  readonly epoch: bigint;
  /** In one batch. */
  readonly maxEvents: number;
  /** Whether there may be other instances that want to know of every batch. */
  readonly isAnnounced: boolean;
}

/**
 * A way through the log that one or more projections take together: each batch is read and folded once, and applied to
 * all of them in one transaction that also moves their checkpoints.
 *
 * When Postgres refuses the rows of a batch, smaller and smaller batches follow until one event is left to blame; that
 * one is parked for the projection that cannot store it, and the batches grow again.
 */
export class Track {
  readonly members = new Set<Member>();
  /** Everything up to here is stored, for all members. */
  position = 0n;
  caughtUp = false;
  /** When it last got on, or found nothing to do; Unix milliseconds. */
  progressAt: number | undefined;
  /** Why it does not get on, while it does not. */
  error: string | undefined;
  /** Held while a batch is stored; whoever holds it finds the track between two batches. */
  readonly turn = new Mutex();
  /** Gets what every stored batch has changed. */
  onStored: (folded: Folded) => void = () => {};
  /** A stream with parked events has got the word of an operator by which it can be understood. */
  onMended: () => void = () => {};
  /** Called between two batches, and when the track comes to rest. */
  onBoundary: () => void | Promise<void> = () => {};
  readonly #options: TrackOptions;
  #limit: number;

  constructor(options: TrackOptions) {
    this.#options = options;
    this.#limit = options.maxEvents;
  }

  /** Most events in the next batch. */
  get limit(): number {
    return this.#limit;
  }

  /** To be called whenever positions were read anew: nothing of what was folded before counts. */
  restart(position: bigint): void {
    this.#options.folder.clear();
    this.position = position;
  }

  /**
   * Stores batch after batch, preparing one while Postgres stores the one before. Ends when `batches` do.
   *
   * @param fail is told at once what went wrong, and makes `batches` end: they may rest for long
   */
  async run(batches: AsyncIterable<EventBatch>, connection: Connection, fail: (error: Error) => void): Promise<void> {
    let storing: Promise<void> = Promise.resolve();
    let reached = this.position;
    try {
      for await (const batch of batches) {
        const prepared = batch.position > reached ? await this.#prepare(batch, reached) : undefined;
        reached = batch.position;
        await storing;
        storing = this.#inTurn(prepared, batch.caughtUp, connection);
        storing.catch(fail);
        await connection.flushed();
      }
    } finally {
      await storing;
    }
  }

  async #inTurn(prepared: Prepared | undefined, caughtUp: boolean, connection: Connection): Promise<void> {
    if (prepared) await this.turn.run(() => this.#store(prepared, connection));
    this.caughtUp = caughtUp;
    if (caughtUp) this.#gotOn();
    await this.onBoundary();
  }

  /** Stores one batch. The caller holds the turn of whatever track it must not collide with. */
  async apply(batch: EventBatch, connection: Connection): Promise<void> {
    await this.#store(await this.#prepare(batch, this.position), connection);
  }

  /** Goes past an event without handling it. The caller holds the turn. */
  async parkUnread({ streamId, position, type }: RecordedEvent, error: string, connection: Connection): Promise<void> {
    const members = [...this.members];
    const parked: Parked[] = [];
    for (const member of members) {
      if (!member.projection.prefixes.some((prefix) => streamId.startsWith(prefix))) continue;
      member.park(streamId);
      member.parked++;
      parked.push({ projection: member.key, position, stream: streamId, type, error });
    }
    const moved = moveCheckpoints(members, this.#options.epoch, this.position, position);
    await connection.batch([moved, ...(parked.length > 0 ? [storeParked(parked)] : [])]);
    for (const member of members) member.position = position;
    this.position = position;
  }

  async #prepare(batch: EventBatch, from: bigint): Promise<Prepared> {
    const folded = await this.#options.folder.fold(batch.events);
    const without = new Map<Member, Folded>();
    for (const member of this.members)
      if (member.skips.size > 0) without.set(member, await this.#without(member, folded, batch));
    const prepared: Prepared = { batch, from, folded, without, work: new Map() };
    try {
      for (const member of this.members) workOf(member, prepared);
    } catch (error) {
      throw this.#narrowed(batch.events, error);
    }
    return prepared;
  }

  /** Streams of which this projection passes over something are folded for it alone. */
  async #without({ skips }: Member, folded: Folded, { events, position }: EventBatch): Promise<Folded> {
    const isOther = (prefix: string) => (change: { readonly id: string }) => !skips.has(prefix + change.id);
    const changed = {
      deliveries: folded.deliveries.filter(isOther(deliveries.prefix)),
      destinations: folded.destinations.filter(isOther(destinations.prefix)),
      suppressions: folded.suppressions.filter(isOther(suppressions.prefix)),
      inbox: folded.inbox.filter(isOther(inbox.prefix)),
      poison: folded.poison.filter(({ streamId }) => !skips.has(streamId)),
    };
    for (const streamId of new Set(events.map((event) => event.streamId))) {
      const without = skips.get(streamId);
      if (!without) continue;
      const news = events.filter((event) => event.streamId === streamId);
      try {
        const span = { after: (news[0] as RecordedEvent).position - 1n, upTo: position, without };
        const own = await this.#options.folder.refold(streamId, span);
        changed.deliveries.push(...own.deliveries);
        changed.destinations.push(...own.destinations);
        changed.suppressions.push(...own.suppressions);
        changed.inbox.push(...own.inbox);
      } catch (error) {
        changed.poison.push({ streamId, events: news, error: (error as Error).message });
      }
    }
    return changed;
  }

  async #store(prepared: Prepared, connection: Connection): Promise<void> {
    const { batch, from, folded } = prepared;
    if (from !== this.position) throw new CheckpointMoved(`the track is at ${this.position}, the batch at ${from}`);
    // One that has joined since the batch was prepared stands exactly where the batch begins.
    const members = [...this.members];
    try {
      if (members.length > 0) await this.#transaction(members, prepared, connection);
    } catch (error) {
      throw this.#narrowed(batch.events, error);
    }
    this.position = batch.position;
    this.#limit = Math.min(this.#options.maxEvents, this.#limit * 2);
    this.#gotOn();
    let isMended = false;
    for (const member of members) {
      const { parked } = workOf(member, prepared);
      member.position = batch.position;
      member.parked += parked.length;
      isMended ||= parked.some(({ type }) => type === 'EventSkipped');
      if (member.poison && member.poison.position <= batch.position) member.poison = undefined;
    }
    this.onStored(folded);
    if (isMended) this.onMended();
  }

  #gotOn(): void {
    this.error = undefined;
    this.progressAt = Date.now();
  }

  async #transaction(members: readonly Member[], prepared: Prepared, connection: Connection): Promise<void> {
    const { epoch, isAnnounced } = this.#options;
    const { position } = prepared.batch;
    const statements = [moveCheckpoints(members, epoch, prepared.from, position)];
    const owners = new Map<Statement | undefined, Member>();
    for (const member of members) {
      const { statements: rows, parked } = workOf(member, prepared);
      for (const statement of rows) owners.set(statement, member);
      statements.push(...rows, ...(parked.length > 0 ? [storeParked(parked)] : []));
    }
    if (isAnnounced) {
      const names = members.map(({ projection }) => projection.name);
      statements.push(announce({ moved: String(position), names }));
    }
    try {
      await connection.batch(statements);
    } catch (error) {
      if (!(error instanceof StatementFailed)) throw error;
      if (haveMoved(error))
        throw new CheckpointMoved(`not every projection is at position ${prepared.from} in epoch ${epoch}`);
      const member = owners.get(error.statement);
      throw member && isAboutData(error) ? new RowsRefused(member, error) : error;
    }
  }

  #narrowed(events: readonly RecordedEvent[], error: unknown): unknown {
    // Also for other reasons: Postgres may have been too slow for as many.
    this.#limit = Math.max(1, Math.floor(events.length / 2));
    if (!(error instanceof RowsRefused)) return error;
    const [only] = events;
    if (events.length === 1 && only) error.member.poison = { position: only.position, error: error.cause.message };
    return error;
  }
}

function workOf(member: Member, prepared: Prepared): Work {
  let work = prepared.work.get(member);
  if (!work) {
    work = makeWork(member, prepared.without.get(member) ?? prepared.folded);
    prepared.work.set(member, work);
  }
  return work;
}

function makeWork(member: Member, folded: Folded): Work {
  const { projection, parkedStreams, poison } = member;
  const parked: Parked[] = [];
  const park = (streamId: string, events: readonly RecordedEvent[], error: string) => {
    if (!projection.prefixes.some((prefix) => streamId.startsWith(prefix))) return;
    member.park(streamId);
    for (const { position, type } of events)
      parked.push({ projection: member.key, position, stream: streamId, type, error });
  };
  const isUsable = ({ id, events }: Change<unknown, never>, prefix: string): boolean => {
    const streamId = prefix + id;
    const recorded = () => events.map((decoded) => decoded.recorded);
    if (parkedStreams.has(streamId)) park(streamId, recorded(), 'an earlier event of this stream is parked');
    else if (poison && recorded().some(({ position }) => position === poison.position))
      park(streamId, recorded(), poison.error);
    else return true;
    return false;
  };
  const isUndisturbed = parkedStreams.size === 0 && !poison;
  const usable = isUndisturbed
    ? folded
    : {
        deliveries: folded.deliveries.filter((change) => isUsable(change as never, deliveries.prefix)),
        destinations: folded.destinations.filter((change) => isUsable(change as never, destinations.prefix)),
        suppressions: folded.suppressions.filter((change) => isUsable(change as never, suppressions.prefix)),
        inbox: folded.inbox.filter((change) => isUsable(change as never, inbox.prefix)),
      };
  for (const { streamId, events, error } of folded.poison) park(streamId, events, error);
  try {
    return { statements: projection.statements(usable), parked };
  } catch (error) {
    throw new RowsRefused(member, error as Error);
  }
}
