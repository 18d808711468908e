import { type DestinationDefinition, destination } from '../domain/destination.js';
import type { OpenCircuit } from '../domain/provider.js';
import type { JsonObject } from '../domain/vocabulary.js';
import type { EventReader } from '../event-store/event-store.js';
import type { CommandExecutor } from './executor.js';
import { followStreams } from './follow-streams.js';
import { joinSecrets } from './secrets.js';

/** A destination ready for use: its configuration has its secrets again. */
export interface UsableDestination {
  readonly id: string;
  readonly definition: DestinationDefinition;
  readonly config: JsonObject;
  /** Why it takes no deliveries, if it does not. */
  readonly disabled?: string;
  /** Why it is not called for now, if it is not. */
  readonly circuit?: OpenCircuit;
}

const STREAMS = `${destination.category}-`;

/** Plenty for a busy system's working set; a miss costs one short read of the log. */
const MAX_CACHED = 10_000;

/**
 * Destinations as the log has them, cached. A subscription to their streams throws out what has changed, so a stale
 * one is used at most for as long as the news takes.
 */
export class DestinationDirectory {
  readonly #executor: CommandExecutor;
  readonly #cache = new Map<string, UsableDestination>();
  readonly #loading = new Map<string, Promise<UsableDestination | undefined>>();
  #follower: Promise<void> | undefined;
  #onChange: (id: string) => void = () => undefined;

  constructor(executor: CommandExecutor) {
    this.#executor = executor;
  }

  /** Undefined when there is no such destination (any more). */
  async find(id: string): Promise<UsableDestination | undefined> {
    const cached = this.#cache.get(id);
    if (cached) return cached;
    const loading = this.#loading.get(id) ?? this.#load(id);
    this.#loading.set(id, loading);
    let found: UsableDestination | undefined;
    // A change that arrived while this was read has taken it off the list, and what was read may be from before it.
    const isCurrent = () => this.#loading.get(id) === loading;
    try {
      found = await loading;
      if (found && isCurrent()) this.#keep(found);
    } finally {
      if (isCurrent()) this.#loading.delete(id);
    }
    return found;
  }

  async #load(id: string): Promise<UsableDestination | undefined> {
    const { state } = await this.#executor.load(destination, id);
    if (state.tag !== 'present') return undefined;
    const { definition, disabled, circuit } = state;
    const config = joinSecrets(definition.config, definition.secrets);
    return { id, definition, config, ...(disabled !== undefined && { disabled }), ...(circuit && { circuit }) };
  }

  #keep(found: UsableDestination): void {
    if (this.#cache.size >= MAX_CACHED) this.#cache.delete(this.#cache.keys().next().value as string);
    this.#cache.set(found.id, found);
  }

  /** What is cached now, without waiting: the hot path of the engine. */
  peek(id: string): UsableDestination | undefined {
    return this.#cache.get(id);
  }

  forget(id: string): void {
    this.#cache.delete(id);
    this.#loading.delete(id);
    this.#onChange(id);
  }

  /** @param listener hears of every destination that may have changed; the newest listener only */
  set onChange(listener: (id: string) => void) {
    this.#onChange = listener;
  }

  /** Watches the log for changes made elsewhere, until `signal` aborts; goes on when the log was out of reach. */
  follow(reader: EventReader, after: bigint, signal: AbortSignal): void {
    this.#follower = followStreams(reader, { prefix: STREAMS, after, signal }, (id) => this.forget(id));
  }

  async stopped(): Promise<void> {
    await this.#follower;
  }
}
