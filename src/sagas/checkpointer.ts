import { setTimeout as delay } from 'node:timers/promises';
import { isClosed } from '../domain/delivery-status.js';
import { react } from './delivery-process.js';
import type { EngineLog } from './engine-log.js';
import { type EngineStore, LeaseLost, type OpenDelivery } from './engine-store.js';
import type { Process, ProcessTable } from './process-table.js';

/** Deliveries due within this time are in memory; later ones live in Postgres only. */
const HORIZON_MS = 60_000;
const LOOK_AHEAD_EVERY_MS = 15_000;
/** How often to ask for partitions that somebody else still holds. */
const CLAIM_EVERY_MS = 1_000;

export interface CheckpointerParts {
  readonly store: EngineStore;
  readonly processes: ProcessTable;
  readonly log: EngineLog;
  readonly intervalMs: number;
  /** The log position up to which the processes are folded. */
  readonly position: () => bigint;
  /** Brings deliveries into memory and into action. */
  readonly load: (ids: readonly string[]) => Promise<void>;
  /** A delivery leaves memory until something happens to it or its time comes near. */
  readonly onEvict: (id: string) => void;
  readonly onLeaseLost: (error: Error) => void;
}

/**
 * The engine's write-behind memory. What is stored trails what is folded; since every row can be had again from the
 * log, a crash in between only means folding a little more. A delivery that begins and ends between two checkpoints
 * never costs a row.
 */
export class Checkpointer {
  readonly #parts: CheckpointerParts;
  #isOwner = false;
  #isFailing = false;
  #loadedUntil = new Date(0);
  #timers: NodeJS.Timeout[] = [];
  #saving: Promise<void> | undefined;

  constructor(parts: CheckpointerParts) {
    this.#parts = parts;
  }

  /** @returns the position to fold from; undefined when stopped while waiting for another instance's leases */
  async claim(takeOver: boolean, signal: AbortSignal): Promise<bigint | undefined> {
    while (!signal.aborted) {
      try {
        const position = await this.#parts.store.claim(takeOver);
        if (position !== undefined) {
          this.#isOwner = true;
          return position;
        }
      } catch (error) {
        this.#parts.log.warn('the engine cannot claim its partitions yet', { err: error });
      }
      await delay(CLAIM_EVERY_MS, undefined, { signal }).catch(() => undefined);
    }
    return undefined;
  }

  async start(): Promise<void> {
    this.#loadedUntil = new Date(Date.now() + HORIZON_MS);
    await this.#parts.load(await this.#parts.store.openUntil(this.#loadedUntil));
    this.#timers = [
      setInterval(() => void this.save(), this.#parts.intervalMs),
      setInterval(() => void this.#lookAhead(), LOOK_AHEAD_EVERY_MS),
    ];
  }

  /** Stores a last checkpoint and gives the partitions back. */
  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    await this.#saving;
    if (!this.#isOwner) return;
    await this.save();
    await this.#parts.store
      .release()
      .catch((error: unknown) => this.#parts.log.warn('the leases could not be released', { err: error }));
  }

  /** One save at a time; a call while one is under way joins it. */
  save(): Promise<void> {
    this.#saving ??= this.#save().finally(() => {
      this.#saving = undefined;
    });
    return this.#saving;
  }

  async #save(): Promise<void> {
    const position = this.#parts.position();
    const changed = this.#parts.processes.takeChanged();
    const open: { process: Process; row: OpenDelivery }[] = [];
    const closed: Process[] = [];
    for (const process of changed) {
      if (isClosed(process.state) && process.busy.size === 0) closed.push(process);
      else if (!process.suspended) open.push({ process, row: rowOf(process) });
    }
    try {
      await this.#parts.store.save({
        position,
        open: open.map(({ row }) => row),
        closed: closed.filter(({ stored }) => stored).map(({ id }) => id),
      });
    } catch (error) {
      this.#parts.processes.giveBack(changed);
      if (error instanceof LeaseLost) this.#parts.onLeaseLost(error);
      else if (!this.#isFailing)
        this.#parts.log.warn('the engine cannot store its checkpoints for now; it goes on', { err: error });
      this.#isFailing = true;
      return;
    }
    if (this.#isFailing) this.#parts.log.info('the engine stores its checkpoints again');
    this.#isFailing = false;
    for (const process of closed) {
      if (!this.#parts.processes.hasChanged(process)) this.#parts.processes.remove(process);
    }
    for (const { process, row } of open) {
      process.stored = true;
      if (this.#mayLeave(process, row)) {
        this.#parts.processes.remove(process);
        this.#parts.onEvict(process.id);
      }
    }
  }

  #mayLeave(process: Process, { dueAt, awaits }: OpenDelivery): boolean {
    const isFar = dueAt === undefined || dueAt > this.#loadedUntil;
    const isIdle = process.busy.size === 0 && !process.deciding && !this.#parts.processes.hasChanged(process);
    return isFar && isIdle && awaits.length === 0;
  }

  async #lookAhead(): Promise<void> {
    const after = this.#loadedUntil;
    // Moved first: what is put aside from now on is later than what the query is about to find.
    this.#loadedUntil = new Date(Date.now() + HORIZON_MS);
    try {
      await this.#parts.load(await this.#parts.store.dueBetween(after, this.#loadedUntil));
    } catch (error) {
      this.#loadedUntil = after;
      this.#parts.log.warn('the engine could not load what comes due; it will try again', { err: error });
    }
  }
}

/** Due at once (the beginning of time) when there is something to do that nothing but a crash can interrupt. */
const AT_ONCE = new Date(0);

function rowOf(process: Process): OpenDelivery {
  const { id, state, busy } = process;
  const reaction = react(state, new Date().toISOString(), () => false);
  const isAttempting = state.tag === 'active' && state.legs.some((leg) => leg.progress.tag === 'attempting');
  const isAtOnce = busy.size > 0 || isAttempting || reaction.attempts.length > 0 || reaction.commands.length > 0;
  const dueAt = isAtOnce ? AT_ONCE : reaction.wakeAt === undefined ? undefined : new Date(reaction.wakeAt);
  return { id, dueAt, awaits: reaction.awaits };
}
