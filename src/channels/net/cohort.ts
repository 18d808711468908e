/**
 * What comes one by one, and is acted upon together a moment later.
 *
 * Much follows from an answer: outcome, event, log, the next attempt. Done at once, it would be more code than the
 * processor's caches hold, and for the next answer all of it would be fetched again; in a cohort each step serves all who
 * are at it. See docs/decisions/0086.
 */
export class Cohort<Member> {
  readonly #later: (then: () => void) => void;
  readonly #act: (members: readonly Member[]) => void;
  #members: Member[] = [];

  /** @param later when: `queueMicrotask` for those who are at the same step, `setImmediate` for this turn of the event loop */
  constructor(later: (then: () => void) => void, act: (members: readonly Member[]) => void) {
    this.#later = later;
    this.#act = act;
  }

  add(member: Member): void {
    if (this.#members.push(member) > 1) return;
    this.#later(() => {
      const members = this.#members;
      this.#members = [];
      this.#act(members);
    });
  }
}
