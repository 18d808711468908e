import type { EventReader } from '../../event-store/event-store.js';
import { deliveries } from '../views.js';
import { pause, pauseMs } from './pause.js';
import type { DeliveryChange } from './runner.js';

interface Pending extends DeliveryChange {
  readonly position: bigint;
}

/**
 * Tells which deliveries change where somebody else writes the read models: it follows the log, and tells of an event
 * once the read models have come that far. It never reads more than a batch ahead of them.
 */
export class ChangeFeed {
  readonly ended: Promise<void>;
  readonly #reader: EventReader;
  readonly #tell: (changes: readonly DeliveryChange[]) => void;
  readonly #stopping = new AbortController();
  #after: bigint;
  #visible: bigint;
  #until: bigint | undefined;
  #moved = () => {};

  /** @param after exclusive; what the read models show already */
  constructor(reader: EventReader, after: bigint, tell: (changes: readonly DeliveryChange[]) => void) {
    this.#reader = reader;
    this.#after = after;
    this.#visible = after;
    this.#tell = tell;
    // A little later: often there turns out to be nothing to read.
    this.ended = Promise.resolve().then(() => this.#run());
  }

  /** Whether it has come to its end or was stopped. */
  get isOver(): boolean {
    return this.#stopping.signal.aborted;
  }

  /** The read models have come so far. */
  visible(position: bigint): void {
    if (position <= this.#visible) return;
    this.#visible = position;
    this.#moved();
  }

  /** It ends there: what comes after is told by others. */
  endAt(position: bigint): void {
    this.#until ??= position;
    if (this.#after >= this.#until) this.stop();
  }

  stop(): void {
    this.#stopping.abort();
    this.#moved();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    for (let failures = 0; !signal.aborted; ) {
      const before = this.#after;
      // What is wrong with the log is for others to say; here it only means to begin anew.
      await this.#follow(signal).catch(() => {});
      failures = this.#after > before ? 1 : failures + 1;
      await pause(pauseMs(failures), signal);
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const options = { after: this.#after, prefixes: [deliveries.prefix], signal };
    for await (const { events, position } of this.#reader.subscribe(options)) {
      let pending = events.map(
        (event): Pending => ({
          id: event.streamId.slice(deliveries.prefix.length),
          organizationId: event.metadata.organizationId ?? '',
          position: event.position,
        }),
      );
      while (pending.length > 0) {
        await this.#visibleFrom(pending[0] as Pending, signal);
        if (signal.aborted) return;
        const shown = pending.findIndex((change) => change.position > this.#visible);
        const news = shown < 0 ? pending : pending.slice(0, shown);
        pending = shown < 0 ? [] : pending.slice(shown);
        this.#tell([...new Map(news.map(({ id, organizationId }) => [id, { id, organizationId }])).values()]);
        this.#after = (news.at(-1) as Pending).position;
      }
      this.#after = position;
      if (this.#until !== undefined && position >= this.#until) return this.stop();
    }
  }

  async #visibleFrom({ position }: Pending, signal: AbortSignal): Promise<void> {
    while (this.#visible < position && !signal.aborted)
      await new Promise<void>((resolve) => {
        this.#moved = resolve;
      });
  }
}
