import type { Claim } from './engine-store.js';

/** Partitions that came to this instance together, and how far their events are folded. */
export class Tenure {
  readonly partitions: Set<number>;
  /** Everything up to here is folded. */
  position: bigint;
  /** It has reached the head and acts on what it folds. */
  isLive = false;
  /** Up to where each partition's last owner had come: deliveries from before may have rows. */
  readonly #stored: Map<number, bigint>;
  readonly #over = new AbortController();
  #pass = new AbortController();

  constructor(claims: readonly Claim[]) {
    this.partitions = new Set(claims.map(({ partition }) => partition));
    this.#stored = new Map(claims.map(({ partition, position }) => [partition, position]));
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

  /** Whether there may be a row for a delivery that begins at this position. */
  mayHaveRow(partition: number, position: bigint): boolean {
    return position <= (this.#stored.get(partition) ?? 0n);
  }

  /** Back to the beginning of the log; there are no rows then. */
  rewind(): void {
    this.#stored.clear();
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
