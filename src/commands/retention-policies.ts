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
  readonly #cache = new Map<string, Promise<RetentionState>>();
  #follower: Promise<void> | undefined;

  constructor(executor: CommandExecutor) {
    this.#executor = executor;
  }

  find(organizationId: string): Promise<RetentionState> {
    const id = retentionId(organizationId);
    const cached = this.#cache.get(id);
    if (cached) return cached;
    const loading = this.#executor.load(retention, id).then(({ state }) => state);
    if (this.#cache.size >= MAX_CACHED) this.#cache.delete(this.#cache.keys().next().value as string);
    this.#cache.set(id, loading);
    // What could not be read is asked for again.
    loading.catch(() => this.#cache.get(id) === loading && this.#cache.delete(id));
    return loading;
  }

  forget(id: string): void {
    this.#cache.delete(id);
  }

  /** Watches the log for changes made elsewhere, until `signal` aborts. */
  follow(reader: EventReader, after: bigint, signal: AbortSignal): void {
    this.#follower = followStreams(reader, { prefix: STREAMS, after, signal }, (id) => this.forget(id));
  }

  async stopped(): Promise<void> {
    await this.#follower;
  }
}
