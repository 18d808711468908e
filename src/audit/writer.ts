import pg from 'pg';
import type { EventReader, SubscriptionBatch } from '../event-store/event-store.js';
import { originOf, signCheckpoint } from './checkpoint.js';
import { CHECKPOINT_WANTED, newestCheckpoint, storeCheckpoint } from './checkpoint-store.js';
import { leafOf } from './entry.js';
import { leafHash } from './merkle.js';
import type { SigningKeys } from './signing-keys.js';
import { AuditDamaged, claimTree, commitTree, loadTree, readEntryRows, releaseTree } from './store.js';
import { hashAt, ROW_ENTRIES, TreeBuilder } from './tree-builder.js';

export interface AuditWriterOptions {
  readonly reader: EventReader;
  readonly postgres: pg.ClientConfig;
  /** Identity of the event log. */
  readonly log: string;
  /** This instance; the same after a restart. */
  readonly owner: string;
  readonly keys: SigningKeys;
  /** A checkpoint is made after so many entries … */
  readonly checkpointEntries: number;
  /** … or so long after the last one if there is anything new; also when the instance stops. */
  readonly checkpointSeconds: number;
  /** Default 10,000 ms for which an instance that has fallen silent keeps the others from going on. */
  readonly leaseMs?: number;
  /** Default 500 ms between two commits, unless there is much to do. */
  readonly pauseMs?: number;
}

/** Called between commits; must not throw. */
export interface AuditObserver {
  /** A checkpoint was stored and may be published. */
  checkpoint?(note: string): void;
  /** What keeps the trail from growing; undefined when it grows again. */
  problem?(problem: string | undefined): void;
}

/** A commit takes no more events than about so many: 100 rows are one MiB. */
const COMMIT_EVENTS = 8_192;
const BATCH_EVENTS = 1_024;
/** Times in a lease that it is renewed. */
const RENEWALS = 4;
const TRY_AGAIN_MS = 1_000;
/** Between two looks at the log while it grows: close enough behind whoever shares the reader to find what they have read. */
const LOOK_MS = 100;
const STATEMENT_MS = 30_000;

/**
 * Follows the log and adds every event to the tree, exactly once. Of several instances one does so, whichever has the
 * lease; each commit moves the tree from exactly where it was, so one that has lost the lease unawares stores nothing.
 */
export class AuditWriter {
  readonly #options: Required<AuditWriterOptions>;
  readonly #observer: AuditObserver;
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #isCheckpointWanted = false;
  #lastCheckpoint = { size: 0, at: Number.NEGATIVE_INFINITY };
  #wake = () => {};

  constructor(options: AuditWriterOptions, observer: AuditObserver = {}) {
    this.#options = { leaseMs: 10_000, pauseMs: 500, ...options };
    this.#observer = observer;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** What was read is stored, and signed. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        await this.#session();
      } catch (error) {
        this.#observer.problem?.((error as Error).message);
      }
      await this.#rest(TRY_AGAIN_MS);
    }
  }

  async #session(): Promise<void> {
    const { postgres, owner, leaseMs, log } = this.#options;
    const client = new pg.Client({
      ...postgres,
      application_name: 'waybill-audit',
      keepAlive: true,
      connectionTimeoutMillis: 10_000,
      statement_timeout: STATEMENT_MS,
      query_timeout: STATEMENT_MS + 5_000,
    });
    // What breaks says so to whoever uses the connection.
    client.on('error', () => this.#wake());
    client.on('notification', () => {
      this.#isCheckpointWanted = true;
      this.#wake();
    });
    // However the session ends, it leaves nothing that reads on in the log.
    const ended = new AbortController();
    try {
      await client.connect();
      const epoch = await claimTree(client, owner, leaseMs);
      if (epoch === undefined) {
        this.#observer.problem?.(undefined);
        return await this.#rest(leaseMs / RENEWALS);
      }
      await client.query(`listen ${CHECKPOINT_WANTED}`);
      const state = await loadTree(client, log);
      const builder = new TreeBuilder(state);
      await this.#checkAgainstLog(client, builder);
      await this.#recallCheckpoint(client);
      this.#observer.problem?.(undefined);
      await this.#follow(client, epoch, builder, AbortSignal.any([this.#stopping.signal, ended.signal]));
      await releaseTree(client, epoch);
    } finally {
      ended.abort();
      await client.end().catch(() => undefined);
    }
  }

  /** The newest entry must still be in the log, and nowhere else in it: otherwise this is another story. */
  async #checkAgainstLog(client: pg.Client, { size, position }: TreeBuilder): Promise<void> {
    if (size === 0) return;
    const { reader, log } = this.#options;
    const [event] = await reader.readAll(position - 1n, 1);
    const row = Math.floor((size - 1) / ROW_ENTRIES);
    const [entries] = await readEntryRows(client, log, row, row + 1);
    const isSame =
      event?.position === position &&
      entries !== undefined &&
      leafHash(leafOf(event)).equals(hashAt(entries.hashes, (size - 1) % ROW_ENTRIES));
    if (!isSame)
      throw new AuditDamaged(
        `entry ${size - 1} of the audit trail is not what the event log has at position ${position}: verify the audit`,
      );
  }

  async #recallCheckpoint(client: pg.Client): Promise<void> {
    const newest = await newestCheckpoint(client, this.#options.log);
    this.#lastCheckpoint = { size: newest?.size ?? 0, at: newest ? Date.parse(newest.time) : Number.NEGATIVE_INFINITY };
  }

  /** @param signal aborts when the instance stops, or after this has failed */
  async #follow(client: pg.Client, epoch: bigint, builder: TreeBuilder, signal: AbortSignal): Promise<void> {
    const { reader, leaseMs, pauseMs } = this.#options;
    const source = reader.subscribe({ after: builder.position, batchSize: BATCH_EVENTS, signal });
    const events = source[Symbol.asyncIterator]();
    let next = events.next();
    // Whoever awaits it gets the error; this only says that waiting may begin later.
    next.catch(() => undefined);
    let committed = { size: builder.size, at: performance.now() };
    const commit = async () => {
      await this.#commit(client, epoch, committed.size, builder);
      committed = { size: builder.size, at: performance.now() };
    };
    while (!signal.aborted) {
      const pause = committed.at + (builder.size > committed.size ? pauseMs : leaseMs / RENEWALS) - performance.now();
      let batch = await this.#within(Math.max(0, pause), next);
      while (batch && !batch.done) {
        for (const event of batch.value.events) builder.add(event);
        const isEnough = batch.value.caughtUp || builder.size - committed.size >= COMMIT_EVENTS;
        next = events.next();
        next.catch(() => undefined);
        if (isEnough) break;
        batch = await next;
      }
      const isLarge = builder.size - committed.size >= COMMIT_EVENTS;
      if (isLarge || this.#isCheckpointWanted || performance.now() - committed.at >= pauseMs) {
        await commit();
        // What is signed is stored: nothing comes in between.
        if (this.#isCheckpointDue(builder.size)) await this.#sign(client, builder);
      }
      if (!isLarge) await this.#rest(LOOK_MS);
    }
    if (builder.size > committed.size) await commit();
    if (builder.size > this.#lastCheckpoint.size) await this.#sign(client, builder);
  }

  async #commit(client: pg.Client, epoch: bigint, from: number, builder: TreeBuilder): Promise<void> {
    const { log, leaseMs } = this.#options;
    const { size, position, chain } = builder;
    await commitTree(client, { log, epoch, leaseMs, from, to: { size, position, chain }, ...builder.takeChanged() });
  }

  #isCheckpointDue(size: number): boolean {
    const { checkpointEntries, checkpointSeconds } = this.#options;
    const fresh = size - this.#lastCheckpoint.size;
    const isWanted = this.#isCheckpointWanted;
    this.#isCheckpointWanted = false;
    if (fresh <= 0) return false;
    return isWanted || fresh >= checkpointEntries || Date.now() - this.#lastCheckpoint.at >= checkpointSeconds * 1_000;
  }

  async #sign(client: pg.Client, { size, root, position, chain }: TreeBuilder): Promise<void> {
    const { log, keys } = this.#options;
    const origin = originOf(log);
    const signers = await keys.signers(origin);
    const time = new Date().toISOString();
    const { size: previous } = this.#lastCheckpoint;
    const note = signCheckpoint({ origin, size, root, position, time, chain, previous }, signers);
    await storeCheckpoint(client, log, size, note, signers);
    if (signers.length > 1) await keys.rotated();
    this.#lastCheckpoint = { size, at: Date.now() };
    this.#observer.checkpoint?.(note);
  }

  /** @returns undefined when there is nothing for so long, or a reason to look after other things */
  async #within(ms: number, next: Promise<IteratorResult<SubscriptionBatch>>) {
    if (this.#isCheckpointWanted) return undefined;
    return await Promise.race([next, this.#rest(ms)]);
  }

  /** Ends early when there is something else to do. */
  #rest(ms: number): Promise<undefined> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        resolve(undefined);
      };
      const timer = setTimeout(done, this.#stopping.signal.aborted ? 0 : ms);
      this.#wake = done;
    });
  }
}
