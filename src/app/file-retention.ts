import type { ChannelRegistry } from '../channels/registry.js';
import type { Channel, JsonObject } from '../domain/vocabulary.js';

/**
 * Removes files whose destination says how long they are kept. Every instance does it, at its own time: removing what
 * is gone already does no harm, and no instance has to know of the others.
 */

const HOUR_MS = 3_600_000;
/** Not at once, when everything else starts too. */
const FIRST_AFTER_MS = 60_000;

/** A destination with its secrets, as the engine would use it. */
export interface CleanableDestination {
  readonly id: string;
  readonly organizationId: string;
  readonly type: Channel;
  readonly config: JsonObject;
}

export interface RetentionPorts {
  /** Destinations that files are stored in; one after the other, so that a long list needs no room. */
  destinations(): AsyncIterable<CleanableDestination>;
  removed(destinationId: string, files: number): void;
  failed(destinationId: string, error: unknown): void;
}

export class FileRetention {
  readonly #registry: Pick<ChannelRegistry, 'adapterFor'>;
  readonly #ports: RetentionPorts;
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(registry: Pick<ChannelRegistry, 'adapterFor'>, ports: RetentionPorts) {
    this.#registry = registry;
    this.#ports = ports;
  }

  start(): void {
    const round = () => {
      this.#running = this.run(new Date()).finally(() => {
        if (!this.#stop.signal.aborted) this.#timer = setTimeout(round, HOUR_MS).unref();
      });
    };
    this.#timer = setTimeout(round, FIRST_AFTER_MS).unref();
  }

  /** Resolves when nothing is being removed any more. */
  async stop(): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** One round. One destination that fails does not keep the others from it; never rejects. */
  async run(now: Date): Promise<void> {
    try {
      for await (const destination of this.#ports.destinations()) {
        if (this.#stop.signal.aborted) return;
        await this.#clean(destination, now);
      }
    } catch (error) {
      this.#ports.failed('unknown', error);
    }
  }

  async #clean({ id, organizationId, type, config }: CleanableDestination, now: Date): Promise<void> {
    const choice = this.#registry.adapterFor(type, config);
    if (!('adapter' in choice) || !choice.adapter.cleanUp) return;
    try {
      const { removed } = await choice.adapter.cleanUp(choice.config, {
        organizationId,
        now,
        signal: this.#stop.signal,
      });
      if (removed > 0) this.#ports.removed(id, removed);
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#ports.failed(id, error);
    }
  }
}
