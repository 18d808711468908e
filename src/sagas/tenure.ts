import type { Claim } from './engine-store.js';

/** Partitions that came to this instance together, and how far their events are folded. */
export class Tenure {
  readonly partitions: Set<number>;
  /** Everything up to here is folded. */
  position: bigint;
  /** It has reached the head and acts on what it folds. */
  isLive = false;
  readonly #over = new AbortController();
  #pass = new AbortController();

  constructor(claims: readonly Claim[]) {
    this.partitions = new Set(claims.map(({ partition }) => partition));
    this.position = claims[0]?.position ?? 0n;
    for (const { position } of claims) if (position < this.position) this.position = position;
  }

  /** Aborts when nothing of it is left. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** @returns what aborts when its events are to be read again from elsewhere */
  beginPass(): AbortSignal {
    this.#pass = new AbortController();
    return this.#pass.signal;
  }

  /** Back to the beginning of the log. */
  rewind(): void {
    this.position = 0n;
    this.isLive = false;
    this.#pass.abort();
  }

  lose(partition: number): void {
    if (this.partitions.delete(partition) && this.partitions.size === 0) this.#over.abort();
  }

  end(): void {
    this.#over.abort();
  }
}
