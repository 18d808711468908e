import type { EventReader, RecordedEvent } from '../event-store/event-store.js';
import type { EngineLog } from './engine-log.js';
import { type EngineStore, type Held, PARTITIONS } from './engine-store.js';
import type { Leases } from './leases.js';
import { pause } from './pause.js';
import type { Process } from './process-table.js';
import { Tenure } from './tenure.js';

/** How often to look for partitions to take or to give. */
const BALANCE_EVERY_MS = 1_000;
/** Between two tries to follow a log that cannot be read. */
const FOLLOW_AGAIN_MS = 500;

export type EngineState = 'stopped' | 'claiming' | 'catching-up' | 'running';

export interface TenuresParts {
  /** The streams of partition 0 begin with this and `0`. */
  readonly streams: string;
  readonly reader: EventReader;
  readonly store: EngineStore;
  readonly leases: Leases;
  readonly log: EngineLog;
  /** Aborts at a shutdown. */
  readonly stopped: AbortSignal;
  /** Stores where everything stands. */
  readonly save: () => Promise<void>;
  /** Brings partitions just taken in order before the log is folded from their checkpoint. */
  readonly open: (partitions: readonly number[]) => Promise<void>;
  readonly fold: (events: readonly RecordedEvent[], tenure: Tenure) => Promise<Iterable<Process>>;
  readonly onFolded: (process: Process, tenure: Tenure) => void;
  /** More is in memory than folding on would be good for. */
  readonly hasTooMuch: () => boolean;
  /** The head is reached: from here on it acts. */
  readonly onLive: (tenure: Tenure) => void;
  readonly onShare: (partOfAll: number) => void;
  /** Nothing new begins in them. @returns those where nothing is under way any more */
  readonly letGo: (partitions: ReadonlySet<number>) => ReadonlySet<number>;
  readonly onLost: (partitions: ReadonlySet<number>) => void;
}

/** Which partitions are this instance's, and how far the log is folded in each: takes, follows and gives them. */
export class Tenures {
  readonly #parts: TenuresParts;
  readonly #tenures = new Set<Tenure>();
  readonly #following = new Set<Promise<void>>();
  #state: EngineState = 'stopped';
  #balancing: Promise<void> | undefined;

  constructor(parts: TenuresParts) {
    this.#parts = parts;
  }

  get state(): EngineState {
    return this.#state;
  }

  /** Everything up to here is folded, in each partition. */
  get position(): bigint {
    let least: bigint | undefined;
    for (const { position } of this.#tenures) if (least === undefined || position < least) least = position;
    return least ?? 0n;
  }

  isLive(partition: number): boolean {
    for (const { partitions, isLive } of this.#tenures) if (partitions.has(partition)) return isLive;
    return false;
  }

  held(): Held[] {
    const { leases } = this.#parts;
    const held: Held[] = [];
    for (const { partitions, position } of this.#tenures)
      for (const partition of partitions) held.push({ partition, epoch: leases.epochOf(partition), position });
    return held;
  }

  start(): void {
    this.#state = 'claiming';
    this.#balancing = this.#balance();
  }

  /** Follows the log no further; resolves when the last batch is folded. */
  async end(): Promise<void> {
    for (const tenure of this.#tenures) tenure.end();
    await this.#balancing;
    await Promise.all(this.#following);
  }

  /** Gives everything back. */
  async leave(): Promise<void> {
    const { save, store, leases, log } = this.#parts;
    await save();
    try {
      await store.release(leases.partitions);
      await store.leave();
    } catch (error) {
      log.warn('the leases could not be released', { err: error });
    }
    this.#state = 'stopped';
  }

  /** All of it once more, from the beginning of the log. */
  async rewind(): Promise<void> {
    for (const tenure of this.#tenures) tenure.rewind();
    await this.#parts.store.restart(this.held());
  }

  /** They are another instance's now, or will be. */
  lose(partitions: readonly number[]): void {
    this.#parts.leases.drop(partitions);
    for (const tenure of this.#tenures) for (const partition of partitions) tenure.lose(partition);
    this.#parts.onLost(new Set(partitions));
  }

  async #balance(): Promise<void> {
    const { leases, log, stopped, onShare } = this.#parts;
    let isFailing = false;
    while (!stopped.aborted) {
      try {
        const claims = await leases.claim();
        onShare(Math.max(1, leases.partitions.length) / PARTITIONS);
        if (claims.length > 0) this.#take(new Tenure(claims));
        else if (this.#state === 'claiming') this.#state = 'running';
        await this.#giveSurplus();
        isFailing = false;
      } catch (error) {
        if (!isFailing) log.warn('the engine cannot claim its partitions yet', { err: error });
        isFailing = true;
      }
      await pause(BALANCE_EVERY_MS, stopped);
    }
  }

  #take(tenure: Tenure): void {
    this.#parts.log.info('partitions taken', { partitions: [...tenure.partitions] });
    if (this.#state === 'claiming') this.#state = 'catching-up';
    this.#tenures.add(tenure);
    const following = this.#follow(tenure).finally(() => {
      // At a shutdown it stays until its last checkpoint.
      if (tenure.partitions.size === 0) this.#tenures.delete(tenure);
      this.#following.delete(following);
      this.#seeWhetherAllRun();
    });
    this.#following.add(following);
  }

  /** Gives away what is beyond this instance's share, once no attempt is under way there. */
  async #giveSurplus(): Promise<void> {
    const { leases, letGo, save, store, log } = this.#parts;
    const given = [...letGo(new Set(leases.leaveSurplus()))];
    if (given.length === 0) return;
    await save();
    this.lose(given);
    await store.release(given);
    log.info('partitions given to other instances', { partitions: given });
  }

  /** Folds what happens in a tenure's partitions for as long as they are held, whatever becomes of the log meanwhile. */
  async #follow(tenure: Tenure): Promise<void> {
    const { streams, reader, open, fold, onFolded, hasTooMuch, save, log, stopped } = this.#parts;
    const over = AbortSignal.any([tenure.over, stopped]);
    const prefixes =
      tenure.partitions.size === PARTITIONS
        ? [streams]
        : [...tenure.partitions].map((partition) => streams + partition.toString(16));
    let isOpened = false;
    while (!over.aborted) {
      const signal = AbortSignal.any([over, tenure.beginPass()]);
      try {
        if (!isOpened) await open([...tenure.partitions]);
        isOpened = true;
        for await (const batch of reader.subscribe({ after: tenure.position, prefixes, signal })) {
          const changed = await fold(batch.events, tenure);
          if (signal.aborted) break;
          tenure.position = batch.position;
          for (const process of changed) onFolded(process, tenure);
          if (!tenure.isLive && batch.caughtUp) this.#goLive(tenure);
          if (!tenure.isLive && hasTooMuch()) await save();
        }
      } catch (error) {
        if (!signal.aborted) log.warn('the engine cannot follow the log; it will try again', { err: error });
      }
      // What was folded but not acted upon is found when it has caught up again.
      tenure.isLive = false;
      await pause(FOLLOW_AGAIN_MS, over);
    }
  }

  #goLive(tenure: Tenure): void {
    tenure.isLive = true;
    this.#seeWhetherAllRun();
    this.#parts.onLive(tenure);
  }

  /** Also when what was not there yet is another instance's now. */
  #seeWhetherAllRun(): void {
    if (this.#state === 'catching-up' && [...this.#tenures].every(({ isLive }) => isLive)) this.#state = 'running';
  }
}
