import { PRIORITIES, type Priority } from '../domain/vocabulary.js';

/**
 * At most `concurrency` attempts at once; those that wait start in order of priority, first come first served within
 * one. The queue holds what the engine's open deliveries call for, so it is as bounded as they are.
 */
export class AttemptQueue {
  readonly #waiting: Record<Priority, Fifo>;
  readonly #concurrency: number;
  #running = 0;
  #open = true;
  #idle: (() => void) | undefined;

  constructor(concurrency: number) {
    this.#concurrency = concurrency;
    this.#waiting = { URGENT: new Fifo(), HIGH: new Fifo(), NORMAL: new Fifo(), LOW: new Fifo() };
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return PRIORITIES.reduce((sum, priority) => sum + this.#waiting[priority].length, 0);
  }

  /** `attempt` must not reject. */
  add(priority: Priority, attempt: () => Promise<void>): void {
    this.#waiting[priority].push(attempt);
    this.#start();
  }

  /** Starts no more attempts; resolves when those under way have ended. */
  async close(): Promise<void> {
    this.#open = false;
    if (this.#running > 0)
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
  }

  #start(): void {
    while (this.#open && this.#running < this.#concurrency) {
      const attempt = this.#next();
      if (!attempt) return;
      this.#running++;
      void attempt().finally(() => {
        this.#running--;
        if (this.#running === 0) this.#idle?.();
        this.#start();
      });
    }
  }

  #next(): (() => Promise<void>) | undefined {
    for (const priority of PRIORITIES) {
      const attempt = this.#waiting[priority].shift();
      if (attempt) return attempt;
    }
    return undefined;
  }
}

/** A list whose front is cut off in slices, so that taking the first is cheap however long it is. */
class Fifo {
  #items: (() => Promise<void>)[] = [];
  #first = 0;

  get length(): number {
    return this.#items.length - this.#first;
  }

  push(item: () => Promise<void>): void {
    this.#items.push(item);
  }

  shift(): (() => Promise<void>) | undefined {
    const item = this.#items[this.#first];
    if (!item) return undefined;
    this.#first++;
    if (this.#first >= 1_024) {
      this.#items = this.#items.slice(this.#first);
      this.#first = 0;
    }
    return item;
  }
}
