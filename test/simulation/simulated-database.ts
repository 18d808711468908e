import type { Pool } from 'pg';
import type { Suspension } from '../../src/commands/suspended-deliveries.js';
import type { Priority } from '../../src/domain/vocabulary.js';
import {
  type Checkpoint,
  type Claim,
  type DueCursor,
  type DuePage,
  EngineStore,
  type Held,
  LEASE_TTL_SECONDS,
  PARTITIONS,
  partitionOf,
} from '../../src/sagas/engine-store.js';
import type { StoredTrouble } from '../../src/sagas/suspension-store.js';
import { call, type Link } from './network.js';
import type { Host, Scheduler } from './scheduler.js';
import { EPOCH_MS } from './virtual-globals.js';

const TTL_MS = LEASE_TTL_SECONDS * 1_000;
const RANKS: Readonly<Record<Priority, number>> = { URGENT: 0, HIGH: 1, NORMAL: 2, LOW: 3 };

interface PartitionRow {
  owner: string;
  epoch: bigint;
  expiresAtMs: number;
  position: bigint;
  /** Which run of the owner has taken it. */
  run: number;
  /** Not in the real table: the run of an instance that made the newest epoch. */
  holder: Host | undefined;
}

/** A run of an instance. */
interface Claimer {
  readonly owner: string;
  readonly run: number;
  readonly host: Host;
}

export interface DeliveryRow {
  readonly id: string;
  readonly partition: number;
  readonly rank: number;
  readonly dueAtMs: number | undefined;
  readonly awaits: readonly string[];
}

/** The engine's tables and the clock of the database they are in. Each statement is done at one moment, or not at all. */
export class SimulatedDatabase {
  readonly rows = new Map<string, DeliveryRow>();
  readonly #scheduler: Scheduler;
  readonly #aheadMs: number;
  readonly #instances = new Map<string, number>();
  #runs = 0;
  readonly #partitions = new Map<number, PartitionRow>();
  /** Partitions whose mark is in the table of deliveries. */
  readonly #marks = new Set<number>();
  /** Deliveries whose process has thrown. */
  readonly #troubled = new Map<string, StoredTrouble>();

  /** @param aheadMs what the database's clock is ahead of the true time */
  constructor(scheduler: Scheduler, aheadMs: number) {
    this.#scheduler = scheduler;
    this.#aheadMs = aheadMs;
  }

  /** The database's clock, Unix milliseconds. */
  get nowMs(): number {
    return EPOCH_MS + this.#scheduler.nowMs + this.#aheadMs;
  }

  /** Whether the partition is this run's, by the newest epoch and the database's clock. */
  isHeldBy(partition: number, host: Host, isForEver: boolean): boolean {
    const row = this.#partitions.get(partition);
    return row?.holder === host && (isForEver || row.expiresAtMs > this.nowMs);
  }

  holderOf(partition: number): Host | undefined {
    const row = this.#partitions.get(partition);
    return row && row.expiresAtMs > this.nowMs ? row.holder : undefined;
  }

  /** What an operator does who thinks that the table is in the way. */
  truncate(): void {
    this.rows.clear();
    this.#marks.clear();
  }

  census(owner: string): number {
    this.#instances.set(owner, this.nowMs);
    const alive = [...this.#instances.values()].filter((seenAtMs) => seenAtMs > this.nowMs - TTL_MS);
    return alive.length;
  }

  leave(owner: string): void {
    this.#instances.delete(owner);
  }

  beginRun(): number {
    return ++this.#runs;
  }

  claim({ owner, run, host }: Claimer, most: number, mine: readonly number[], takeOver: boolean): Claim[] {
    for (let partition = 0; partition < PARTITIONS; partition++)
      if (!this.#partitions.has(partition))
        this.#partitions.set(partition, {
          ...{ owner, epoch: 0n, expiresAtMs: this.nowMs, position: 0n, run: 0 },
          holder: undefined,
        });
    const free = [...this.#partitions]
      .filter(([partition, row]) => !mine.includes(partition) && this.#isFreeFor(owner, run, takeOver, row))
      .sort(([one, a], [other, b]) => Number(b.owner === owner) - Number(a.owner === owner) || one - other)
      .slice(0, most);
    return free.map(([partition, row]) => {
      if (!this.#marks.has(partition)) this.#beginAgain(partition, row);
      Object.assign(row, { owner, run, holder: host, epoch: row.epoch + 1n, expiresAtMs: this.nowMs + TTL_MS });
      return { partition, epoch: row.epoch, position: row.position };
    });
  }

  save({ held, open, closed, troubled = [], recovered = [] }: Checkpoint): number[] {
    const lost = held.filter(({ partition, epoch }) => this.#partitions.get(partition)?.epoch !== epoch);
    if (lost.length > 0) return lost.map(({ partition }) => partition);
    for (const { partition, position } of held) {
      const row = this.#partitions.get(partition) as PartitionRow;
      row.position = position;
      row.expiresAtMs = this.nowMs + TTL_MS;
    }
    for (const { id, priority, dueAt, awaits } of open) {
      const rank = this.rows.get(id)?.rank ?? RANKS[priority];
      this.rows.set(id, { id, partition: partitionOf(id), rank, dueAtMs: dueAt?.getTime(), awaits });
    }
    for (const id of closed) this.rows.delete(id);
    for (const trouble of troubled) this.#troubled.set(trouble.id, trouble);
    for (const id of recovered) this.#troubled.delete(id);
    return [];
  }

  /** What operators see of deliveries that the engine does not go on with. */
  suspensions(): Suspension[] {
    return [...this.#troubled.values()].flatMap(({ suspendedAt, ...trouble }) =>
      suspendedAt === undefined ? [] : [{ ...trouble, suspendedAt }],
    );
  }

  isWhole(partitions: readonly number[]): boolean {
    return partitions.every((partition) => this.#marks.has(partition));
  }

  restart(held: readonly Held[]): void {
    for (const { partition, epoch } of held) {
      const row = this.#partitions.get(partition);
      if (row?.epoch !== epoch) continue;
      this.#beginAgain(partition, row);
    }
  }

  due(partitions: readonly number[], until: Date, after: DueCursor | undefined, most: number): DuePage {
    const rows = this.#of(partitions)
      .filter(({ dueAtMs }) => dueAtMs !== undefined && dueAtMs <= until.getTime())
      .sort(byRank)
      .filter((row) => !after || byRank(row, rowOf(after)) > 0)
      .slice(0, most);
    const last = rows.length === most ? rows.at(-1) : undefined;
    return {
      ids: rows.map(({ id }) => id),
      next: last && { rank: last.rank, dueAt: new Date(last.dueAtMs as number), id: last.id },
    };
  }

  upcoming(partitions: readonly number[], after: Date, until: Date, most: number) {
    const rows = this.#of(partitions)
      .filter((row) => (row.dueAtMs ?? 0) > after.getTime() && (row.dueAtMs as number) <= until.getTime())
      .sort((one, other) => (one.dueAtMs as number) - (other.dueAtMs as number));
    const lastMs = rows[most - 1]?.dueAtMs;
    const page = lastMs === undefined ? rows : rows.filter(({ dueAtMs }) => (dueAtMs as number) <= lastMs);
    return { ids: page.map(({ id }) => id), reached: lastMs === undefined ? until : new Date(lastMs) };
  }

  waiting(partitions: readonly number[]): string[] {
    return this.#of(partitions)
      .filter(({ awaits }) => awaits.length > 0)
      .map(({ id }) => id);
  }

  troubled(partitions: readonly number[]): string[] {
    return [...this.#troubled.values()].filter(({ partition }) => partitions.includes(partition)).map(({ id }) => id);
  }

  waitersElsewhere(dependencies: readonly string[], mine: readonly number[]) {
    return [...this.rows.values()]
      .filter(({ partition }) => !mine.includes(partition))
      .flatMap(({ id, awaits }) =>
        awaits
          .filter((dependency) => dependencies.includes(dependency))
          .map((dependency) => ({ waiter: id, dependency })),
      );
  }

  release(owner: string, partitions: readonly number[]): void {
    for (const partition of partitions) {
      const row = this.#partitions.get(partition);
      if (row?.owner === owner) row.expiresAtMs = this.nowMs;
    }
  }

  #beginAgain(partition: number, row: PartitionRow): void {
    row.position = 0n;
    this.#marks.add(partition);
    for (const { id } of this.#of([partition])) this.rows.delete(id);
  }

  #isFreeFor(owner: string, run: number, takeOver: boolean, row: PartitionRow): boolean {
    return (row.owner === owner ? row.run <= run : takeOver) || row.expiresAtMs <= this.nowMs;
  }

  #of(partitions: readonly number[]): DeliveryRow[] {
    return [...this.rows.values()].filter(({ partition }) => partitions.includes(partition));
  }
}

const rowOf = ({ rank, dueAt, id }: DueCursor): DeliveryRow => ({
  ...{ id, rank, dueAtMs: dueAt.getTime() },
  ...{ partition: 0, awaits: [] },
});

const byRank = (one: DeliveryRow, other: DeliveryRow): number =>
  one.rank - other.rank ||
  (one.dueAtMs ?? 0) - (other.dueAtMs ?? 0) ||
  (one.id < other.id ? -1 : Number(one.id > other.id));

/** What the simulation does not know of stays undone, loudly. */
const noPool = new Proxy({} as Pool, {
  get(_, name) {
    throw new Error(`the simulated database does not know this statement (pool.${String(name)} was used)`);
  },
});

export interface DatabaseWatch {
  /** Told of the partitions when they are taken. */
  readonly onClaim: (claims: readonly Claim[]) => void;
  /** Told of each checkpoint when it is sent. */
  readonly onSave: (checkpoint: Checkpoint) => void;
}

/** The database as one run of an instance reaches it. */
export class DatabaseClient extends EngineStore {
  readonly #scheduler: Scheduler;
  readonly #database: SimulatedDatabase;
  readonly #link: Link;
  readonly #name: string;
  readonly #watch: DatabaseWatch;
  readonly #run: number;

  constructor(
    scheduler: Scheduler,
    database: SimulatedDatabase,
    { link, owner, watch }: { link: Link; owner: string; watch: DatabaseWatch },
  ) {
    super(noPool, owner);
    this.#watch = watch;
    this.#scheduler = scheduler;
    this.#database = database;
    this.#link = link;
    this.#name = owner;
    this.#run = database.beginRun();
  }

  override nowMs(): Promise<number> {
    return this.#call(() => this.#database.nowMs);
  }

  override census(): Promise<number> {
    return this.#call(() => this.#database.census(this.#name));
  }

  override leave(): Promise<void> {
    return this.#call(() => this.#database.leave(this.#name));
  }

  override claim(most: number, mine: readonly number[], takeOver: boolean): Promise<Claim[]> {
    const claimer = { owner: this.#name, run: this.#run, host: this.#link.host };
    return this.#call(() => {
      const claims = this.#database.claim(claimer, most, mine, takeOver);
      this.#watch.onClaim(claims);
      return claims;
    });
  }

  override save(checkpoint: Checkpoint): Promise<number[]> {
    this.#watch.onSave(checkpoint);
    return this.#call(() => this.#database.save(checkpoint));
  }

  override isWhole(partitions: readonly number[]): Promise<boolean> {
    return this.#call(() => this.#database.isWhole(partitions));
  }

  override restart(held: readonly Held[]): Promise<void> {
    return this.#call(() => this.#database.restart(held));
  }

  override due(partitions: readonly number[], until: Date, after: DueCursor | undefined, most: number) {
    return this.#call(() => this.#database.due(partitions, until, after, most));
  }

  override upcoming(partitions: readonly number[], after: Date, until: Date, most: number) {
    return this.#call(() => this.#database.upcoming(partitions, after, until, most));
  }

  override waiting(partitions: readonly number[]): Promise<string[]> {
    return this.#call(() => this.#database.waiting(partitions));
  }

  override troubled(partitions: readonly number[]): Promise<string[]> {
    return this.#call(() => this.#database.troubled(partitions));
  }

  override waitersElsewhere(dependencies: readonly string[], mine: readonly number[]) {
    return this.#call(() => this.#database.waitersElsewhere(dependencies, mine));
  }

  override release(partitions: readonly number[]): Promise<void> {
    return this.#call(() => this.#database.release(this.#name, partitions));
  }

  #call<Result>(serve: () => Result): Promise<Result> {
    return call(this.#scheduler, this.#link, serve);
  }
}
