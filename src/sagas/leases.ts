import { SharedClock } from './clock.js';
import { type Claim, type EngineStore, LEASE_TTL_SECONDS, PARTITIONS } from './engine-store.js';

/** Before a lease ends for others, it ends for its owner: what is begun then has this long to be stored. */
const MARGIN_MS = 2_000;
const VALID_MS = LEASE_TTL_SECONDS * 1_000 - MARGIN_MS;

/**
 * The partitions that are this instance's. A lease is kept by renewing it in time, which is measured on the monotonic
 * clock: an instance that was stopped or cut off finds its leases over by itself, whatever others have done meanwhile.
 */
export class Leases {
  readonly clock = new SharedClock();
  readonly #store: EngineStore;
  readonly #isAlone: boolean;
  readonly #epochs = new Map<number, bigint>();
  readonly #leaving = new Set<number>();
  /** By `performance.now()`, for each partition: those that come later were not part of a renewal under way. */
  readonly #validUntilMs = new Map<number, number>();
  #instances = 1;

  /** @param isAlone a lock has proved that no other instance can be alive: leases are then for ever */
  constructor(store: EngineStore, isAlone: boolean) {
    this.#store = store;
    this.#isAlone = isAlone;
  }

  get partitions(): readonly number[] {
    return [...this.#epochs.keys()];
  }

  get instances(): number {
    return this.#instances;
  }

  has(partition: number): boolean {
    return this.#epochs.has(partition);
  }

  hasAll(): boolean {
    return this.#epochs.size === PARTITIONS;
  }

  /** Whether anything may be done and stored for the partition right now. */
  isValid(partition: number): boolean {
    const untilMs = this.#validUntilMs.get(partition);
    return untilMs !== undefined && (this.#isAlone || performance.now() < untilMs);
  }

  /** Whether new work may be begun in it. */
  isOpen(partition: number): boolean {
    return this.isValid(partition) && !this.#leaving.has(partition);
  }

  epochOf(partition: number): bigint {
    const epoch = this.#epochs.get(partition);
    if (epoch === undefined) throw new Error(`partition ${partition} is not held`);
    return epoch;
  }

  /** Takes as many free partitions as are this instance's share. */
  async claim(): Promise<readonly Claim[]> {
    const askedAtMs = performance.now();
    this.clock.set(await this.#store.nowMs(), askedAtMs);
    const instances = await this.#store.census();
    this.#instances = this.#isAlone ? 1 : instances;
    const wanted = this.#share() - this.#epochs.size;
    if (wanted <= 0) return [];
    const claims = await this.#store.claim(wanted, this.partitions, this.#isAlone);
    for (const { partition, epoch } of claims) this.#epochs.set(partition, epoch);
    this.renewed(claims, askedAtMs);
    return claims;
  }

  /** Chooses what is beyond this instance's share; no new work is begun there from now on. */
  leaveSurplus(): readonly number[] {
    const surplus = this.#epochs.size - this.#leaving.size - this.#share();
    for (const partition of this.partitions.filter((each) => !this.#leaving.has(each)).slice(0, Math.max(surplus, 0)))
      this.#leaving.add(partition);
    return [...this.#leaving];
  }

  /** @param askedAtMs `performance.now()` from before the renewal was asked for */
  renewed(held: readonly { readonly partition: number }[], askedAtMs: number): void {
    for (const { partition } of held) if (this.has(partition)) this.#validUntilMs.set(partition, askedAtMs + VALID_MS);
  }

  drop(partitions: readonly number[]): void {
    for (const partition of partitions) {
      this.#epochs.delete(partition);
      this.#validUntilMs.delete(partition);
      this.#leaving.delete(partition);
    }
  }

  #share(): number {
    return Math.ceil(PARTITIONS / this.#instances);
  }
}
