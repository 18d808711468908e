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
  /** Batches that are not full follow each other no faster than this. */
  readonly delayMs: number;
}

/**
 * Joins what a subscription gives into batches worth a transaction. After a rest the first events are passed on at
 * once; under load a batch is passed on when it is full or `delayMs` after the one before, so that a busy system makes
 * few transactions and a quiet one makes nobody wait.
 *
 * Reads one batch ahead, so that the log is read while Postgres is at work.
 */
export async function* paced(source: AsyncIterable<EventBatch>, pace: Pace): AsyncGenerator<EventBatch> {
  const iterator = source[Symbol.asyncIterator]();
  const read = () => {
    const next = iterator.next();
    // Whoever awaits it gets the error; this only says that waiting may begin later.
    next.catch(() => {});
    return next;
  };
  let next = read();
  let passedOn = Number.NEGATIVE_INFINITY;
  try {
    for (;;) {
      const first = await next;
      if (first.done) return;
      next = read();
      let batch = first.value;
      while (batch.events.length < pace.maxEvents()) {
        const waitMs = passedOn + pace.delayMs - performance.now();
        const more = waitMs > 0 ? await within(next, waitMs) : undefined;
        if (!more || more.done || batch.events.length + more.value.events.length > pace.maxEvents()) break;
        next = read();
        batch = { ...more.value, events: [...batch.events, ...more.value.events] };
      }
      passedOn = performance.now();
      yield batch;
    }
  } finally {
    // Not awaited: a read that waits for news ends only with its subscription's signal.
    iterator.return?.().catch(() => {});
  }
}

/** Undefined when it takes longer. */
async function within<T>(promise: Promise<T>, timeoutMs: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, timeoutMs, undefined);
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
