/** Keys that may wait to be taken; more would mean that the consumer has stopped. */
const MAX_WAITING = 10_000;

/**
 * What has changed, for one consumer that takes it at its own pace: of each key only the newest value waits. A consumer
 * that lets too many keys wait gets an error, so that it knows that it has missed something.
 */
export class Latest<Value> implements AsyncIterableIterator<Value[]> {
  readonly #closed: () => void;
  #waiting = new Map<string, Value>();
  #wake: (() => void) | undefined;
  #state: 'open' | 'overrun' | 'closed' = 'open';

  /** @param closed is called once, however it ends */
  constructor(closed: () => void, signal?: AbortSignal) {
    this.#closed = closed;
    if (signal?.aborted) this.#end('closed');
    else signal?.addEventListener('abort', () => this.#end('closed'), { once: true });
  }

  push(key: string, value: Value): void {
    if (this.#state !== 'open') return;
    this.#waiting.set(key, value);
    if (this.#waiting.size > MAX_WAITING) this.#end('overrun');
    this.#wake?.();
  }

  async next(): Promise<IteratorResult<Value[], undefined>> {
    while (this.#state === 'open' && this.#waiting.size === 0)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    if (this.#state === 'overrun') throw new Error('too many changes to keep up with: subscribe again');
    if (this.#state === 'closed') return { done: true, value: undefined };
    const value = [...this.#waiting.values()];
    this.#waiting = new Map();
    return { done: false, value };
  }

  async return(): Promise<IteratorResult<Value[], undefined>> {
    this.#end('closed');
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #end(state: 'overrun' | 'closed'): void {
    if (this.#state !== 'open') return;
    this.#state = state;
    this.#waiting.clear();
    this.#closed();
    this.#wake?.();
  }
}
