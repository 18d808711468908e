import type { RecordedEvent } from '../../event-store/event-store.js';

export interface EventBatch {
  readonly events: readonly RecordedEvent[];
  /** The log position up to which this batch, with all before it, says everything. */
  readonly position: bigint;
  readonly caughtUp: boolean;
}

export interface Pace {
  /** Asked anew for each read. @param isCaughtUp whether there is nothing more to read by now */
  maxEvents(isCaughtUp: boolean): number;
  /** Batches that are not full follow each other no faster than this. Asked anew while it is waited for. */
  delayMs(isBusy: boolean): number;
}

/**
 * So many times longer are batches waited for while events come fast. Most outcomes are then in the batch of their
 * request, and a row that is written once costs half of one that is written twice.
 */
const BUSY = 16;
/** … while somebody waits for what is in them. */
const AWAITED = 4;
/** So many times more events make a batch of what has come lately. */
const LIVE = 4;

/** How live read models are fed. */
export interface LiveFeed {
  readonly batchEvents: number;
  readonly batchDelayMs: number;
  /** Less than `batchEvents` while it is looked for what cannot be stored: no batch is larger then. */
  readonly limit: () => number;
  /** Whether somebody waits for what is not stored yet. */
  readonly isAwaited: () => boolean;
  readonly signal: AbortSignal;
}

export const livePace = ({ batchEvents, batchDelayMs, limit, isAwaited, signal }: LiveFeed): Pace => ({
  maxEvents: (isCaughtUp) => (isCaughtUp && limit() === batchEvents ? batchEvents * LIVE : limit()),
  delayMs(isBusy) {
    if (signal.aborted) return 0;
    if (!isBusy) return batchDelayMs;
    return batchDelayMs * (isAwaited() ? AWAITED : BUSY);
  },
});

/** From here on what a batch costs by itself, and an outcome that is not in the batch of its request, is worth a wait. */
const BUSY_PER_SECOND = 2_000;
/** How often it is read while a batch is waited for. */
const READ_MS = 50;

/**
 * Joins what a subscription gives into batches worth a transaction, and cuts what is too much for one. After a rest the
 * first events are passed on at once; under load a batch is passed on when it is full or some time after the one before,
 * so that a busy system makes few transactions and a quiet one makes nobody wait.
 */
export async function* paced(source: AsyncIterable<EventBatch>, pace: Pace): AsyncGenerator<EventBatch> {
  const iterator = source[Symbol.asyncIterator]();
  const read = () => {
    const next = iterator.next();
    // Whoever awaits it gets the error; this only says that waiting may begin later.
    next.catch(() => {});
    return next;
  };
  let passedOn = Number.NEGATIVE_INFINITY;
  let isBusy = false;
  let next: Promise<IteratorResult<EventBatch>> | undefined;
  try {
    for (;;) {
      const first = await (next ?? read());
      if (first.done) return;
      next = undefined;
      let batch = first.value;
      const most = pace.maxEvents(batch.caughtUp);
      if (batch.events.length > most) {
        const [now, later] = cut(batch, most);
        batch = now;
        next = Promise.resolve({ value: later });
      }
      while (batch.events.length < pace.maxEvents(batch.caughtUp)) {
        const waitMs = passedOn + pace.delayMs(isBusy) - performance.now();
        if (batch.caughtUp && waitMs <= 0) break;
        if (batch.caughtUp) await delay(Math.min(waitMs, READ_MS));
        next ??= read();
        const more = await atOnce(next);
        if (!more && batch.caughtUp) continue;
        if (!more || more.done) break;
        const isRoom = batch.events.length + more.value.events.length <= pace.maxEvents(more.value.caughtUp);
        if (!isRoom) break;
        next = undefined;
        batch = { ...more.value, events: [...batch.events, ...more.value.events] };
      }
      const now = performance.now();
      isBusy = batch.events.length * 1_000 >= BUSY_PER_SECOND * (now - passedOn);
      passedOn = now;
      yield batch;
    }
  } finally {
    // Not awaited: a read that waits for news ends only with its subscription's signal.
    iterator.return?.().catch(() => {});
  }
}

function cut(batch: EventBatch, at: number): [EventBatch, EventBatch] {
  const events = batch.events.slice(0, at);
  const { position } = events.at(-1) as RecordedEvent;
  return [
    { events, position, caughtUp: false },
    { ...batch, events: batch.events.slice(at) },
  ];
}

const delay = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Undefined when it has to be waited for. */
async function atOnce<T>(promise: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const soon = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, 1, undefined);
  });
  try {
    return await Promise.race([promise, soon]);
  } finally {
    clearTimeout(timer);
  }
}
