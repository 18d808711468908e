import { randomUUID } from 'node:crypto';
import { invalidArgument, streamDeleted } from './errors.js';
import { filterOf } from './filters.js';
import type { Out } from './read.js';
import { allPages, streamPages } from './reads.js';
import { type FilterOptions, type From } from './requests.js';
import { encodeCaughtUp, encodeCheckpoint, encodeConfirmation, encodeFellBehind } from './responses.js';
import type { Store } from './store.js';

/** Events looked at between two checkpoints, for each unit of the caller's multiplier, when it names no window. */
const DEFAULT_WINDOW = 32;

/** What follows a stream from after a revision on; ends when the caller goes, or with an error when it is tombstoned. */
export async function subscribeToStream(store: Store, stream: string, from: From, out: Out): Promise<void> {
  const progress = new Progress(out);
  let next = from === 'end' ? undefined : from === 'start' ? 0 : Number(from) + 1;
  while (!out.signal.aborted) {
    const { head } = store;
    const view = await store.view(stream);
    if (view.kind === 'stream-deleted') throw streamDeleted(stream);
    await progress.confirm();
    const end = view.kind === 'events' ? view.last + 1 : 0;
    next ??= end;
    if (view.kind === 'events' && next < end) {
      await progress.behind(end - next);
      const options = { from: BigInt(next), backwards: false, count: Infinity };
      for await (const events of streamPages(store, stream, view, options)) {
        await out.sendEvents(events);
        if (out.signal.aborted) return;
      }
      next = end;
    }
    await progress.caughtUp();
    await store.news(head, out.signal);
  }
}

/**
 * What follows in $all from after a position on. With a filter, checkpoints tell how far it has looked: at intervals, and
 * whenever it has caught up.
 */
export async function subscribeToAll(
  store: Store,
  from: From,
  options: FilterOptions | undefined,
  out: Out,
): Promise<void> {
  const filter = options && filterOf(options);
  const interval = options ? (options.window ?? DEFAULT_WINDOW) * options.checkpointIntervalMultiplier : Infinity;
  if (interval === 0) throw invalidArgument('the checkpoint interval must not be 0');
  const progress = new Progress(out);
  await progress.confirm();
  let after = from === 'start' ? 0n : from === 'end' ? store.head : from;
  let checkpoint = after;
  let looked = 0;
  while (!out.signal.aborted) {
    const { head } = store;
    await progress.behind(Number(head - after));
    const missing = { from: after + 1n, backwards: false, count: Infinity, filter: undefined };
    for await (const events of allPages(store, missing)) {
      if (!filter) await out.sendEvents(events);
      else
        for (const event of events) {
          if (filter(event)) await out.sendEvents([event]);
          if (++looked < interval) continue;
          looked = 0;
          checkpoint = event.position;
          await out.send(encodeCheckpoint(checkpoint));
        }
      after = events.at(-1)?.position ?? after;
      if (out.signal.aborted) return;
    }
    if (filter && !progress.isLive && checkpoint < after) {
      looked = 0;
      checkpoint = after;
      await out.send(encodeCheckpoint(checkpoint));
    }
    await progress.caughtUp();
    await store.news(head, out.signal);
  }
}

/** A live subscription that has at least so many events to catch up with is told that it fell behind. */
const BEHIND = 256;

/** What a subscription is told about itself, each thing when it changes. */
class Progress {
  readonly #out: Out;
  #isConfirmed = false;
  isLive = false;

  constructor(out: Out) {
    this.#out = out;
  }

  async confirm(): Promise<void> {
    if (this.#isConfirmed) return;
    this.#isConfirmed = true;
    await this.#out.send(encodeConfirmation(randomUUID()));
  }

  async caughtUp(): Promise<void> {
    if (this.isLive) return;
    this.isLive = true;
    await this.#out.send(encodeCaughtUp());
  }

  async behind(events: number): Promise<void> {
    if (!this.isLive || events < BEHIND) return;
    this.isLive = false;
    await this.#out.send(encodeFellBehind());
  }
}
