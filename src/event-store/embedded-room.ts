import { closeSync, fstatSync, openSync, write } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { RootDatabase } from 'lmdb';
import { DATA_FILE } from './embedded-file.js';

const writeTo = promisify(write);

/** Written at once. A commit that finds them in the file makes them durable too, so they are few. */
const ZEROS = Buffer.alloc(256 * 1024);
/** Room for the commits after the next one, so that hardly any has to wait for it. */
const LEAD_BYTES = 1024 * 1024;
/** lmdb's page, unless the file was made with another. */
const PAGE_BYTES = 4_096;
/** What a commit writes beside events and index: roots, branches, the list of free pages. */
const OVERHEAD_PAGES = 16;

/**
 * The log's place on the disk, taken before LMDB needs it: zeros at the end of the file (decision 0090).
 *
 * So a full disk, a used up quota and a file that may not grow are found out before a transaction begins. LMDB itself can
 * end the process then: it tells of a write that fails in a text for which it has not enough memory.
 */
export class LogRoom {
  /** Opened to append: whatever LMDB writes meanwhile, zeros go behind it and never over it. */
  readonly #file: number;
  readonly #env: RootDatabase;
  /** Bytes that are there for certain: LMDB mostly takes less than it might, which is looked at when these are used up. */
  #left = 0;
  #growing: Promise<void> | undefined;
  #isClosed = false;

  constructor(folder: string, env: RootDatabase) {
    this.#env = env;
    this.#file = openSync(join(folder, DATA_FILE), 'a');
  }

  /**
   * Takes room for a commit.
   *
   * @param events in it
   * @param bytes of their records
   * @returns nothing when it was there already
   * @throws NodeJS.ErrnoException ENOSPC, EDQUOT, EFBIG, … (by the promise)
   */
  take(events: number, bytes: number): Promise<void> | undefined {
    if (this.#isClosed) throw new Error('the event log is closed');
    // Each event may be on a page of the index of its own, and large ones have pages of their own.
    const needed = (OVERHEAD_PAGES + 2 * events) * PAGE_BYTES + 2 * bytes;
    // What is being written now would be counted twice.
    if (needed > this.#left && !this.#growing) {
      this.#left = this.#ahead();
      this.#grow(needed + LEAD_BYTES);
    }
    if (needed > this.#left) return this.#wait(events, bytes, needed);
    this.#left -= needed;
    return undefined;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // Its number may be another file's as soon as it is closed.
    await this.#growing?.catch(() => undefined);
    closeSync(this.#file);
  }

  async #wait(events: number, bytes: number, needed: number): Promise<void> {
    try {
      await this.#growing;
    } catch (error) {
      // There may be enough for this commit all the same.
      if (needed > this.#left) throw error;
    }
    await this.take(events, bytes);
  }

  #grow(bytes: number): void {
    const growing = this.#fill(bytes).finally(() => {
      this.#growing = undefined;
    });
    // Only who needs it at once is told.
    growing.catch(() => undefined);
    this.#growing = growing;
  }

  async #fill(bytes: number): Promise<void> {
    while (this.#left < bytes && !this.#isClosed) {
      // A disk that is nearly full takes a part of it, and refuses the rest when asked once more.
      const { bytesWritten } = await writeTo(this.#file, ZEROS);
      this.#left += bytesWritten;
    }
  }

  /** Bytes from the last page that is in use to the end of the file. */
  #ahead(): number {
    const { lastPageNumber, pageSize } = this.#env.getStats() as { lastPageNumber: number; pageSize: number };
    return Math.max(fstatSync(this.#file).size - (lastPageNumber + 1) * pageSize, 0);
  }
}
