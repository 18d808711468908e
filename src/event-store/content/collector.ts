import { setTimeout as delay } from 'node:timers/promises';
import type { EventReader } from '../event-store.js';
import { type ContentName, parseName, type StoredFile } from './content-store.js';
import type { Contents } from './contents.js';

export interface CollectorParts {
  readonly contents: Pick<Contents, 'store' | 'isUnderWay' | 'isTheLogs'>;
  readonly reader: Pick<EventReader, 'readStream'>;
  /** Which of these keys are destroyed. */
  readonly destroyedOf: (keys: readonly string[]) => Promise<ReadonlySet<string>>;
  /** How old an orphan must be: longer than any append takes, with all clocks that may differ. */
  readonly graceMs: number;
  readonly nowMs: () => number;
  readonly collected: (found: Collected) => void;
  readonly failed: (error: unknown) => void;
}

export interface Collected {
  /** All that there is, before anything was removed. */
  readonly contents: number;
  readonly bytes: number;
  /** Removed because no event names them. */
  readonly orphans: number;
  /** Removed because nobody can read them any more. */
  readonly unreadable: number;
  /** Removed because they had had their time. */
  readonly expired: number;
}

/** Not at once, when everything else starts too. */
const FIRST_AFTER_MS = 10 * 60_000;
const EVERY_MS = 3_600_000;
/** Streams read between two pauses, so that a million contents are looked at without anybody noticing. */
const LOOKED_AT_ONCE = 50;
const PAUSE_MS = 5;

/**
 * Removes contents that no event names, such as those of a request that a crash cut off, those whose key is destroyed, and
 * those that have had their time.
 * What decides is the event stream that a content's name says, never an index that might lack something. Every instance
 * does it at its own time; removing what is gone already does no harm.
 */
export class ContentCollector {
  readonly #parts: CollectorParts;
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<unknown> = Promise.resolve();
  /** What is older was found in the log by an earlier round of this process, and stays there. */
  #knownBeforeMs = 0;

  constructor(parts: CollectorParts) {
    this.#parts = parts;
  }

  start(): void {
    const round = () => {
      this.#running = this.run()
        .then(
          (found) => found && this.#parts.collected(found),
          (error) => this.#stop.signal.aborted || this.#parts.failed(error),
        )
        .finally(() => {
          if (!this.#stop.signal.aborted) this.#timer = setTimeout(round, EVERY_MS).unref();
        });
    };
    this.#timer = setTimeout(round, FIRST_AFTER_MS).unref();
  }

  /** Resolves when nothing is being removed any more. */
  async stop(): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** One round. @returns undefined when this is not the store of this log: nothing in it is ours to judge */
  async run(): Promise<Collected | undefined> {
    const { contents, graceMs, nowMs } = this.#parts;
    if ((await contents.isTheLogs()) !== true) return undefined;
    const graceOverMs = nowMs() - graceMs;
    const total = { contents: 0, bytes: 0, orphans: 0, unreadable: 0, expired: 0 };
    for await (const page of contents.store.list()) {
      if (this.#stop.signal.aborted) return undefined;
      total.contents += page.length;
      for (const { bytes } of page) total.bytes += bytes;
      const expired = page.map(({ name }) => name).filter((name) => isOver(name, nowMs()));
      const kept = page.filter(({ name }) => !expired.includes(name));
      const unreadable = await this.#unreadable(kept);
      const orphans = await this.#orphans(
        kept.filter(({ name }) => !unreadable.includes(name)),
        graceOverMs,
      );
      await contents.store.remove([...expired, ...unreadable, ...orphans]);
      total.orphans += orphans.length;
      total.unreadable += unreadable.length;
      total.expired += expired.length;
    }
    this.#knownBeforeMs = graceOverMs;
    return total;
  }

  async #unreadable(page: readonly StoredFile[]): Promise<string[]> {
    const keyOf = ({ name }: StoredFile) => parseName(name)?.key ?? '';
    const destroyed = await this.#parts.destroyedOf([...new Set(page.map(keyOf))]);
    return page.filter((file) => destroyed.has(keyOf(file))).map(({ name }) => name);
  }

  async #orphans(files: readonly StoredFile[], graceOverMs: number): Promise<string[]> {
    const orphans: string[] = [];
    let looked = 0;
    for (const { name, modifiedAtMs } of files) {
      const parsed = parseName(name);
      const isToJudge = modifiedAtMs < graceOverMs && modifiedAtMs >= this.#knownBeforeMs;
      if (!parsed || !isToJudge || this.#parts.contents.isUnderWay(name)) continue;
      if (++looked % LOOKED_AT_ONCE === 0) await delay(PAUSE_MS, undefined, { signal: this.#stop.signal });
      if (!(await this.#isNamed(parsed))) orphans.push(name);
    }
    return orphans;
  }

  async #isNamed(content: ContentName): Promise<boolean> {
    const events = await this.#parts.reader.readStream(content.streamId);
    return events.some(({ data }) => (data.stored as unknown as ContentName[] | undefined)?.some(isThat, content));
  }
}

function isOver(name: string, nowMs: number): boolean {
  const until = parseName(name)?.until;
  return until !== undefined && until * 1_000 <= nowMs;
}

function isThat(this: ContentName, { hash }: ContentName): boolean {
  return hash === this.hash;
}

/** Removes what a destroyed key leaves behind. */
export async function removeContentsOf(keys: readonly string[], { store }: Pick<Contents, 'store'>): Promise<void> {
  for (const key of keys)
    for await (const page of store.list(`${key}.`)) await store.remove(page.map(({ name }) => name));
}
