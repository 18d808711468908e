import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { DATA_FILE } from './embedded-file.js';
import type { EmbeddedLogReader } from './embedded-log-reader.js';
import type { Progress } from './embedded-verify.js';

export interface LogStats {
  readonly events: number;
  readonly streams: number;
  /** Position of the newest event, `0` when there is none. */
  readonly head: string;
  /** What the file takes on disk, pages that are free for use included. */
  readonly bytes: number;
  readonly bytesPerEvent: number | null;
  /** RFC 3339, UTC */
  readonly firstCreated: string | null;
  readonly lastCreated: string | null;
  /** The most frequent first; at most 200, the others together as `(others)`. */
  readonly eventsByType: Readonly<Record<string, number>>;
  /** The same of streams by what stands before the first dash of their names. */
  readonly streamsByCategory: Readonly<Record<string, number>>;
}

const PAGE = 1_000;
const NAMED = 200;
/** Names nobody expects in such a number are counted together. */
const COUNTED = 10_000;
const OTHERS = '(others)';

/** Reads the whole log, as far as it went when it began. */
export async function statsOf(
  folder: string,
  reader: EmbeddedLogReader,
  progress: Progress = () => undefined,
): Promise<LogStats> {
  const head = await reader.head();
  const types = new Counter();
  const categories = new Counter();
  let [events, streams] = [0, 0];
  let firstCreated: string | null = null;
  let lastCreated: string | null = null;
  for (let after = 0n; after < head; await nextTurn()) {
    const page = await reader.readAll(after, Math.min(PAGE, Number(head - after)));
    for (const { type, revision, streamId, created } of page) {
      types.add(type);
      firstCreated ??= created;
      lastCreated = created;
      if (revision > 0) continue;
      streams++;
      categories.add(categoryOf(streamId));
    }
    events += page.length;
    after = page.at(-1)?.position ?? head;
    progress(Number(after), Number(head));
  }
  const { size } = await stat(join(folder, DATA_FILE));
  return {
    events,
    streams,
    head: head.toString(),
    bytes: size,
    bytesPerEvent: events === 0 ? null : Math.round(size / events),
    firstCreated,
    lastCreated,
    eventsByType: types.top(),
    streamsByCategory: categories.top(),
  };
}

const categoryOf = (streamId: string): string => streamId.slice(0, Math.max(streamId.indexOf('-'), 0)) || '(none)';

class Counter {
  readonly #counts = new Map<string, number>();

  add(name: string, count = 1): void {
    const key = this.#counts.size < COUNTED || this.#counts.has(name) ? name : OTHERS;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + count);
  }

  top(): Record<string, number> {
    const sorted = [...this.#counts].sort(([one, count], [other, more]) => more - count || (one < other ? -1 : 1));
    const others = sorted.splice(NAMED).reduce((sum, [, count]) => sum + count, 0);
    return Object.fromEntries(others > 0 ? [...sorted, [OTHERS, others]] : sorted);
  }
}
