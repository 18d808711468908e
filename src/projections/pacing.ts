import type { RecordedEvent } from '../event-store/event-store.js';

export interface EventBatch {
  readonly events: readonly RecordedEvent[];
  /** The log position up to which this batch, with all before it, says everything. */
  readonly position: bigint;
  readonly caughtUp: boolean;
}

export interface Pace {
  /** Asked anew for each batch. */
  maxEvents(): number;
  /** Batches that are not full follow each other no faster than this … */
  readonly delayMs: number;
  /** … or, while events come as fast as `BUSY_PER_SECOND`, than this. */
  readonly busyDelayMs: number;
}

/** From here on what a batch costs by itself, and an outcome that is not in the batch of its request, is worth a wait. */
const BUSY_PER_SECOND = 2_000;

/**
 * Joins what a subscription gives into batches worth a transaction. After a rest the first events are passed on at
 * once; under load a batch is passed on when it is full or some time after the one before, so that a busy system makes
 * few transactions and a quiet one makes nobody wait.
 *
 * It does not read while it waits: all that comes meanwhile is read at once.
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
  let { delayMs } = pace;
  let next: Promise<IteratorResult<EventBatch>> | undefined;
  try {
    for (;;) {
      const first = await (next ?? read());
      if (first.done) return;
      next = undefined;
      let batch = first.value;
      const waitMs = passedOn + delayMs - performance.now();
      let isMore = !batch.caughtUp;
      if (!isMore && waitMs > 0 && batch.events.length < pace.maxEvents()) {
        await delay(waitMs);
        isMore = true;
      }
      while (isMore && batch.events.length < pace.maxEvents()) {
        next = read();
        const more = await atOnce(next);
        if (!more || more.done || batch.events.length + more.value.events.length > pace.maxEvents()) break;
        next = undefined;
        batch = { ...more.value, events: [...batch.events, ...more.value.events] };
        isMore = !batch.caughtUp;
      }
      const now = performance.now();
      const isBusy = batch.events.length * 1_000 >= BUSY_PER_SECOND * (now - passedOn);
      delayMs = isBusy ? pace.busyDelayMs : pace.delayMs;
      passedOn = now;
      yield batch;
    }
  } finally {
    // Not awaited: a read that waits for news ends only with its subscription's signal.
    iterator.return?.().catch(() => {});
  }
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
