import type pg from 'pg';
import type { EventCodec } from '../event-store/codec.js';
import type { EventReader } from '../event-store/event-store.js';
import { CheckpointMoved, loadCheckpoints, Member } from './checkpoints.js';
import { Connection } from './connection.js';
import { type Folded, Folder, streamPrefixes } from './fold.js';
import { type EventBatch, paced } from './pacing.js';
import type { Projection } from './projection.js';
import {
  beginRebuild,
  loadRebuilds,
  type Rebuild,
  RebuildConflict,
  storeRebuildProgress,
  UnknownProjection,
} from './rebuild.js';
import { projections as everyProjection } from './registry.js';
import { RowsRefused, Track } from './track.js';

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
}

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2_000;
const REBUILD_PROGRESS_MS = 250;
/** How often one that waits for the group to reach it looks again. */
const LOOK_AGAIN_MS = 20;

/**
 * Keeps the read models up to date.
 *
 * The **group** is all projections at the newest position; one subscription feeds them, one transaction per batch
 * stores them. A projection that lags or rebuilds is a **follower**: it reads history by itself, and once at most a
 * batch is missing it makes the group stand still between two batches, goes to exactly its position and joins it.
 *
 * Whatever goes wrong, the way back is one: forget everything, read the checkpoints, continue from there.
 */
export class ProjectionRunner {
  readonly #options: Required<RunnerOptions>;
  readonly #observer: RunnerObserver;
  readonly #members: readonly Member[];
  readonly #group: Track;
  readonly #followers = new Map<Member, Follower>();
  readonly #stopping = new AbortController();
  #leading: Promise<void> | undefined;
  #hasLoaded = false;

  constructor(options: RunnerOptions, observer: RunnerObserver = {}) {
    this.#options = {
      projections: everyProjection,
      batchEvents: 1_000,
      batchDelayMs: 25,
      cachedViews: 20_000,
      ...options,
    };
    this.#observer = observer;
    this.#members = this.#options.projections.map((projection) => new Member(projection));
    this.#group = this.#newTrack();
    this.#group.onStored = (folded) => this.#announce(folded);
    this.#group.onBoundary = () => this.#observer.progress?.();
  }

  start(): void {
    this.#leading ??= this.#persist(this.#group, this.#stopping.signal, (session) => this.#lead(session));
  }

  /** Finishes the batches at hand. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#leading;
    await Promise.all([...this.#followers.values()].map((follower) => follower.ended));
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
        const head = await this.#options.reader.head();
        this.#tell(member, await beginRebuild(connection, member.projection, head));
      } finally {
        await connection.close();
      }
      return member.rebuild as Rebuild;
    } finally {
      // Also when it could not begin: it goes on from wherever its checkpoint is.
      member.isDetached = false;
      this.#follow(member);
    }
  }

  #newTrack(): Track {
    const { reader, codec, cachedViews, batchEvents } = this.#options;
    return new Track(new Folder(reader, codec, cachedViews), batchEvents);
  }

  #trackOf = (member: Member): Track => this.#followers.get(member)?.track ?? this.#group;

  #stateOf(member: Member): ProjectionState {
    const track = this.#trackOf(member);
    if (track.error !== undefined) return 'failing';
    if (member.rebuild?.state === 'running') return 'rebuilding';
    return track === this.#group && track.caughtUp ? 'running' : 'catching-up';
  }

  /** Runs sessions, one connection each, until one ends by itself or `signal` aborts. */
  async #persist(track: Track, signal: AbortSignal, work: (session: Session) => Promise<void>): Promise<void> {
    for (let failures = 0; !signal.aborted; ) {
      const session = new AbortController();
      const end = () => session.abort();
      signal.addEventListener('abort', end, { once: true });
      let connection: Connection | undefined;
      let cause: Error | undefined;
      const fail = (error: Error) => {
        cause ??= error;
        session.abort();
      };
      const before = track.position;
      try {
        connection = await Connection.open(this.#options.postgres, fail);
        await work({ connection, signal: session.signal, fail });
        if (!cause) return;
      } catch (error) {
        cause ??= error as Error;
      } finally {
        session.abort();
        signal.removeEventListener('abort', end);
        await connection?.close();
      }
      if (signal.aborted) return;
      track.caughtUp = false;
      failures = track.position > before ? 1 : failures + 1;
      // Neither says that anything is broken: another instance was faster, or a smaller batch is to be tried.
      const isExpected = cause instanceof CheckpointMoved || cause instanceof RowsRefused;
      if (!isExpected || failures > 20) track.error = cause.message;
      this.#observer.progress?.();
      if (!(cause instanceof RowsRefused)) await pause(backoffMs(failures), signal);
    }
  }

  async #lead({ connection, signal, fail }: Session): Promise<void> {
    await this.#group.turn.run(() => this.#muster(connection));
    this.#observer.progress?.();
    const { reader, batchDelayMs } = this.#options;
    const group = this.#group;
    const source = reader.subscribe({
      after: group.position,
      prefixes: streamPrefixes,
      batchSize: group.limit,
      signal,
    });
    const pace = { maxEvents: () => group.limit, delayMs: batchDelayMs };
    await group.run(paced(source, pace), connection, fail);
  }

  /** Reads the group's checkpoints anew; who is not at the newest position follows by itself. */
  async #muster(connection: Connection): Promise<void> {
    const group = this.#group;
    if (!this.#hasLoaded) for (const member of this.#members) group.members.add(member);
    const members = [...group.members];
    const outdated = await loadCheckpoints(connection, members);
    if (!this.#hasLoaded) {
      const rebuilds = await loadRebuilds(connection);
      for (const member of members)
        member.rebuild = rebuilds.find((rebuild) => rebuild.name === member.projection.name);
    }
    for (const member of outdated) {
      const head = await this.#options.reader.head();
      this.#tell(member, await beginRebuild(connection, member.projection, head, { supersede: true }));
    }
    this.#hasLoaded = true;
    if (members.length === 0) return group.restart(group.position);
    let newest = 0n;
    for (const { position } of members) if (position > newest) newest = position;
    group.restart(newest);
    for (const member of members) {
      if (member.position === newest) await this.#finishRebuild(member, connection);
      else {
        group.members.delete(member);
        this.#follow(member);
      }
    }
  }

  #follow(member: Member): void {
    if (this.#stopping.signal.aborted) return;
    const stop = new AbortController();
    const end = () => stop.abort();
    this.#stopping.signal.addEventListener('abort', end, { once: true });
    const track = this.#newTrack();
    track.members.add(member);
    const ended = this.#persist(track, stop.signal, (session) => this.#catchUp(member, track, session)).finally(() => {
      this.#stopping.signal.removeEventListener('abort', end);
      this.#followers.delete(member);
      this.#observer.progress?.();
    });
    this.#followers.set(member, { track, stop, ended });
  }

  async #catchUp(member: Member, track: Track, { connection, signal, fail }: Session): Promise<void> {
    const [outdated] = await loadCheckpoints(connection, [member]);
    if (outdated) throw new Error(`${member.projection.name} was set back by another version of this program`);
    track.restart(member.position);
    let toldAt = 0;
    track.onBoundary = async () => {
      if (performance.now() - toldAt < REBUILD_PROGRESS_MS) return;
      toldAt = performance.now();
      if (member.rebuild?.state === 'running') await this.#storeProgress(member, connection, false);
      this.#observer.progress?.();
    };
    while (!signal.aborted) {
      await track.run(this.#history(track, signal), connection, fail);
      if (await this.#group.turn.run(() => this.#join(member, track, connection, signal))) return;
      await pause(LOOK_AGAIN_MS, signal);
    }
  }

  /** Full batches, as long as there are some on the way to the group. */
  async *#history(track: Track, signal: AbortSignal): AsyncGenerator<EventBatch> {
    let after = track.position;
    while (!signal.aborted) {
      const { events, isFull } = await this.#readTowardsGroup(after, track.limit);
      if (!isFull) return;
      after = (events.at(-1) as { position: bigint }).position;
      yield { events, position: after, caughtUp: false };
    }
  }

  /** The group stands still. @returns whether the member is part of it now */
  async #join(member: Member, track: Track, connection: Connection, signal: AbortSignal): Promise<boolean> {
    while (track.position < this.#group.position && !signal.aborted) {
      const { events, isFull } = await this.#readTowardsGroup(track.position, track.limit);
      const last = events.at(-1);
      const position = isFull && last ? last.position : this.#group.position;
      await track.apply({ events, position, caughtUp: false }, connection);
    }
    if (signal.aborted || track.position !== this.#group.position) return false;
    await this.#finishRebuild(member, connection);
    this.#group.members.add(member);
    return true;
  }

  async #readTowardsGroup(after: bigint, limit: number) {
    const read = await this.#options.reader.readAll(after, limit);
    const events = read.filter(({ position }) => position <= this.#group.position);
    return { events, isFull: events.length === limit };
  }

  /** Takes the member out of the group, or ends its following. */
  async #detach(member: Member): Promise<void> {
    for (let follower = this.#followers.get(member); follower; follower = this.#followers.get(member)) {
      follower.stop.abort();
      await follower.ended;
    }
    await this.#group.turn.run(async () => {
      this.#group.members.delete(member);
    });
  }

  async #finishRebuild(member: Member, connection: Connection): Promise<void> {
    if (member.rebuild?.state === 'running') await this.#storeProgress(member, connection, true);
  }

  async #storeProgress(member: Member, connection: Connection, done: boolean): Promise<void> {
    const rebuild = member.rebuild as Rebuild;
    this.#tell(member, await storeRebuildProgress(connection, rebuild, member.position, this.#group.position, done));
  }

  #tell(member: Member, rebuild: Rebuild): void {
    member.rebuild = rebuild;
    if (rebuild.processed === 0) member.position = 0n;
    this.#observer.rebuild?.(rebuild);
  }

  #announce({ deliveries }: Folded): void {
    if (!this.#observer.changed || deliveries.length === 0) return;
    this.#observer.changed(
      deliveries.map(({ id, after }) => ({ id, organizationId: after.state.request.organizationId })),
    );
  }
}

interface Session {
  readonly connection: Connection;
  readonly signal: AbortSignal;
  readonly fail: (error: Error) => void;
}

interface Follower {
  readonly track: Track;
  readonly stop: AbortController;
  readonly ended: Promise<void>;
}

/** Doubling from 50 ms to 2 s, half of it by chance so that instances do not come back all at once. */
const backoffMs = (failures: number): number =>
  Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures - 1, 10)) * (0.5 + Math.random() / 2);

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
  });
}
