import { History, type Rule, type Violation } from './history.js';
import type { Scheduler } from './scheduler.js';

/** What one simulation has seen so far: told, counted, and the first invariant that was broken. */
export class Witness {
  readonly history = new History();
  /** How often each kind of event was recorded and each kind of thing was done. */
  readonly counts = new Map<string, number>();
  violation: Violation | undefined;
  /** Nothing that happens from now on counts. */
  isOver = false;
  /** Virtual time since which nothing is wrong any more. */
  calmSinceMs: number | undefined;
  /** The finished history is gone through once more, and nothing may come of it. */
  isReplaying = false;
  readonly #scheduler: Scheduler;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  fail(rule: Rule, detail: string): void {
    if (this.isOver) return;
    this.violation = { rule, detail };
    this.tell(`BROKEN   ${rule}: ${detail}`);
    this.isOver = true;
  }

  tell(text: string): void {
    this.history.add(this.#scheduler.nowMs, text);
  }

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }
}
