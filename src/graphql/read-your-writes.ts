import type { Principal } from '../security/principal.js';

/** Callers whose newest write is remembered; the longest silent is forgotten first. */
const MAX_CALLERS = 10_000;

/**
 * Remembers how far into the log each caller has written, so that their next query can wait until the read models have
 * got there. Callers of one key are one caller.
 */
export class ReadYourWrites {
  readonly #written = new Map<string, bigint>();
  /** Counts as everybody's write: who wrote what before this process began is not known. */
  readonly #beginning: bigint;

  /** @param head the log's head when this process began */
  constructor(head: bigint) {
    this.#beginning = head;
  }

  wrote({ actor }: Principal, position: bigint | undefined): void {
    if (position === undefined) return;
    const before = this.#written.get(actor) ?? 0n;
    this.#written.delete(actor);
    this.#written.set(actor, position > before ? position : before);
    if (this.#written.size > MAX_CALLERS) this.#written.delete(this.#written.keys().next().value as string);
  }

  newestOf({ actor }: Principal): bigint {
    return this.#written.get(actor) ?? this.#beginning;
  }
}
