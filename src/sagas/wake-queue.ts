/** setTimeout cannot wait longer (2^31 - 1 ms). */
const LONGEST_WAIT_MS = 2_147_483_647;
/** From farther away it looks again half-way: the clock may have been corrected since. */
const NEAR_MS = 10_000;

const STOPPED = Number.NEGATIVE_INFINITY;
/** Entries that may be left over before they are worth clearing away. */
const SLACK = 1_024;

interface Entry {
  readonly dueMs: number;
  readonly id: string;
}

/**
 * When to look at which delivery again: a binary heap with one timer for the nearest. An id's older entry is left in
 * the heap when it gets a new time, and passed over when it comes up.
 */
export class WakeQueue {
  readonly #heap: Entry[] = [];
  readonly #due = new Map<string, number>();
  readonly #onDue: (ids: string[]) => void;
  readonly #nowMs: () => number;
  #timer: NodeJS.Timeout | undefined;
  #armedFor = Number.POSITIVE_INFINITY;

  /** @param nowMs the clock that due times are of, Unix milliseconds */
  constructor(onDue: (ids: string[]) => void, nowMs: () => number = Date.now) {
    this.#onDue = onDue;
    this.#nowMs = nowMs;
  }

  get size(): number {
    return this.#due.size;
  }

  set(id: string, dueMs: number): void {
    if (this.#due.get(id) === dueMs) return;
    this.#due.set(id, dueMs);
    this.#push({ dueMs, id });
    if (dueMs < this.#armedFor) this.#arm();
  }

  delete(id: string): void {
    this.#due.delete(id);
    if (this.#heap.length > 2 * this.#due.size + SLACK) this.#compact();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#armedFor = STOPPED;
  }

  /** Drops what was deleted or moved but is not due for long; else it would be kept until then. */
  #compact(): void {
    this.#heap.length = 0;
    for (const [id, dueMs] of this.#due) this.#push({ dueMs, id });
    this.#arm();
  }

  #arm(): void {
    if (this.#armedFor === STOPPED) return;
    clearTimeout(this.#timer);
    const next = this.#heap[0];
    this.#armedFor = next?.dueMs ?? Number.POSITIVE_INFINITY;
    if (!next) return;
    const leftMs = Math.max(next.dueMs - this.#nowMs(), 0);
    const waitMs = leftMs > NEAR_MS ? Math.min(leftMs / 2, LONGEST_WAIT_MS) : leftMs;
    this.#timer = setTimeout(() => this.#ring(), waitMs);
  }

  #ring(): void {
    const now = this.#nowMs();
    const due: string[] = [];
    for (let next = this.#heap[0]; next && next.dueMs <= now; next = this.#heap[0]) {
      this.#pop();
      if (this.#due.get(next.id) !== next.dueMs) continue;
      this.#due.delete(next.id);
      due.push(next.id);
    }
    this.#arm();
    if (due.length > 0) this.#onDue(due);
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let index = heap.push(entry) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if ((heap[parent] as Entry).dueMs <= entry.dueMs) break;
      heap[index] = heap[parent] as Entry;
      index = parent;
    }
    heap[index] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (!last || heap.length === 0) return;
    let index = 0;
    for (;;) {
      const left = 2 * index + 1;
      if (left >= heap.length) break;
      const right = left + 1;
      const child = right < heap.length && (heap[right] as Entry).dueMs < (heap[left] as Entry).dueMs ? right : left;
      if ((heap[child] as Entry).dueMs >= last.dueMs) break;
      heap[index] = heap[child] as Entry;
      index = child;
    }
    heap[index] = last;
  }
}
