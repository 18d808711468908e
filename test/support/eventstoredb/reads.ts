import { setImmediate as nextTurn } from 'node:timers/promises';
import type { RecordedEvent } from '../../../src/event-store/event-store.js';
import type { Filter } from './filters.js';
import type { From } from './requests.js';
import type { Store, StreamView } from './store.js';

// A log takes long to go through; after every page everybody else comes in between.

/** A page is held in memory, and events may be large: a stream's first one is small, later ones are larger. */
const FIRST_PAGE = 4;
const LARGEST_PAGE = 64;
const ALL_PAGE = 256;

interface ReadOptions {
  readonly from: From;
  readonly backwards: boolean;
  /** Most events to give. */
  readonly count: number;
}

/** A stream's events that its metadata leaves, in pages, from a revision (inclusive). */
export async function* streamPages(
  store: Store,
  stream: string,
  { first, last, notBefore }: Extract<StreamView, { kind: 'events' }>,
  { from, backwards, count }: ReadOptions,
): AsyncGenerator<RecordedEvent[]> {
  const [start, direction, step] = backwards
    ? [Math.min(revisionAt(from, last), last), 'backwards' as const, -1]
    : [Math.max(revisionAt(from, last + 1), first), 'forwards' as const, 1];
  let next = start;
  let left = count;
  for (let size = FIRST_PAGE; left > 0 && next >= first && next <= last; size = Math.min(size * 4, LARGEST_PAGE)) {
    const inRange = backwards ? next - first + 1 : last - next + 1;
    const events = await store.log.readStream(stream, { from: next, limit: Math.min(size, inRange, left), direction });
    const furthest = events.at(-1);
    if (!furthest) return;
    next = furthest.revision + step;
    const young = notBefore > 0 ? events.filter(({ created }) => Date.parse(created) >= notBefore) : events;
    left -= young.length;
    yield young;
    await nextTurn();
  }
}

function revisionAt(from: From, end: number): number {
  if (from === 'start') return 0;
  return from === 'end' ? end : Number(from);
}

/** All events that there are now, in pages: forwards from the one at a position on, backwards from the one before it. */
export async function* allPages(
  store: Store,
  { from, backwards, count, filter }: ReadOptions & { readonly filter: Filter | undefined },
): AsyncGenerator<RecordedEvent[]> {
  if (from === (backwards ? 'start' : 'end')) return;
  // Towards the beginning: what comes before it; towards the end: what comes after it.
  let at = from === 'end' ? from : from === 'start' || from === 0n ? 0n : backwards ? from : from - 1n;
  const { head } = store;
  for (let left = count; left > 0 && (at === 'end' || backwards || at < head); ) {
    const limit = Math.min(ALL_PAGE, filter ? Infinity : left);
    const read =
      at === 'end' || backwards
        ? await store.log.readAllBackwards(at, limit)
        : await store.log.readAll(at, Math.min(limit, Number(head - at)));
    const furthest = read.at(-1);
    if (!furthest) return;
    at = furthest.position;
    const events = filter ? read.filter(filter).slice(0, left) : read;
    left -= events.length;
    yield events;
    await nextTurn();
  }
}
