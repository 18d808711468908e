import type pg from 'pg';
import type { Instant } from '../domain/vocabulary.js';
import type { EventCodec } from '../event-store/codec.js';
import type { EventReader } from '../event-store/event-store.js';
import { CheckpointMoved, loadCheckpoints } from './checkpoints.js';
import { Connection } from './connection.js';
import { type Folded, Folder, streamPrefixes } from './fold.js';
import { Follower } from './follower.js';
import { Member, type Rebuild } from './member.js';
import { paced } from './pacing.js';
import type { Projection } from './projection.js';
import {
  beginRebuild,
  finishRebuild,
  RebuildConflict,
  recallRebuilds,
  storeRebuildProgress,
  UnknownProjection,
} from './rebuild.js';
import { projections as everyProjection } from './registry.js';
import { keepTrying, type Session, type Trials } from './session.js';
import { Track } from './track.js';

export interface RunnerOptions {
  readonly reader: EventReader;
  readonly codec: EventCodec;
  readonly postgres: pg.ClientConfig;
  /** Default: every read model there is. */
  readonly projections?: readonly Projection[];
  /** Default 2,000 events, or … */
  readonly batchEvents?: number;
  /** … default 25 ms after the batch before, four times that under load, whichever comes first, make one transaction. */
  readonly batchDelayMs?: number;
  /** Default 20,000 deliveries whose state is kept in memory. */
  readonly cachedViews?: number;
  /** Default 30,000 ms without progress although there is something to do, after which a projection is failing. */
  readonly stalledAfterMs?: number;
}

/** So many times longer are batches waited for while events come fast. */
const BUSY = 4;

/** How this runner came to be the writer. */
export interface Writership {
  /** Default 0n: nobody ever asked for a lease. */
  readonly epoch?: bigint;
  /** Default false: whether other instances are told of every batch. */
  readonly isAnnounced?: boolean;
}

/** What the runner tells while it works. Called between batches; must not throw. */
export interface RunnerObserver {
  progress?(): void;
  changed?(deliveries: readonly DeliveryChange[]): void;
  rebuild?(rebuild: Rebuild): void;
  /** Another instance is the writer; nothing more is stored here. */
  superseded?(): void;
}

/** A delivery whose read model shows something new. */
export interface DeliveryChange {
  readonly id: string;
  readonly organizationId: string;
}

export type ProjectionState = 'running' | 'catching-up' | 'rebuilding' | 'failing';

export interface ProjectionProgress {
  readonly name: string;
  readonly version: number;
  readonly state: ProjectionState;
  /** Everything up to here is stored. */
  readonly position: bigint;
  /** Events kept aside because they could not be understood or stored. */
  readonly parked: number;
  /** Why it is failing. */
  readonly lastError: string | undefined;
  /** When it last got on, or found that there was nothing to do. */
  readonly progressAt: Instant | undefined;
  readonly rebuild: Rebuild | undefined;
  /** It is not one of those that are fed together, but on its way to them through history. */
  readonly isBehind: boolean;
}

/** Up to where all projections are that are fed together: nobody can wait for the others. 0n when there are none. */
export function visiblePosition(progress: readonly ProjectionProgress[]): bigint {
  let least: bigint | undefined;
  for (const { position, isBehind } of progress)
    if (!isBehind && (least === undefined || position < least)) least = position;
  return least ?? 0n;
}

/** Whoever keeps the read models up to date, or knows how far they are: in this thread or another, here or elsewhere. */
export interface Runner {
  start(): void;
  stop(): Promise<void>;
  progress(): readonly ProjectionProgress[];
  /** @throws UnknownProjection, RebuildConflict */
  rebuild(name: string): Promise<Rebuild>;
  /**
   * Whether anybody wants to know which deliveries change.
   *
   * @param after up to where the asker knows what the read models show; default from now on
   */
  watch(isWanted: boolean, after?: bigint): void;
}

/**
 * Keeps the read models up to date.
 *
 * The **group** is all projections at the newest position; one subscription feeds them, one transaction per batch
 * stores them. A projection that lags or is rebuilt is a **follower**: it reads history by itself, and once at most a
 * batch is missing it makes the group stand still between two batches, goes to exactly its position and joins it.
 */
export class ProjectionRunner implements Runner {
  readonly #options: Required<RunnerOptions & Writership>;
  readonly #observer: RunnerObserver;
  readonly #members: readonly Member[];
  readonly #group: Track;
  readonly #followers = new Map<Member, Follower>();
  readonly #trials: Omit<Trials, 'signal'>;
  readonly #stopping = new AbortController();
  #leading: Promise<void> | undefined;
  #endSession: (cause: Error) => void = () => {};
  /** Where the log ended when the group was mustered. */
  #aim = 0n;
  #hasLoaded = false;
  #isWatched = false;

  constructor(options: RunnerOptions & Writership, observer: RunnerObserver = {}) {
    this.#options = {
      ...options,
      projections: options.projections ?? everyProjection,
      batchEvents: options.batchEvents ?? 2_000,
      batchDelayMs: options.batchDelayMs ?? 25,
      cachedViews: options.cachedViews ?? 20_000,
      stalledAfterMs: options.stalledAfterMs ?? 30_000,
      epoch: options.epoch ?? 0n,
      isAnnounced: options.isAnnounced ?? false,
    };
    this.#observer = observer;
    const { projections, postgres, reader, stalledAfterMs, isAnnounced } = this.#options;
    this.#members = projections.map((projection) => new Member(projection, (rebuild) => observer.rebuild?.(rebuild)));
    this.#trials = {
      postgres,
      patience: { reader, stalledAfterMs },
      changed: this.#changed,
      superseded: () => observer.superseded?.(),
    };
    this.#group = this.#newTrack(isAnnounced);
    this.#group.onStored = (folded) => this.#announce(folded);
  }

  /** Whether it is known how far the projections are. */
  get isLoaded(): boolean {
    return this.#hasLoaded;
  }

  start(): void {
    const trials = { ...this.#trials, signal: this.#stopping.signal };
    this.#leading ??= keepTrying(this.#group, trials, (session) => this.#lead(session));
  }

  /** Finishes the batches at hand. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#leading;
    await Promise.all([...this.#followers.values()].map((follower) => follower.stop()));
  }

  watch(isWanted: boolean): void {
    this.#isWatched = isWanted;
  }

  progress(): ProjectionProgress[] {
    return this.#members.map((member) => ({
      name: member.projection.name,
      version: member.projection.version,
      state: this.#stateOf(member),
      position: member.position,
      parked: member.parked,
      lastError: this.#trackOf(member).error,
      progressAt: instant(this.#trackOf(member).progressAt),
      rebuild: member.rebuild,
      isBehind: this.#hasLoaded && !this.#group.members.has(member),
    }));
  }

  /**
   * Empties a projection and makes it again from the beginning of the log. Returns once it has begun; a restart of the
   * program does not stop it.
   *
   * @throws UnknownProjection
   * @throws RebuildConflict when it is being rebuilt already
   */
  async rebuild(name: string): Promise<Rebuild> {
    const member = this.#members.find(({ projection }) => projection.name === name);
    if (!member) throw new UnknownProjection(`there is no projection ${name}`);
    if (member.rebuild?.state === 'running' || member.isDetached)
      throw new RebuildConflict(`${name} is being rebuilt already`);
    member.isDetached = true;
    try {
      await this.#detach(member);
      const connection = await Connection.open(this.#options.postgres, () => {});
      try {
        return await this.#begin(connection, member);
      } finally {
        await connection.close();
      }
    } finally {
      // Also when it could not begin: it goes on from wherever its checkpoint is.
      member.isDetached = false;
      this.#follow(member);
    }
  }

  /** To be told of rebuilds that other instances have begun: the projection stands at the beginning of the log. */
  learn({ name, id }: Pick<Rebuild, 'name' | 'id'>): void {
    const member = this.#members.find(({ projection }) => projection.name === name);
    if (!member || member.isDetached || member.rebuild?.id === id) return;
    this.#endSession(new CheckpointMoved(`${name} is being rebuilt`));
  }

  readonly #changed = (): void => this.#observer.progress?.();

  readonly #trackOf = (member: Member): Track => this.#followers.get(member)?.track ?? this.#group;

  #stateOf(member: Member): ProjectionState {
    const track = this.#trackOf(member);
    if (track.error !== undefined) return 'failing';
    if (member.rebuild?.state === 'running') return 'rebuilding';
    return track === this.#group && track.caughtUp ? 'running' : 'catching-up';
  }

  #newTrack(isAnnounced = false): Track {
    const { reader, codec, cachedViews, batchEvents, epoch } = this.#options;
    const folder = new Folder(reader, codec, cachedViews);
    return new Track({ folder, epoch, maxEvents: batchEvents, isAnnounced });
  }

  async #begin(connection: Connection, member: Member, supersede = false): Promise<Rebuild> {
    const { reader, epoch } = this.#options;
    const total = reader.eventsBetween(0n, await reader.head());
    const rebuild = await beginRebuild(connection, { projection: member.projection, total, epoch, supersede });
    member.position = 0n;
    member.tell(rebuild);
    return rebuild;
  }

  async #lead({ connection, signal, fail }: Session): Promise<void> {
    this.#endSession = fail;
    const { reader, batchDelayMs } = this.#options;
    const group = this.#group;
    await group.turn.run(() => this.#muster(connection));
    group.onBoundary = () => this.#afterBatch(connection);
    this.#changed();
    const source = reader.subscribe({
      after: group.position,
      prefixes: streamPrefixes,
      batchSize: group.limit,
      signal,
    });
    const pace = { maxEvents: () => group.limit, delayMs: batchDelayMs, busyDelayMs: batchDelayMs * BUSY };
    await group.run(paced(source, pace), connection, fail);
  }

  /** Reads the group's checkpoints anew; who is not at the newest position follows by itself. */
  async #muster(connection: Connection): Promise<void> {
    const { reader, epoch } = this.#options;
    const group = this.#group;
    if (!this.#hasLoaded) for (const member of this.#members) group.members.add(member);
    const members = [...group.members];
    const outdated = await loadCheckpoints(connection, members, epoch);
    await recallRebuilds(connection, members);
    this.#aim = await reader.head();
    for (const member of outdated) await this.#begin(connection, member, true);
    this.#hasLoaded = true;

    let newest = members.length > 0 ? 0n : group.position;
    for (const { position } of members) if (position > newest) newest = position;
    group.restart(newest);
    for (const member of members) {
      if (member.position === newest) await this.#settle(connection, member);
      else {
        group.members.delete(member);
        this.#follow(member);
      }
    }
  }

  async #afterBatch(connection: Connection): Promise<void> {
    this.#changed();
    for (const member of this.#group.members) await this.#settle(connection, member);
  }

  /** The group may be on its way through history itself: a rebuild of a part of it ends where the log ended. */
  async #settle(connection: Connection, member: Member): Promise<void> {
    if (member.rebuild?.state !== 'running') return;
    const { reader, epoch } = this.#options;
    if (member.position >= this.#aim) await finishRebuild(connection, member, epoch, reader);
    else await storeRebuildProgress(connection, member, epoch, reader, this.#aim);
  }

  #follow(member: Member): void {
    if (this.#stopping.signal.aborted) return;
    const { reader, epoch } = this.#options;
    const [track, group] = [this.#newTrack(), this.#group];
    const joining = (connection: Connection) => this.#settle(connection, member);
    const follower = new Follower({ ...this.#trials, member, track, group, reader, epoch, joining });
    this.#followers.set(member, follower);
    void follower.ended.then(() => {
      if (this.#followers.get(member) === follower) this.#followers.delete(member);
      this.#changed();
    });
  }

  /** Takes the member out of the group, or ends its following. */
  async #detach(member: Member): Promise<void> {
    await this.#followers.get(member)?.stop();
    await this.#group.turn.run(async () => {
      this.#group.members.delete(member);
    });
  }

  #announce({ deliveries }: Folded): void {
    if (!this.#isWatched || deliveries.length === 0) return;
    this.#observer.changed?.(
      deliveries.map(({ id, after }) => ({ id, organizationId: after.state.request.organizationId })),
    );
  }
}

const instant = (milliseconds: number | undefined): Instant | undefined =>
  milliseconds === undefined ? undefined : new Date(milliseconds).toISOString();
