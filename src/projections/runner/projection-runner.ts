import type pg from 'pg';
import type { Instant } from '../../domain/vocabulary.js';
import type { EventCodec } from '../../event-store/codec.js';
import type { EventReader } from '../../event-store/event-store.js';
import type { Projection } from '../projection.js';
import { projections as everyProjection } from '../registry.js';
import { Build } from './build.js';
import { Caution } from './caution.js';
import { CheckpointMoved, insertCheckpoints, loadCheckpoints } from './checkpoints.js';
import { Connection } from './connection.js';
import { Convoy } from './convoy.js';
import { type Folded, Folder, streamPrefixes } from './fold.js';
import { Follower } from './follower.js';
import { Member, type Rebuild } from './member.js';
import { Mutex } from './mutex.js';
import { livePace, paced } from './pacing.js';
import { type Skip, skipParked, takeUpParked, wantParked } from './parking.js';
import {
  beginRebuilds,
  endRebuild,
  RebuildConflict,
  type RebuildOptions,
  recallRebuilds,
  UnknownProjection,
} from './rebuild.js';
import type { ProjectionProgress, ProjectionState, Runner, RunnerObserver } from './runner.js';
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
  /**
   * … default 25 ms after the batch before, whichever comes first, make one transaction. Under load it is sixteen times
   * as long, and four times as many events; four times as long while somebody waits for them.
   */
  readonly batchDelayMs?: number;
  /** Default 20,000 deliveries whose state is kept in memory. */
  readonly cachedViews?: number;
  /** Default 30,000 ms without progress although there is something to do, after which a projection is failing. */
  readonly stalledAfterMs?: number;
  /** Default 24 hours for which the version that a rebuild has replaced can be gone back to. */
  readonly keepReplacedMs?: number;
}

/** How this runner came to be the writer. */
export interface Writership {
  /** Default 0n: nobody ever asked for a lease. */
  readonly epoch?: bigint;
  /** Default false: whether other instances are told of every batch. */
  readonly isAnnounced?: boolean;
}

/**
 * Keeps the read models up to date.
 *
 * The **group** is all projections at the newest position; one subscription feeds them, one transaction per batch
 * stores them. A projection that lags is a **follower**: it reads history by itself, and once at most a batch is missing
 * it makes the group stand still between two batches, goes to exactly its position and joins it. A projection that is
 * rebuilt stays where it is, while a **build** makes its next version.
 */
export class ProjectionRunner implements Runner {
  readonly #options: Required<RunnerOptions & Writership>;
  readonly #observer: RunnerObserver;
  readonly #members: readonly Member[];
  readonly #group: Track;
  readonly #caution: Caution;
  readonly #followers = new Map<Member, Follower>();
  readonly #builds = new Map<Member, Build>();
  readonly #heavy = new Mutex();
  readonly #trials: Omit<Trials, 'signal'>;
  readonly #stopping = new AbortController();
  #leading: Promise<void> | undefined;
  #endSession: (cause: Error) => void = () => {};
  #hasLoaded = false;
  /** Those for which a rebuild is being asked for here. */
  readonly #beginning = new Set<Member>();
  /** Those whose rows an older version of the program has made. */
  readonly #outdated = new Set<Member>();
  #isWatched = false;
  #isAwaited = false;

  constructor(options: RunnerOptions & Writership, observer: RunnerObserver = {}) {
    this.#options = {
      ...options,
      projections: options.projections ?? everyProjection,
      batchEvents: options.batchEvents ?? 2_000,
      batchDelayMs: options.batchDelayMs ?? 25,
      cachedViews: options.cachedViews ?? 20_000,
      stalledAfterMs: options.stalledAfterMs ?? 30_000,
      keepReplacedMs: options.keepReplacedMs ?? 24 * 3_600_000,
      epoch: options.epoch ?? 0n,
      isAnnounced: options.isAnnounced ?? false,
    };
    this.#observer = observer;
    const { projections, postgres, epoch, reader, stalledAfterMs, isAnnounced } = this.#options;
    this.#members = projections.map((projection) => new Member(projection, (rebuild) => observer.rebuild?.(rebuild)));
    this.#trials = {
      ...{ postgres, epoch },
      patience: { reader, stalledAfterMs },
      changed: this.#changed,
      superseded: () => observer.superseded?.(),
    };
    this.#group = this.#newTrack({ isAnnounced });
    this.#group.onStored = (folded) => this.#announce(folded);
    this.#group.onMended = () =>
      this.#endSession(new CheckpointMoved('a stream with parked events can be understood now'));
    this.#caution = new Caution(reader);
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
    const others = [...this.#followers.values(), ...this.#builds.values()];
    await Promise.all(others.map((other) => other.stop()));
  }

  watch(isWanted: boolean): void {
    this.#isWatched = isWanted;
  }

  hasten(isAwaited: boolean): void {
    this.#isAwaited = isAwaited;
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
      rebuild: this.#rebuildOf(member),
      isBehind: this.#hasLoaded && !this.#group.members.has(member),
    }));
  }

  async rebuild(name: string, options: RebuildOptions = {}): Promise<Rebuild> {
    return (await this.rebuildAll([name], options))[0] as Rebuild;
  }

  async rebuildAll(names?: readonly string[], options: RebuildOptions = {}): Promise<Rebuild[]> {
    const members = names ? [...new Set(names)].map((name) => this.#member(name)) : this.#members;
    for (const member of members)
      if (member.rebuild?.state === 'running' || this.#beginning.has(member))
        throw new RebuildConflict(`${member.projection.name} is being rebuilt already`);
    for (const member of members) this.#beginning.add(member);
    try {
      const rebuilds = await this.#connected((connection) => this.#begin(connection, members, options));
      this.#build(members);
      return rebuilds;
    } finally {
      for (const member of members) this.#beginning.delete(member);
    }
  }

  async cancelRebuild(name: string): Promise<Rebuild> {
    const member = this.#member(name);
    if (this.#outdated.has(member))
      throw new RebuildConflict(`the rows of ${name} are of an older version of this program: it has to be rebuilt`);
    return await this.#connected(async (connection) => {
      await this.#builds.get(member)?.stop();
      try {
        const rebuild = await endRebuild(connection, name, { state: 'cancelled', reason: null });
        member.tell(rebuild);
        return rebuild;
      } finally {
        if (member.rebuild?.state === 'running') this.#build([member]);
      }
    });
  }

  async retryParked(name: string): Promise<number> {
    this.#member(name);
    const count = await this.#connected((connection) => wantParked(connection, name));
    if (count > 0) this.takeUp(name);
    return count;
  }

  async skipParked(name: string, skip: Skip): Promise<void> {
    this.#member(name);
    await this.#connected((connection) => connection.transaction(() => skipParked(connection, name, skip)));
    this.takeUp(name);
  }

  /** To be told that somebody wants parked events to be tried again: the next session begins with that. */
  takeUp(name: string): void {
    this.#endSession(new CheckpointMoved(`parked events of ${name} are tried again`));
  }

  /** To be told of rebuilds that other instances have begun or ended. */
  learn({ name, id }: Pick<Rebuild, 'name' | 'id'>): void {
    const member = this.#members.find(({ projection }) => projection.name === name);
    if (!member || member.rebuild?.id === id || this.#beginning.has(member)) return;
    this.#endSession(new CheckpointMoved(`${name} is being rebuilt`));
  }

  #member(name: string): Member {
    const member = this.#members.find(({ projection }) => projection.name === name);
    if (!member) throw new UnknownProjection(`there is no projection ${name}`);
    return member;
  }

  async #connected<Result>(work: (connection: Connection) => Promise<Result>): Promise<Result> {
    const connection = await Connection.open(this.#options.postgres, () => {});
    try {
      return await work(connection);
    } finally {
      await connection.close();
    }
  }

  readonly #changed = (): void => this.#observer.progress?.();

  readonly #trackOf = (member: Member): Track => this.#followers.get(member)?.track ?? this.#group;

  #rebuildOf(member: Member): Rebuild | undefined {
    const reason = this.#builds.get(member)?.error;
    return member.rebuild && reason !== undefined ? { ...member.rebuild, reason } : member.rebuild;
  }

  #stateOf(member: Member): ProjectionState {
    const track = this.#trackOf(member);
    if (track.error !== undefined) return 'failing';
    if (member.rebuild?.state === 'running') return 'rebuilding';
    return track === this.#group && track.caughtUp ? 'running' : 'catching-up';
  }

  /** @param prefixes of what it follows; the group, which projections join, follows all */
  #newTrack({ isAnnounced = false, maxEvents = this.#options.batchEvents, prefixes = streamPrefixes } = {}): Track {
    const { reader, codec, cachedViews, epoch } = this.#options;
    const folder = new Folder(reader, codec, cachedViews, prefixes);
    return new Track({ folder, epoch, maxEvents, isAnnounced });
  }

  async #begin(connection: Connection, members: readonly Member[], options: RebuildOptions = {}): Promise<Rebuild[]> {
    const { reader, epoch } = this.#options;
    const total = reader.eventsBetween(0n, await reader.head());
    const projections = members.map(({ projection }) => projection);
    const rebuilds = await beginRebuilds(connection, { projections, total, epoch, ...options });
    for (const rebuild of rebuilds) this.#member(rebuild.name).tell(rebuild);
    return rebuilds;
  }

  async #lead({ connection, signal, fail }: Session): Promise<void> {
    this.#endSession = fail;
    const { reader, batchDelayMs, batchEvents } = this.#options;
    const group = this.#group;
    await group.turn.run(async () => {
      await this.#muster(connection);
      const isDue = await this.#caution.isDue(connection, [...group.members]);
      if (isDue) await this.#caution.goOn(group, connection, signal);
    });
    group.onBoundary = this.#changed;
    this.#changed();
    const source = reader.subscribe({
      after: group.position,
      prefixes: streamPrefixes,
      batchSize: batchEvents,
      signal,
    });
    const pace = livePace({
      ...{ batchEvents, batchDelayMs, signal },
      limit: () => group.limit,
      isAwaited: () => this.#isAwaited || this.#isWatched,
    });
    await group.run(paced(source, pace), connection, fail);
  }

  /** Reads the group's checkpoints anew; who is not at the newest position follows by itself. */
  async #muster(connection: Connection): Promise<void> {
    const { reader, epoch } = this.#options;
    const group = this.#group;
    if (!this.#hasLoaded) for (const member of this.#members) group.members.add(member);
    const members = [...group.members];
    await insertCheckpoints(connection, members, epoch);
    const outdated = await loadCheckpoints(connection, members, epoch);
    await recallRebuilds(connection, this.#members);
    for (const member of outdated) {
      // Its rows are shown as they are until those of this program are made.
      this.#outdated.add(member);
      group.members.delete(member);
    }
    await this.#begin(
      connection,
      [...this.#outdated].filter(({ rebuild }) => rebuild?.state !== 'running'),
    );
    this.#hasLoaded = true;

    let newest = group.members.size > 0 ? 0n : await reader.head();
    for (const { position } of group.members) if (position > newest) newest = position;
    group.restart(newest);
    for (const member of members) {
      if (!group.members.has(member) || member.position === newest) continue;
      group.members.delete(member);
      this.#follow(member);
    }
    await this.#takeUpParked(connection);
    this.#build(this.#members.filter(({ rebuild }) => rebuild?.state === 'running'));
  }

  async #takeUpParked(connection: Connection): Promise<void> {
    const { reader, codec, cachedViews, epoch } = this.#options;
    const folder = new Folder(reader, codec, cachedViews);
    for (const member of this.#group.members) {
      const mustRebuild = await takeUpParked(member, { connection, folder, epoch });
      if (mustRebuild && member.rebuild?.state !== 'running') await this.#begin(connection, [member]);
    }
  }

  #follow(member: Member): void {
    if (this.#stopping.signal.aborted) return;
    const { reader, epoch } = this.#options;
    const [track, group] = [this.#newTrack({ prefixes: member.projection.prefixes }), this.#group];
    const follower = new Follower({ ...this.#trials, member, track, group, reader, epoch });
    this.#followers.set(member, follower);
    void follower.ended.then(() => {
      if (this.#followers.get(member) === follower) this.#followers.delete(member);
      this.#changed();
    });
  }

  /** Carries out the rebuilds that these have; what does so already goes on. */
  #build(members: readonly Member[]): void {
    if (this.#stopping.signal.aborted) return;
    const idle = members.filter((member) => !this.#builds.has(member));
    const mayShare = ({ rebuild }: Member) => rebuild?.kind !== 'rollback' && rebuild?.phase === 'building';
    const shared = idle.filter(mayShare);
    const rateOf = ({ rebuild }: Member) => rebuild?.eventsPerSecond ?? null;
    const convoys = new Map<Member, Convoy>();
    for (const rate of new Set(shared.map(rateOf))) {
      const together = shared.filter((member) => rateOf(member) === rate);
      if (together.length < 2) continue;
      const convoy = this.#convoy(together, rate);
      for (const member of together) convoys.set(member, convoy);
    }
    for (const member of idle) this.#buildOne(member, convoys.get(member));
  }

  #convoy(members: readonly Member[], eventsPerSecond: number | null): Convoy {
    const { reader } = this.#options;
    const projections = members.map(({ projection }) => projection);
    const prefixes = [...new Set(projections.flatMap((projection) => projection.prefixes))];
    const track = this.#newTrack({ maxEvents: this.#batchOf(eventsPerSecond), prefixes });
    const names = projections.map(({ name }) => name);
    return new Convoy({ ...this.#trials, names, track, group: this.#group, reader, eventsPerSecond });
  }

  /** A limit is to be kept from second to second, not from batch to batch. */
  #batchOf(eventsPerSecond: number | null): number {
    const { batchEvents } = this.#options;
    return eventsPerSecond === null ? batchEvents : Math.max(1, Math.floor(eventsPerSecond / 4));
  }

  #buildOne(live: Member, convoy: Convoy | undefined): void {
    const { reader, keepReplacedMs } = this.#options;
    const { prefixes, name } = live.projection;
    const maxEvents = this.#batchOf(live.rebuild?.eventsPerSecond ?? null);
    const build = new Build({
      ...{ ...this.#trials, live, reader, convoy, group: this.#group, keepMs: keepReplacedMs },
      heavy: this.#heavy,
      track: this.#newTrack({ maxEvents, prefixes }),
      halt: async (member) => await this.#followers.get(member)?.stop(),
      over: () => this.#endSession(new CheckpointMoved(`the rebuild of ${name} was ended elsewhere`)),
    });
    this.#builds.set(live, build);
    void build.ended.then(() => {
      this.#builds.delete(live);
      if (this.#group.members.has(live)) this.#outdated.delete(live);
      // It was halted, and did not become a part of the group after all; or its rows are still an older program's.
      else if (this.#outdated.has(live)) this.#endSession(new CheckpointMoved(`${name} has to be rebuilt`));
      else if (!this.#followers.has(live)) this.#follow(live);
      this.#changed();
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
