import type { EventReader } from '../../event-store/event-store.js';
import { Approach } from './approach.js';
import { adoptCheckpoint, loadCheckpoints } from './checkpoints.js';
import { Connection } from './connection.js';
import type { Convoy } from './convoy.js';
import { digestNow, SNAPSHOT } from './digest.js';
import { Member, type Rebuild, schemaOf } from './member.js';
import type { Mutex } from './mutex.js';
import { pause, pauseMs } from './pause.js';
import { endRebuild, RebuildRow } from './rebuild.js';
import { keepTrying, type Session, type Trials } from './session.js';
import type { Track } from './track.js';
import { createIndexes, dropBuilding, exchange, isAlike } from './versions.js';

export interface BuildOptions extends Omit<Trials, 'signal' | 'schema' | 'patience'> {
  /** The version that is asked meanwhile; its newest rebuild is the one to be carried out. */
  readonly live: Member;
  /** Its own. */
  readonly track: Track;
  /** With whom it goes through history, if others are rebuilt at the same time. */
  readonly convoy: Convoy | undefined;
  /** Held while indexes are made or rows compared: several rebuilds at once would each be slower, and take more memory. */
  readonly heavy: Mutex;
  /** Where it is to end up. */
  readonly group: Track;
  readonly reader: EventReader;
  /** How long the replaced version is kept. */
  readonly keepMs: number;
  /** Takes the live version off its own way through history, if it is on one. */
  readonly halt: (live: Member) => Promise<void>;
  /** It was ended by somebody else, or ended without this one hearing of it. */
  readonly over: () => void;
}

/** Creating an index or comparing large tables takes its time, and is interrupted when the program ends. */
const ROOMY = { name: 'waybill-rebuild', statementMs: 6 * 3_600_000 };
/** Queries that come while the versions change places wait at most so long; then it is tried again, more patiently. */
const FIRST_LOCK_MS = 200;
const LONGEST_LOCK_MS = 2_000;
const LOCK_NOT_AVAILABLE = '55P03';
const DEADLOCK = '40P01';

/**
 * Carries out one rebuild. The new version is made in tables of its own while the live one goes on:
 *
 * - `building`: through history, to where the group is.
 * - `indexing`: gets the indexes of the live tables.
 * - `verifying`: at the moment when both are at the same position a snapshot is taken, in which their digests are
 *   compared; neither waits for that.
 * - `switching`: while the group stands still between two batches, one transaction makes the new version the live one
 *   and keeps the old one.
 *
 * Everything that it needs to go on is in Postgres: killed in whatever phase, the next writer goes on from there.
 */
export class Build {
  readonly ended: Promise<void>;
  readonly track: Track;
  readonly #options: BuildOptions;
  readonly #shadow: Member;
  readonly #row: RebuildRow;
  readonly #stopping = new AbortController();

  constructor(options: BuildOptions) {
    const { live, track, epoch, postgres, changed, superseded } = options;
    const rebuild = live.rebuild as Rebuild;
    const role = rebuild.kind === 'rollback' ? 'kept' : 'building';
    this.#options = options;
    this.#shadow = new Member(live.projection, undefined, role);
    this.#row = new RebuildRow(live, rebuild.id, epoch);
    this.track = track;
    track.members.add(this.#shadow);
    const schema = schemaOf(live.projection.name, role);
    const trials = { postgres, epoch, schema, changed, superseded, signal: this.#stopping.signal };
    this.ended = keepTrying(this.track, trials, (session) => this.#carryOut(session)).finally(() =>
      options.convoy?.without(live.projection.name),
    );
  }

  /** Why it does not get on, while it does not. */
  get error(): string | undefined {
    const { convoy } = this.#options;
    return this.track.error ?? (convoy?.takes(this.#shadow) ? convoy.track.error : undefined);
  }

  /** It goes on at the next start. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.ended;
  }

  async #carryOut(session: Session): Promise<void> {
    const { postgres } = this.#options;
    const roomy = await Connection.open(postgres, session.fail, ROOMY);
    const sever = () => roomy.sever();
    session.signal.addEventListener('abort', sever, { once: true });
    try {
      await this.#phases(session, roomy);
    } finally {
      session.signal.removeEventListener('abort', sever);
      await roomy.close();
    }
  }

  async #phases(session: Session, roomy: Connection): Promise<void> {
    const { live, epoch, changed, over, convoy, heavy } = this.#options;
    const [shadow, track, row] = [this.#shadow, this.track, this.#row];
    if (!(await row.change(roomy, { reason: null }))) return over();
    if (!(await isAlike(roomy, live.projection, shadow.role as 'building' | 'kept')))
      return await this.#giveUp(roomy, 'its tables are not like the live ones any more');
    await adoptCheckpoint(roomy, shadow, epoch);
    await convoy?.travel(shadow, () => this.#told(roomy, convoy.track.position), session.signal);
    if (session.signal.aborted) return;
    const [outdated] = await loadCheckpoints(session.connection, [shadow], epoch);
    if (outdated) return await this.#giveUp(roomy, 'another version of this program has begun it');
    track.restart(shadow.position);
    track.onBoundary = changed;

    if (!(await this.#approach(session, roomy, 'building'))) return;
    if (row.now.kind !== 'rollback') {
      if (!(await row.change(roomy, { phase: 'indexing' }))) return;
      await heavy.run(() => createIndexes(roomy, live.projection));
      if (!(await this.#approach(session, roomy, 'verifying'))) return;
      if (!(await heavy.run(() => this.#compare(session, roomy)))) return;
    }
    if (row.now.kind === 'verify') return await this.#discard(roomy);
    await this.#exchange(session, roomy);
  }

  /** @returns whether it is to go on */
  async #approach(session: Session, roomy: Connection, phase: Rebuild['phase']): Promise<boolean> {
    const { reader, group } = this.#options;
    const [track, row] = [this.track, this.#row];
    if (!(await row.change(roomy, { phase }))) return false;
    let isWanted = true;
    const ending = new AbortController();
    const end = () => ending.abort();
    session.signal.addEventListener('abort', end, { once: true });
    const boundary = track.onBoundary;
    track.onBoundary = async () => {
      isWanted &&= await this.#told(roomy, track.position);
      if (!isWanted) end();
      await boundary();
    };
    try {
      const approach = new Approach(reader, track, group);
      await track.run(approach.history(ending.signal, row.now.eventsPerSecond), session.connection, session.fail);
    } finally {
      track.onBoundary = boundary;
      session.signal.removeEventListener('abort', end);
    }
    return isWanted && !session.signal.aborted;
  }

  /** Tells now and then how far it is. @returns whether it is to go on */
  #told(roomy: Connection, position: bigint): Promise<boolean> {
    const { reader, group } = this.#options;
    const count = (upTo: bigint) => reader.eventsBetween(0n, upTo);
    return this.#row.progress(roomy, count(position), count(group.position));
  }

  /** @returns whether it is to go on */
  async #compare({ connection, signal }: Session, roomy: Connection): Promise<boolean> {
    const { live, group, reader } = this.#options;
    const approach = new Approach(reader, this.track, group);
    return await roomy
      .transaction(async () => {
        const isComparable = await group.turn.run(async () => {
          // What is parked in one and not in the other makes different rows, as it should.
          if (!(await approach.arrive(connection, signal)) || !group.members.has(live) || live.parked > 0) return false;
          await roomy.execute('select 1');
          return true;
        });
        if (!isComparable) return undefined;
        const [now, then] = [await this.#digest(roomy, 'live'), await this.#digest(roomy, 'building')];
        if (now.position !== then.position) throw new Error('the two versions are not at the same position');
        return now.sha256 === then.sha256 ? ('equal' as const) : ('different' as const);
      }, SNAPSHOT)
      .then(
        async (comparison) => !signal.aborted && (await this.#row.change(roomy, { comparison: comparison ?? null })),
      );
  }

  #digest(connection: Connection, role: 'live' | 'building') {
    return digestNow(connection, this.#options.live.projection, role);
  }

  /** Until nobody holds a lock for too long. */
  async #exchange(session: Session, roomy: Connection): Promise<void> {
    const { live, halt, group } = this.#options;
    if (!group.members.has(live)) await halt(live);
    for (
      let failures = 0, lockMs = FIRST_LOCK_MS;
      !session.signal.aborted;
      lockMs = Math.min(lockMs * 2, LONGEST_LOCK_MS)
    ) {
      if (!(await this.#approach(session, roomy, 'switching'))) return;
      try {
        return await group.turn.run(() => this.#switch(session, roomy, lockMs));
      } catch (error) {
        const code = (error as { code?: string }).code;
        if (code !== LOCK_NOT_AVAILABLE && code !== DEADLOCK) throw error;
        await this.#row.change(roomy, { reason: 'waits for a query that takes long' });
        await pause(pauseMs(++failures), session.signal);
      }
    }
  }

  /** The group stands still meanwhile. */
  async #switch({ connection, signal }: Session, roomy: Connection, lockMs: number): Promise<void> {
    const { live, group, reader, keepMs } = this.#options;
    const [shadow, row] = [this.#shadow, this.#row];
    const { name } = live.projection;
    if (!(await new Approach(reader, this.track, group).arrive(connection, signal))) return;
    const total = reader.eventsBetween(0n, group.position);
    const finishedAt = new Date().toISOString();
    const done = await roomy.transaction(async () => {
      await roomy.execute(`set local lock_timeout = ${lockMs}`);
      const end = { state: 'done', reason: null, processed: total, total, finishedAt } as const;
      const stored = await row.store(roomy, end);
      if (!stored) return undefined;
      await exchange(roomy, live.projection, shadow.role as 'building' | 'kept');
      await roomy.execute(
        `insert into projection_kept (name, drop_after) values ($1, now() + $2 * interval '1 ms')
         on conflict (name) do update set kept_at = now(), drop_after = excluded.drop_after`,
        [name, keepMs],
      );
      return stored;
    });
    if (!done) return;
    live.takeOver(shadow);
    group.members.add(live);
    live.tell(done);
  }

  async #discard(roomy: Connection): Promise<void> {
    const { live } = this.#options;
    const { total } = this.#row.now;
    const finishedAt = new Date().toISOString();
    const done = await roomy.transaction(async () => {
      const stored = await this.#row.store(roomy, { state: 'done', processed: total, finishedAt });
      if (stored) await dropBuilding(roomy, live.projection.name);
      return stored;
    });
    if (done) live.tell(done);
  }

  async #giveUp(roomy: Connection, reason: string): Promise<void> {
    const { live } = this.#options;
    live.tell(await endRebuild(roomy, live.projection.name, { state: 'failed', reason }));
  }
}
