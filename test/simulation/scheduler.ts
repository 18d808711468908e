/**
 * Whose steps they are: one run of one instance. Those of a dead host never come, those of a stopped one (SIGSTOP) come
 * all at once when it goes on.
 */
export class Host {
  readonly name: string;
  isAlive = true;
  isStopped = false;
  /** What its wall clock is ahead of the true time, in ms. */
  wallAheadMs = 0;
  /** Where its monotonic clock began, in ms. */
  readonly monotonicFromMs: number;
  readonly held: Step[] = [];

  constructor(name: string, monotonicFromMs: number) {
    this.name = name;
    this.monotonicFromMs = monotonicFromMs;
  }
}

export interface Step {
  atMs: number;
  order: number;
  readonly host: Host | undefined;
  readonly run: () => void;
  readonly isTimer: boolean;
  isCancelled: boolean;
}

/** So many steps are queued at once in Node's own loop. */
const STEPS_PER_TURN = 256;
const realSetImmediate = globalThis.setImmediate;

/**
 * Virtual time: a list of steps, done one at a time in the order of their times. Between two steps everything runs that
 * can run without time passing, because Node empties its queue of microtasks between two immediates.
 */
export class Scheduler {
  /** Virtual milliseconds since the beginning. */
  nowMs = 0;
  /** Whose step is being done. */
  current: Host | undefined;
  done = 0;
  readonly #heap: Step[] = [];
  #made = 0;

  after(delayMs: number, host: Host | undefined, run: () => void, isTimer = false): Step {
    const step = { atMs: this.nowMs + delayMs, order: this.#made++, host, run, isTimer, isCancelled: false };
    this.#push(step);
    return step;
  }

  stop(host: Host): void {
    host.isStopped = true;
  }

  /** @param timersFirst whether what has come due meanwhile is done before the answers that have come in */
  goOn(host: Host, timersFirst: boolean): void {
    host.isStopped = false;
    const held = host.held.splice(0);
    for (const isFirst of [true, false])
      for (const step of held)
        if ((step.isTimer === timersFirst) === isFirst) {
          step.atMs = this.nowMs;
          step.order = this.#made++;
          this.#push(step);
        }
  }

  /** Does steps until `isOver` says so after one of them, or there are none left. */
  run(isOver: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      let isEnding = false;
      const end = (ending: () => void) => {
        isEnding = true;
        this.current = undefined;
        ending();
      };
      const doOne = () => {
        if (isEnding) return;
        try {
          if (isOver() || !this.#next()) end(resolve);
        } catch (error) {
          end(() => reject(error));
        }
      };
      const turn = () => {
        if (isEnding) return;
        for (let count = 0; count < STEPS_PER_TURN; count++) realSetImmediate(doOne);
        realSetImmediate(turn);
      };
      turn();
    });
  }

  #next(): boolean {
    for (let step = this.#pop(); step; step = this.#pop()) {
      const { host } = step;
      if (step.isCancelled || host?.isAlive === false) continue;
      this.nowMs = Math.max(this.nowMs, step.atMs);
      if (host?.isStopped) {
        host.held.push(step);
        continue;
      }
      this.current = host;
      this.done++;
      step.run();
      return true;
    }
    return false;
  }

  #push(step: Step): void {
    const heap = this.#heap;
    let index = heap.push(step) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!isBefore(step, heap[parent] as Step)) break;
      heap[index] = heap[parent] as Step;
      index = parent;
    }
    heap[index] = step;
  }

  #pop(): Step | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (!first || !last || first === last) return first;
    let index = 0;
    for (;;) {
      const left = 2 * index + 1;
      if (left >= heap.length) break;
      const right = left + 1;
      const child = right < heap.length && isBefore(heap[right] as Step, heap[left] as Step) ? right : left;
      if (!isBefore(heap[child] as Step, last)) break;
      heap[index] = heap[child] as Step;
      index = child;
    }
    heap[index] = last;
    return first;
  }
}

const isBefore = (one: Step, other: Step): boolean =>
  one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order);
