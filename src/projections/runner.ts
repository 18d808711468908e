import type pg from 'pg';
import type { EventCodec } from '../event-store/codec.js';
import type { EventReader } from '../event-store/event-store.js';
import { loadCheckpoints } from './checkpoints.js';
import { Connection } from './connection.js';
import { type Folded, Folder, streamPrefixes } from './fold.js';
import { Follower } from './follower.js';
import { Member, type Rebuild } from './member.js';
import { paced } from './pacing.js';
import type { Projection } from './projection.js';
import { beginRebuild, finishRebuild, loadRebuilds, RebuildConflict, UnknownProjection } from './rebuild.js';
import { projections as everyProjection } from './registry.js';
import { keepTrying, type Session } from './session.js';
import { Track } from './track.js';

export interface RunnerOptions {
  readonly reader: EventReader;
  readonly codec: EventCodec;
  readonly postgres: pg.ClientConfig;
  /** Default: every read model there is. */
  readonly projections?: readonly Projection[];
  /** Default 1,000 events, or … */
  readonly batchEvents?: number;
  /** … default 25 ms after the batch before, whichever comes first, make one transaction. */
  readonly batchDelayMs?: number;
  /** Default 20,000 deliveries whose state is kept in memory. */
  readonly cachedViews?: number;
}

/** What the runner tells while it works. Called between batches; must not throw. */
export interface RunnerObserver {
  progress?(): void;
  changed?(deliveries: readonly DeliveryChange[]): void;
  rebuild?(rebuild: Rebuild): void;
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
  readonly rebuild: Rebuild | undefined;
  /** It is not one of those that are fed together, but on its way to them through history. */
  readonly isBehind: boolean;
}

/** Whoever keeps the read models up to date, in this thread or another. */
export interface Runner {
  start(): void;
  stop(): Promise<void>;
  progress(): readonly ProjectionProgress[];
  rebuild(name: string): Promise<Rebuild>;
  /** Whether anybody wants to know which deliveries change. */
  watch(isWanted: boolean): void;
}

/**
 * Keeps the read models up to date.
 *
 * The **group** is all projections at the newest position; one subscription feeds them, one transaction per batch
 * stores them. A projection that lags or is rebuilt is a **follower**: it reads history by itself, and once at most a
 * batch is missing it makes the group stand still between two batches, goes to exactly its position and joins it.
 */
export class ProjectionRunner implements Runner {
  readonly #options: Required<RunnerOptions>;
  readonly #observer: RunnerObserver;
  readonly #members: readonly Member[];
  readonly #group: Track;
  readonly #followers = new Map<Member, Follower>();
  readonly #stopping = new AbortController();
  #leading: Promise<void> | undefined;
  #hasLoaded = false;
  #isWatched = false;

  constructor(options: RunnerOptions, observer: RunnerObserver = {}) {
    const { projections = everyProjection, batchEvents = 1_000, batchDelayMs = 25, cachedViews = 20_000 } = options;
    this.#options = { ...options, projections, batchEvents, batchDelayMs, cachedViews };
    this.#observer = observer;
    this.#members = projections.map((projection) => new Member(projection, (rebuild) => observer.rebuild?.(rebuild)));
    this.#group = this.#newTrack();
    this.#group.onStored = (folded) => this.#announce(folded);
    this.#group.onBoundary = this.#changed;
  }

  start(): void {
    const { postgres } = this.#options;
    this.#leading ??= keepTrying(this.#group, postgres, this.#stopping.signal, (s) => this.#lead(s), this.#changed);
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
        return await beginRebuild(connection, member, await this.#options.reader.head());
      } finally {
        await connection.close();
      }
    } finally {
      // Also when it could not begin: it goes on from wherever its checkpoint is.
      member.isDetached = false;
      this.#follow(member);
    }
  }

  readonly #changed = (): void => this.#observer.progress?.();

  readonly #trackOf = (member: Member): Track => this.#followers.get(member)?.track ?? this.#group;

  #stateOf(member: Member): ProjectionState {
    const track = this.#trackOf(member);
    if (track.error !== undefined) return 'failing';
    if (member.rebuild?.state === 'running') return 'rebuilding';
    return track === this.#group && track.caughtUp ? 'running' : 'catching-up';
  }

  #newTrack(): Track {
    const { reader, codec, cachedViews, batchEvents } = this.#options;
    return new Track(new Folder(reader, codec, cachedViews), batchEvents);
  }

  async #lead({ connection, signal, fail }: Session): Promise<void> {
    const { reader, batchDelayMs } = this.#options;
    const group = this.#group;
    await group.turn.run(() => this.#muster(connection));
    this.#changed();
    const source = reader.subscribe({
      after: group.position,
      prefixes: streamPrefixes,
      batchSize: group.limit,
      signal,
    });
    await group.run(paced(source, { maxEvents: () => group.limit, delayMs: batchDelayMs }), connection, fail);
  }

  /** Reads the group's checkpoints anew; who is not at the newest position follows by itself. */
  async #muster(connection: Connection): Promise<void> {
    const group = this.#group;
    if (!this.#hasLoaded) for (const member of this.#members) group.members.add(member);
    const members = [...group.members];
    const outdated = await loadCheckpoints(connection, members);
    const rebuilds = this.#hasLoaded ? [] : await loadRebuilds(connection);
    for (const member of members)
      member.rebuild ??= rebuilds.find((rebuild) => rebuild.name === member.projection.name);
    for (const member of outdated)
      await beginRebuild(connection, member, await this.#options.reader.head(), { supersede: true });
    this.#hasLoaded = true;

    let newest = members.length > 0 ? 0n : group.position;
    for (const { position } of members) if (position > newest) newest = position;
    group.restart(newest);
    for (const member of members) {
      if (member.position === newest) await finishRebuild(connection, member);
      else {
        group.members.delete(member);
        this.#follow(member);
      }
    }
  }

  #follow(member: Member): void {
    if (this.#stopping.signal.aborted) return;
    const { reader, postgres } = this.#options;
    const track = this.#newTrack();
    const follower = new Follower({ member, track, group: this.#group, reader, postgres, changed: this.#changed });
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
