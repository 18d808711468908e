import { PARTITIONS } from '../../src/sagas/engine-store.js';
import type { Host } from './scheduler.js';

interface Heard {
  readonly atMs: number;
  readonly position: bigint;
}

const ALL = Array.from({ length: PARTITIONS }, (_, partition) => partition);

/** Up to where each run of an instance has heard the log, in each partition. */
export class Knowledge {
  readonly #heard = new Map<Host, Map<number, Heard[]>>();
  readonly #claimed = new Map<Host, Map<number, bigint>>();

  /** A batch of deliveries was handed over. */
  heard(host: Host, prefixes: readonly string[], position: bigint, atMs: number): void {
    for (const prefix of prefixes) {
      if (!prefix.startsWith('delivery-')) continue;
      const digit = prefix['delivery-'.length];
      for (const partition of digit === undefined ? ALL : [Number.parseInt(digit, 16)])
        this.#of(host, partition).push({ atMs, position });
    }
  }

  /** Whoever takes a partition acts only when it has heard what was in the log by then. */
  claimed(host: Host, partition: number, head: bigint): void {
    const claims = this.#claimed.get(host) ?? new Map<number, bigint>();
    this.#claimed.set(host, claims.set(partition, head));
  }

  /** What this run must have heard by a time. */
  of(host: Host, partition: number, atMs: number): bigint {
    let position = this.#claimed.get(host)?.get(partition) ?? 0n;
    for (const heard of this.#of(host, partition))
      if (heard.atMs <= atMs && heard.position > position) position = heard.position;
    return position;
  }

  #of(host: Host, partition: number): Heard[] {
    const partitions = this.#heard.get(host) ?? new Map<number, Heard[]>();
    this.#heard.set(host, partitions);
    const heard = partitions.get(partition) ?? [];
    partitions.set(partition, heard);
    return heard;
  }
}
