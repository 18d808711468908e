import { type AccessState, access } from '../domain/access.js';
import type { EventReader } from '../event-store/event-store.js';
import type { CommandExecutor } from './executor.js';
import { followStreams } from './follow-streams.js';

/** One organization's keys, roles and assignments as the log has them. The same object until something has changed. */
export interface OrganizationAccess {
  readonly state: AccessState;
  /** Undefined while nothing is recorded about the organization. */
  readonly organizationId: string | undefined;
}

const STREAMS = `${access.category}-`;
const MAX_CACHED = 10_000;
/**
 * Changes arrive by subscription within milliseconds. Should the subscription be stalled without anybody noticing, what
 * is cached is read again after this time all the same: no revoked key outlives it.
 */
const MAX_AGE_MS = 30_000;

/** Who has access to which organization, cached. */
export class AccessDirectory {
  readonly #executor: CommandExecutor;
  readonly #reader: EventReader;
  readonly #now: () => number;
  readonly #cache = new Map<string, { readonly found: OrganizationAccess; readonly until: number }>();
  readonly #loading = new Map<string, Promise<OrganizationAccess>>();
  #follower: Promise<void> | undefined;

  /** @param now milliseconds */
  constructor(executor: CommandExecutor, reader: EventReader, now: () => number = Date.now) {
    this.#executor = executor;
    this.#reader = reader;
    this.#now = now;
  }

  /** What is cached and fresh, without waiting. */
  peek(id: string): OrganizationAccess | undefined {
    const cached = this.#cache.get(id);
    return cached && cached.until > this.#now() ? cached.found : undefined;
  }

  /** @param id see `accessId`. @throws when the log is out of reach: then nobody is let in on old knowledge */
  async find(id: string): Promise<OrganizationAccess> {
    const fresh = this.peek(id);
    if (fresh) return fresh;
    const loading = this.#loading.get(id) ?? this.#load(id);
    this.#loading.set(id, loading);
    // A change that arrived while this was read has taken it off the list, and what was read may be from before it.
    const isCurrent = () => this.#loading.get(id) === loading;
    try {
      const found = await loading;
      if (isCurrent()) this.#keep(id, found);
      return found;
    } finally {
      if (isCurrent()) this.#loading.delete(id);
    }
  }

  async #load(id: string): Promise<OrganizationAccess> {
    const { state, revision } = await this.#executor.load(access, id);
    if (revision === undefined) return { state, organizationId: undefined };
    const [first] = await this.#reader.readStream(STREAMS + id, { limit: 1 });
    return { state, organizationId: first?.metadata.organizationId };
  }

  #keep(id: string, found: OrganizationAccess): void {
    this.#cache.delete(id);
    if (this.#cache.size >= MAX_CACHED) this.#cache.delete(this.#cache.keys().next().value as string);
    this.#cache.set(id, { found, until: this.#now() + MAX_AGE_MS });
  }

  forget(id: string): void {
    this.#cache.delete(id);
    this.#loading.delete(id);
  }

  /** Watches the log for changes made elsewhere, until `signal` aborts. */
  follow(reader: EventReader, after: bigint, signal: AbortSignal): void {
    this.#follower = followStreams(reader, { prefix: STREAMS, after, signal }, (id) => this.forget(id));
  }

  async stopped(): Promise<void> {
    await this.#follower;
  }
}
