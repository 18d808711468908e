/**
 * A map that forgets what was not used for long: it has at least the entries used last, up to a number, and at most twice
 * as many. Two maps of which one is dropped, because deleting a large map's oldest entry takes V8 as long as a hundred
 * others.
 */
export class RecentlyUsed<Value extends object> {
  readonly #kept: number;
  readonly #isNeeded: (value: Value) => boolean;
  #young = new Map<string, Value>();
  #old = new Map<string, Value>();

  /** @param isNeeded whether a value may not be forgotten yet */
  constructor(kept: number, isNeeded: (value: Value) => boolean = () => false) {
    this.#kept = kept;
    this.#isNeeded = isNeeded;
  }

  get(key: string): Value | undefined {
    const young = this.#young.get(key);
    if (young) return young;
    const old = this.#old.get(key);
    if (old) this.set(key, old);
    return old;
  }

  set(key: string, value: Value): void {
    this.#young.set(key, value);
    if (this.#young.size < this.#kept) return;
    const forgotten = this.#old;
    this.#old = this.#young;
    this.#young = new Map();
    for (const [oldKey, oldValue] of forgotten)
      if (this.#isNeeded(oldValue) && !this.#old.has(oldKey)) this.#young.set(oldKey, oldValue);
  }

  delete(key: string): void {
    this.#young.delete(key);
    this.#old.delete(key);
  }
}
