import type { Priority } from '../domain/vocabulary.js';
import { dependencyOutcome, isAttempting, isOver, type Reaction, react } from './delivery-process.js';
import type { EngineLog } from './engine-log.js';
import type { DueCursor, EngineStore, Held, OpenDelivery } from './engine-store.js';
import type { Leases } from './leases.js';
import type { Process, ProcessTable } from './process-table.js';
import type { StoredTrouble } from './suspension-store.js';

/** Deliveries due within this time are brought into memory; later ones are in Postgres only. */
const HORIZON_MS = 60_000;
/** How often to look for what comes due, while everything that is due is in memory … */
const LOOK_AHEAD_EVERY_MS = 15_000;
/** … and while it is not, because there is too much of it or Postgres does not answer. */
const LOOK_AGAIN_MS = 250;
const PAGE = 1_000;
/** With more than this in memory nothing that merely waits for its time is added. */
const ENOUGH_IN_MEMORY = 20_000;

export interface CheckpointerParts {
  readonly store: EngineStore;
  readonly leases: Leases;
  readonly processes: ProcessTable;
  readonly log: EngineLog;
  readonly intervalMs: number;
  /** What this instance holds, and up to where it has folded the log. */
  readonly held: () => readonly Held[];
  /** Brings deliveries into memory and into action. */
  readonly load: (ids: readonly string[]) => Promise<void>;
  /** A delivery leaves memory until something happens to it or its time comes near. */
  readonly onEvict: (id: string) => void;
  /** What a delivery calls for cannot be told: its process has thrown. */
  readonly onThrown: (process: Process, error: unknown) => void;
  /** Its row can be found by others now. */
  readonly onStored: (process: Process) => void;
  /** A delivery has ended that another one waits for, in a partition of another instance; resolves when that knows. */
  readonly onAwaited: (waiter: string, dependency: string) => Promise<void>;
  readonly onRenewed: () => void;
  readonly onLost: (partitions: readonly number[]) => void;
  /** The rows are gone, though not by anything the engine has done. */
  readonly onEmptied: () => Promise<void>;
}

/**
 * The engine's write-behind memory. What is stored trails what is folded; since every row can be had again from the
 * log, a crash in between only means folding a little more. A delivery that begins and ends between two checkpoints
 * never costs a row.
 */
export class Checkpointer {
  readonly #parts: CheckpointerParts;
  /** Overdue rows of partitions just taken, still to be read. */
  #backlogs: { readonly partitions: readonly number[]; readonly until: Date; after: DueCursor | undefined }[] = [];
  /** Of what is due by then, everything is in memory or in a backlog. */
  #loadedUntil = new Date(0);
  #isFailing = false;
  #isLookingFailing = false;
  #saver: NodeJS.Timeout | undefined;
  #looker: NodeJS.Timeout | undefined;
  #saving: Promise<void> | undefined;
  #looking: Promise<void> = Promise.resolve();

  constructor(parts: CheckpointerParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#loadedUntil = new Date(this.#nowMs() + HORIZON_MS);
    this.#saver = setInterval(() => void this.save(), this.#parts.intervalMs);
    this.#lookAgainIn(LOOK_AHEAD_EVERY_MS);
  }

  /** Brings what waits in partitions just taken: others' ends at once, times as they fit. */
  async open(partitions: readonly number[]): Promise<void> {
    const { store, load, processes } = this.#parts;
    await load(await store.waiting(partitions));
    const troubled = await store.troubled(partitions);
    await load(troubled);
    for (const id of troubled) {
      const process = processes.get(id);
      if (!process) continue;
      process.hasTroubleRow = true;
      processes.touch(process);
    }
    this.#backlogs.push({ partitions, until: this.#loadedUntil, after: undefined });
    this.#lookAgainIn(0);
  }

  async stop(): Promise<void> {
    clearInterval(this.#saver);
    clearTimeout(this.#looker);
    this.#looker = undefined;
    await this.#saving;
    await this.#looking;
  }

  /** One save at a time; a call while one is under way joins it. */
  save(): Promise<void> {
    this.#saving ??= this.#save().finally(() => {
      this.#saving = undefined;
    });
    return this.#saving;
  }

  /** In place of a checkpoint: one at the same time would put the positions forward again, or store what is deleted. */
  async #beginAgain(): Promise<void> {
    await this.#saving;
    const begun = this.#parts.onEmptied();
    this.#saving = begun
      .catch(() => undefined)
      .finally(() => {
        this.#saving = undefined;
      });
    await begun;
  }

  async #save(): Promise<void> {
    const { store, leases, processes, log } = this.#parts;
    const held = this.#parts.held();
    if (held.length === 0) return;
    const changed = processes.takeChanged();
    const open: { process: Process; row: OpenDelivery }[] = [];
    const closed: Process[] = [];
    const ended: Process[] = [];
    for (const process of changed) {
      if (process.trouble) continue;
      if (isOver(process.state) && process.busy.size === 0) closed.push(process);
      else {
        const row = this.#rowOf(process);
        if (row) open.push({ process, row });
      }
      if (!process.isTold && dependencyOutcome(process.state)) ended.push(process);
    }
    const recovered = changed.filter(({ trouble, hasTroubleRow }) => hasTroubleRow && !trouble);
    const troubled: StoredTrouble[] = [];
    for (const process of changed) {
      if (!process.trouble) continue;
      troubled.push({ id: process.id, partition: process.partition, ...process.trouble });
      // From now on, as it may be out of it before this is stored.
      process.hasTroubleRow = true;
    }
    let awaited = new Map<Process, string[]>();
    try {
      awaited = await this.#waitersElsewhere(ended);
      const gone = closed.filter((process) => process.stored && !awaited.has(process));
      // What others wait for has a row until they know: whoever takes over after a crash tells them.
      const kept = closed.filter((process) => awaited.has(process));
      // Also when nothing is heard of it, it may have been stored.
      for (const process of [...open.map((each) => each.process), ...kept]) process.stored = true;
      const askedAtMs = performance.now();
      const lost = await store.save({
        held,
        open: [...open.map(({ row }) => row), ...kept.map(rowAtOnce)],
        closed: gone.map(({ id }) => id),
        troubled,
        recovered: recovered.map(({ id }) => id),
      });
      if (lost.length > 0) {
        processes.giveBack(changed);
        this.#parts.onLost(lost);
        return;
      }
      leases.renewed(held, askedAtMs);
    } catch (error) {
      processes.giveBack(changed);
      if (!this.#isFailing) log.warn('the engine cannot store its checkpoints for now', { err: error });
      this.#isFailing = true;
      return;
    }
    if (this.#isFailing) log.info('the engine stores its checkpoints again');
    this.#isFailing = false;
    for (const process of recovered) if (!process.trouble) process.hasTroubleRow = false;
    this.#parts.onRenewed();
    for (const process of closed)
      if (!processes.hasChanged(process) && !awaited.has(process)) processes.remove(process);
    for (const [process, waiters] of awaited) void this.#tell(process, waiters);
    for (const { process, row } of open) {
      this.#parts.onStored(process);
      if (this.#mayLeave(process, row)) {
        processes.remove(process);
        this.#parts.onEvict(process.id);
      }
    }
  }

  /** Which of these others wait for, in partitions of other instances. */
  async #waitersElsewhere(ended: readonly Process[]): Promise<Map<Process, string[]>> {
    const { store, leases } = this.#parts;
    const awaited = new Map<Process, string[]>();
    if (ended.length === 0 || leases.hasAll()) return awaited;
    const byId = new Map(ended.map((process) => [process.id, process]));
    for (const { waiter, dependency } of await store.waitersElsewhere([...byId.keys()], leases.partitions)) {
      const process = byId.get(dependency) as Process;
      const waiters = awaited.get(process);
      if (waiters) waiters.push(waiter);
      else awaited.set(process, [waiter]);
    }
    return awaited;
  }

  async #tell(process: Process, waiters: readonly string[]): Promise<void> {
    const { processes, onAwaited } = this.#parts;
    await Promise.all(waiters.map((waiter) => onAwaited(waiter, process.id)));
    process.isTold = true;
    if (processes.get(process.id) === process) processes.touch(process);
  }

  #mayLeave(process: Process, { dueAt, awaits }: OpenDelivery): boolean {
    const isFar = dueAt === undefined || dueAt > this.#loadedUntil;
    const isIdle = process.busy.size === 0 && !process.deciding && !this.#parts.processes.hasChanged(process);
    return isFar && isIdle && awaits.length === 0;
  }

  #lookAgainIn(delayMs: number): void {
    clearTimeout(this.#looker);
    this.#looker = setTimeout(() => {
      this.#looking = this.#looking.then(() => this.#look());
    }, delayMs);
  }

  /** A page of what is overdue, else of what comes due, as long as there is room for it. */
  async #look(): Promise<void> {
    let isAll = false;
    try {
      if (!(await this.#parts.store.isWhole(this.#parts.leases.partitions))) await this.#beginAgain();
      while (!isAll && this.#parts.processes.size < ENOUGH_IN_MEMORY) isAll = await this.#loadPage();
      this.#isLookingFailing = false;
    } catch (error) {
      if (!this.#isLookingFailing)
        this.#parts.log.warn('the engine cannot load what comes due for now', { err: error });
      this.#isLookingFailing = true;
    }
    if (this.#looker !== undefined) this.#lookAgainIn(isAll ? LOOK_AHEAD_EVERY_MS : LOOK_AGAIN_MS);
  }

  /** @returns whether that was the last one for now */
  async #loadPage(): Promise<boolean> {
    const { store, leases, load } = this.#parts;
    const backlog = this.#backlogs[0];
    if (backlog) {
      const partitions = backlog.partitions.filter((partition) => leases.has(partition));
      const { ids, next } = await store.due(partitions, backlog.until, backlog.after, PAGE);
      await load(ids);
      backlog.after = next;
      if (!next) this.#backlogs.shift();
      return false;
    }
    const until = new Date(this.#nowMs() + HORIZON_MS);
    if (until <= this.#loadedUntil) return true;
    const after = this.#loadedUntil;
    // Moved first: what is put aside from now on is later than what the query is about to find.
    this.#loadedUntil = until;
    try {
      const { ids, reached } = await store.upcoming(leases.partitions, after, until, PAGE);
      this.#loadedUntil = reached;
      await load(ids);
      return reached >= until;
    } catch (error) {
      this.#loadedUntil = after;
      throw error;
    }
  }

  /** Undefined when its process throws. */
  #rowOf(process: Process): OpenDelivery | undefined {
    const { id, state, busy } = process;
    const reaction = this.#reactionOf(process);
    if (!reaction) return undefined;
    const isAtOnce =
      busy.size > 0 || isAttempting(state) || reaction.attempts.length > 0 || reaction.commands.length > 0;
    const dueAt = isAtOnce ? AT_ONCE : reaction.wakeAt === undefined ? undefined : new Date(reaction.wakeAt);
    return { id, priority: priorityOf(process), dueAt, awaits: reaction.awaits };
  }

  #reactionOf(process: Process): Reaction | undefined {
    try {
      return react(process.state, this.#parts.leases.clock.now(), () => false);
    } catch (error) {
      this.#parts.onThrown(process, error);
      return undefined;
    }
  }

  #nowMs(): number {
    return this.#parts.leases.clock.nowMs();
  }
}

const priorityOf = ({ state }: Process): Priority => (state.tag === 'absent' ? 'NORMAL' : state.request.priority);

const rowAtOnce = (process: Process): OpenDelivery => ({
  id: process.id,
  priority: priorityOf(process),
  dueAt: AT_ONCE,
  awaits: [],
});

/** Due at once (the beginning of time) when there is something to do that nothing but a crash can interrupt. */
const AT_ONCE = new Date(0);
