import type { RecordedEvent } from '../event-store/event-store.js';
import { announce } from './announcements.js';
import { CheckpointMoved, haveMoved, moveCheckpoints, type Parked, storeParked } from './checkpoints.js';
import type { Statement } from './columns.js';
import { type Connection, StatementFailed } from './connection.js';
import type { Folded, Folder } from './fold.js';
import type { Member } from './member.js';
import { Mutex } from './mutex.js';
import type { EventBatch } from './pacing.js';
import type { Change } from './projection.js';
import { deliveries, destinations } from './views.js';

/** A batch, understood, and what it means for each projection. */
interface Prepared {
  readonly batch: EventBatch;
  readonly from: bigint;
  readonly folded: Folded;
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

  async #prepare(batch: EventBatch, from: bigint): Promise<Prepared> {
    const prepared: Prepared = { batch, from, folded: await this.#options.folder.fold(batch.events), work: new Map() };
    try {
      for (const member of this.members) workOf(member, prepared);
    } catch (error) {
      throw this.#narrowed(batch.events, error);
    }
    return prepared;
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
    for (const member of members) {
      member.position = batch.position;
      member.parked += workOf(member, prepared).parked.length;
      if (member.poison && member.poison.position <= batch.position) member.poison = undefined;
    }
    this.onStored(folded);
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

/** SQLSTATE classes 22 (data exception), 23 (integrity) and 54 (limit exceeded, e.g. an index entry that is too long). */
const isAboutData = ({ code }: StatementFailed): boolean => /^(22|23|54)/.test(code);

function workOf(member: Member, prepared: Prepared): Work {
  let work = prepared.work.get(member);
  if (!work) {
    work = makeWork(member, prepared.folded);
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
      };
  for (const { streamId, events, error } of folded.poison) park(streamId, events, error);
  try {
    return { statements: projection.statements(usable), parked };
  } catch (error) {
    throw new RowsRefused(member, error as Error);
  }
}
