/** A running system that is measured: Waybill or a peer, with a store of its own that was empty when it started. */
export interface Contestant {
  /** @returns ids, in order, of deliveries that are accepted durably */
  requestBulk(first: number, count: number): Promise<readonly string[]>;
  requestOne(number: number): Promise<Accepted>;
  /** Deliveries since the start whose stored status says that they were delivered. */
  settled(): Promise<number>;
  cpu(): Cpu;
  /** Ends it and removes what it stored. */
  stop(): Promise<void>;
}

export interface Accepted {
  readonly id: string;
  /** When the system began to work on the request, by `monotonicMs`. */
  readonly acceptedAt: number;
}

/** CPU time so far, in microseconds; undefined where the kernel does not tell. */
export interface Cpu {
  /** API, queue and workers, all threads. */
  readonly own: number | undefined;
  /** PostgreSQL or Redis. */
  readonly store: number | undefined;
}
