import { randomUUID } from 'node:crypto';
import type { Projection } from '../projection.js';
import { projections as everyProjection } from '../registry.js';
import { announce, CHANNEL, heard } from './announcements.js';
import { ChangeFeed } from './change-feed.js';
import { Connection } from './connection.js';
import { type Health, Lease } from './lease.js';
import type { Rebuild } from './member.js';
import { type Skip, skipParked, wantParked } from './parking.js';
import { pause, pauseMs } from './pause.js';
import { ProjectionRunner, type RunnerOptions } from './projection-runner.js';
import { beginRebuilds, endRebuild, RebuildConflict, type RebuildOptions, UnknownProjection } from './rebuild.js';
import { type ProjectionProgress, type Runner, type RunnerObserver, visiblePosition } from './runner.js';
import { oneSession, type Session } from './session.js';
import { StoredProgress } from './stored-progress.js';
import { dropExpired } from './versions.js';

export interface InstanceOptions extends RunnerOptions {
  /** Who asks for the lease: the same after a restart, so that it gets back what it had. Default: nobody was it before. */
  readonly owner?: string;
  /** Default true: a lock has proved that no other instance can be alive, so that none is waited for. */
  readonly isAlone?: boolean;
  /** Default 8,000 ms for which a writer that has fallen silent remains the writer. */
  readonly leaseMs?: number;
}

/** In a lease's time its holder renews it so often, and the others look so often whether it is free. */
const RENEWALS = 4;
const LOOKS = 8;
/** A network that swallows everything is noticed within this. */
const STATEMENT_MS = 10_000;
/** How often it is looked for replaced versions that are not to be kept any longer. */
const TIDY_MS = 60_000;

interface Writer {
  readonly runner: ProjectionRunner;
  readonly epoch: bigint;
  /** It has found another epoch in Postgres. */
  isOver: boolean;
}

/**
 * One of the instances that share the read models. Whoever has the lease is the **writer** and runs the projections. The
 * others are **readers**: they wait for the lease, and know from Postgres and from what the writer announces how far the
 * read models are. Both answer every question alike.
 */
export class Instance implements Runner {
  readonly #options: RunnerOptions & Required<Pick<InstanceOptions, 'isAlone' | 'leaseMs' | 'projections'>>;
  readonly #observer: RunnerObserver;
  readonly #lease: Lease;
  readonly #stored: StoredProgress;
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #retired: Promise<void> = Promise.resolve();
  #writer: Writer | undefined;
  #feed: ChangeFeed | undefined;
  #isWatched = false;
  #isAwaited = false;
  #hasLooked = false;
  #failures = 0;
  #tidiedAt = Number.NEGATIVE_INFINITY;
  #wake = () => {};

  constructor(options: InstanceOptions, observer: RunnerObserver = {}) {
    const { owner = randomUUID(), isAlone = true, leaseMs = 8_000, projections = everyProjection } = options;
    this.#options = { ...options, isAlone, leaseMs, projections };
    this.#observer = observer;
    this.#lease = new Lease({ owner, isAlone, leaseMs, projections });
    this.#stored = new StoredProgress(projections);
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Finishes the batches at hand; another instance may then write at once. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    await this.#retired;
    this.#feed?.stop();
    await this.#feed?.ended;
  }

  progress(): ProjectionProgress[] {
    return this.#writer?.runner.isLoaded ? this.#writer.runner.progress() : this.#stored.progress();
  }

  async rebuild(name: string, options: RebuildOptions = {}): Promise<Rebuild> {
    return (await this.rebuildAll([name], options))[0] as Rebuild;
  }

  /** What a reader asks for, the writer carries out. */
  async rebuildAll(names?: readonly string[], options: RebuildOptions = {}): Promise<Rebuild[]> {
    if (this.#writer?.runner.isLoaded) return await this.#writer.runner.rebuildAll(names, options);
    const { reader, projections } = this.#options;
    const total = reader.eventsBetween(0n, await reader.head());
    const wanted = [...new Set(names ?? projections.map(({ name }) => name))].map((name) => this.#projection(name));
    return await this.#connected((connection) => beginRebuilds(connection, { projections: wanted, total, ...options }));
  }

  async cancelRebuild(name: string): Promise<Rebuild> {
    if (this.#writer?.runner.isLoaded) return await this.#writer.runner.cancelRebuild(name);
    return await this.#asReader(name, async (connection, { version }) => {
      const [live] = await connection.query<{ version: number }>(
        'select version from projection_checkpoints where name = $1',
        [name],
      );
      if (live && live.version < version)
        throw new RebuildConflict(`the rows of ${name} are of an older version of this program: it has to be rebuilt`);
      return await endRebuild(connection, name, { state: 'cancelled', reason: null });
    });
  }

  async retryParked(name: string): Promise<number> {
    if (this.#writer?.runner.isLoaded) return await this.#writer.runner.retryParked(name);
    return await this.#asReader(name, async (connection) => {
      const count = await wantParked(connection, name);
      await connection.execute(announce({ takeUp: name }));
      return count;
    });
  }

  async skipParked(name: string, skip: Skip): Promise<void> {
    if (this.#writer?.runner.isLoaded) return await this.#writer.runner.skipParked(name, skip);
    await this.#asReader(name, (connection) =>
      connection.transaction(async () => {
        await skipParked(connection, name, skip);
        await connection.execute(announce({ takeUp: name }));
      }),
    );
  }

  async #asReader<Answer>(name: string, ask: (connection: Connection, projection: Projection) => Promise<Answer>) {
    const projection = this.#projection(name);
    return await this.#connected((connection) => ask(connection, projection));
  }

  #projection(name: string): Projection {
    const projection = this.#options.projections.find((candidate) => candidate.name === name);
    if (!projection) throw new UnknownProjection(`there is no projection ${name}`);
    return projection;
  }

  async #connected<Answer>(ask: (connection: Connection) => Promise<Answer>): Promise<Answer> {
    const connection = await Connection.open(this.#options.postgres, () => {});
    try {
      return await ask(connection);
    } finally {
      await connection.close();
    }
  }

  watch(isWanted: boolean, after?: bigint): void {
    this.#isWatched = isWanted;
    this.#writer?.runner.watch(isWanted);
    this.#feed?.stop();
    if (isWanted && this.#hasLooked) this.#tellAfter(after ?? visiblePosition(this.progress()));
  }

  hasten(isAwaited: boolean): void {
    this.#isAwaited = isAwaited;
    this.#writer?.runner.hasten(isAwaited);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    const { postgres } = this.#options;
    const settings = { name: 'waybill-projections-lease', statementMs: STATEMENT_MS };
    while (!signal.aborted) {
      const cause = await oneSession(postgres, signal, (session) => this.#attend(session), settings);
      if (!cause || signal.aborted) continue;
      this.#stored.failed(cause);
      this.#changed();
      await pause(pauseMs(++this.#failures), signal);
    }
    // Where there was no connection to give the lease back by, others see that the one it was held by is gone.
    await this.#writer?.runner.stop();
  }

  /** Holds the lease or waits for it, as long as the connection lives. */
  async #attend({ connection, signal }: Session): Promise<void> {
    const { leaseMs } = this.#options;
    await connection.listen(CHANNEL, (payload) => this.#hear(payload));
    while (!signal.aborted) {
      const rested = this.#rest(leaseMs / (this.#writer ? RENEWALS : LOOKS), signal);
      if (this.#writer) await this.#renew(connection, this.#writer);
      else await this.#look(connection);
      this.#failures = 0;
      await rested;
    }
    if (!this.#stopping.signal.aborted || !this.#writer) return;
    await this.#writer.runner.stop();
    await this.#lease.release(connection, this.#writer.epoch);
  }

  async #look(connection: Connection): Promise<void> {
    this.#stored.looking();
    const look = await this.#lease.look(connection);
    const rebuilds = this.#stored.found(look);
    // One that is alone takes it also when it is too old for it, and says so.
    if (!look.isHeld && (this.#options.isAlone || look.newer.length === 0)) await this.#claim(connection);
    else this.#lease.passed();
    if (this.#hasLooked) for (const rebuild of rebuilds) this.#observer.rebuild?.(rebuild);
    else if (this.#isWatched) this.#tellAfter(visiblePosition(this.progress()));
    this.#hasLooked = true;
    this.#changed();
  }

  async #claim(connection: Connection): Promise<void> {
    const epoch = await this.#lease.claim(connection);
    if (epoch === undefined) return;
    const runner = new ProjectionRunner(
      { ...this.#options, epoch, isAnnounced: !this.#options.isAlone },
      {
        progress: () => this.#changed(),
        changed: (deliveries) => this.#observer.changed?.(deliveries),
        rebuild: (rebuild) => {
          this.#stored.rebuilt(rebuild);
          this.#observer.rebuild?.(rebuild);
        },
        superseded: () => {
          writer.isOver = true;
          this.#wake();
        },
      },
    );
    const writer: Writer = { runner, epoch, isOver: false };
    this.#writer = writer;
    runner.watch(this.#isWatched);
    runner.hasten(this.#isAwaited);
    runner.start();
  }

  async #renew(connection: Connection, writer: Writer): Promise<void> {
    if (performance.now() - this.#tidiedAt >= TIDY_MS) {
      this.#tidiedAt = performance.now();
      await dropExpired(connection);
    }
    const health = writer.runner.progress().map(healthOf);
    const rebuilds = writer.isOver ? undefined : await this.#lease.renew(connection, writer.epoch, health);
    if (rebuilds) for (const rebuild of rebuilds) writer.runner.learn(rebuild);
    else this.#stepBack(writer);
  }

  /** Another instance is the writer; whatever this one still tries to store is refused. */
  #stepBack({ runner }: Writer): void {
    for (const { name, position } of runner.progress()) this.#stored.moved([name], position);
    this.#writer = undefined;
    this.#retired = this.#retired.then(() => runner.stop());
    if (this.#isWatched && (!this.#feed || this.#feed.isOver)) this.#tellAfter(visiblePosition(this.progress()));
    if (!this.#options.isAlone) this.#wake();
  }

  #hear(payload: string): void {
    const announcement = heard(payload);
    if (!announcement) return;
    if ('look' in announcement) this.#wake();
    else if ('takeUp' in announcement) this.#writer?.runner.takeUp(announcement.takeUp);
    else if (this.#writer) {
      if ('rebuild' in announcement) this.#writer.runner.learn(announcement.rebuild);
    } else if ('rebuild' in announcement) this.#hearOf(announcement.rebuild);
    else {
      this.#stored.moved(announcement.names, BigInt(announcement.moved));
      this.#changed();
    }
  }

  #hearOf(rebuild: Rebuild): void {
    if (!this.#stored.rebuilt(rebuild)) return;
    this.#observer.rebuild?.(rebuild);
    this.#changed();
  }

  /** Tells of the changes after a position that this instance does not make itself. */
  #tellAfter(position: bigint): void {
    const { reader } = this.#options;
    this.#feed = new ChangeFeed(reader, position, (deliveries) => this.#observer.changed?.(deliveries));
    this.#feedOn();
  }

  #feedOn(): void {
    const feed = this.#feed;
    if (!feed || feed.isOver) return;
    const visible = visiblePosition(this.progress());
    feed.visible(visible);
    // From here on the runner tells.
    if (this.#writer?.runner.isLoaded) feed.endAt(visible);
  }

  #changed(): void {
    this.#feedOn();
    this.#observer.progress?.();
  }

  async #rest(ms: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    const wake = () => woken.abort();
    this.#wake = wake;
    if (signal.aborted) wake();
    signal.addEventListener('abort', wake, { once: true });
    await pause(ms, woken.signal);
    signal.removeEventListener('abort', wake);
  }
}

const healthOf = ({ name, state, parked, lastError, progressAt }: ProjectionProgress): Health => ({
  name,
  state,
  parked,
  ...(lastError !== undefined && { lastError }),
  ...(progressAt !== undefined && { progressAt }),
});
