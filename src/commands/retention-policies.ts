import { type RetentionState, retention } from '../domain/retention.js';
import type { EventReader } from '../event-store/event-store.js';
import type { CommandExecutor } from './executor.js';
import { followStreams } from './follow-streams.js';
import { retentionId } from './ids.js';

const STREAMS = `${retention.category}-`;
const MAX_CACHED = 10_000;

/** How long each organization keeps things, as the log has it, cached until it is changed. */
export class RetentionPolicies {
  readonly #executor: CommandExecutor;
  /** By organization. */
  readonly #cache = new Map<string, { readonly id: string; readonly state: Promise<RetentionState> }>();
  #follower: Promise<void> | undefined;

  constructor(executor: CommandExecutor) {
    this.#executor = executor;
  }

  find(organizationId: string): Promise<RetentionState> {
    const cached = this.#cache.get(organizationId);
    if (cached) return cached.state;
    const id = retentionId(organizationId);
    const loading = this.#executor.load(retention, id).then(({ state }) => state);
    if (this.#cache.size >= MAX_CACHED) this.#cache.delete(this.#cache.keys().next().value as string);
    this.#cache.set(organizationId, { id, state: loading });
    // What could not be read is asked for again.
    loading.catch(() => this.#cache.get(organizationId)?.state === loading && this.#cache.delete(organizationId));
    return loading;
  }

  forget(id: string): void {
    for (const [organizationId, cached] of this.#cache) if (cached.id === id) this.#cache.delete(organizationId);
  }

  /** Watches the log for changes made elsewhere, until `signal` aborts. */
  follow(reader: EventReader, after: bigint, signal: AbortSignal): void {
    this.#follower = followStreams(reader, { prefix: STREAMS, after, signal }, (id) => this.forget(id));
  }

  async stopped(): Promise<void> {
    await this.#follower;
  }
}
