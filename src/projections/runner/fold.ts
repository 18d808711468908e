import { type Decoded, type DomainEvent, type EventCodec, skippedRevisions } from '../../event-store/codec.js';
import type { EventReader, RecordedEvent } from '../../event-store/event-store.js';
import type { Change, Changes } from '../projection.js';
import {
  type DeliveryView,
  type DestinationView,
  deliveries,
  destinations,
  type InboxView,
  inbox,
  type StreamKind,
  type SuppressionView,
  suppressions,
} from '../views.js';
import { LruMap } from './lru.js';

/** Streams read at once when their views are not cached. */
const CONCURRENT_READS = 32;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export const streamPrefixes: readonly string[] = [
  deliveries.prefix,
  destinations.prefix,
  suppressions.prefix,
  inbox.prefix,
];

/** Events of one stream that cannot be understood, from the first such on. */
export interface Poison {
  readonly streamId: string;
  readonly events: readonly RecordedEvent[];
  readonly error: string;
}

export interface Folded extends Changes {
  readonly poison: readonly Poison[];
}

/** Turns batches of events, in log order, into changes of views. Keeps the views of recently changed streams. */
export class Folder {
  readonly #deliveries: StreamFolder<DeliveryView, DomainEvent>;
  readonly #destinations: StreamFolder<DestinationView, DomainEvent>;
  readonly #suppressions: StreamFolder<SuppressionView, DomainEvent>;
  readonly #inbox: StreamFolder<InboxView, DomainEvent>;

  readonly #prefixes: readonly string[];

  /**
   * @param cachedViews how many views of each kind are kept; a view not kept costs reading its stream
   * @param prefixes of the streams that are folded; default all
   */
  constructor(reader: EventReader, codec: EventCodec, cachedViews: number, prefixes = streamPrefixes) {
    this.#deliveries = new StreamFolder(deliveries as never, reader, codec, cachedViews);
    this.#destinations = new StreamFolder(destinations as never, reader, codec, cachedViews);
    this.#suppressions = new StreamFolder(suppressions as never, reader, codec, cachedViews);
    this.#inbox = new StreamFolder(inbox as never, reader, codec, cachedViews);
    this.#prefixes = prefixes;
  }

  async fold(batch: readonly RecordedEvent[]): Promise<Folded> {
    const poison: Poison[] = [];
    const prefixes = this.#prefixes;
    const events =
      prefixes === streamPrefixes
        ? batch
        : batch.filter(({ streamId }) => prefixes.some((prefix) => streamId.startsWith(prefix)));
    return {
      deliveries: (await this.#deliveries.fold(events, poison)) as Changes['deliveries'],
      destinations: (await this.#destinations.fold(events, poison)) as Changes['destinations'],
      suppressions: (await this.#suppressions.fold(events, poison)) as Changes['suppressions'],
      inbox: (await this.#inbox.fold(events, poison)) as Changes['inbox'],
      poison,
    };
  }

  /** @throws what makes the stream impossible to fold: see `StreamFolder` */
  async refold(streamId: string, span: Span): Promise<Changes> {
    const none = { deliveries: [], destinations: [], suppressions: [], inbox: [] };
    const [name, folder] = streamId.startsWith(deliveries.prefix)
      ? (['deliveries', this.#deliveries] as const)
      : streamId.startsWith(destinations.prefix)
        ? (['destinations', this.#destinations] as const)
        : streamId.startsWith(suppressions.prefix)
          ? (['suppressions', this.#suppressions] as const)
          : (['inbox', this.#inbox] as const);
    const change = await folder.refold(streamId, span);
    return { ...none, [name]: change ? [change] : [] } as unknown as Changes;
  }

  /** To be called when a folded batch was not stored after all. */
  clear(): void {
    this.#deliveries.views.clear();
    this.#destinations.views.clear();
    this.#suppressions.views.clear();
    this.#inbox.views.clear();
  }
}

/** A part of one stream, by positions: what comes after `after` is what is new. */
export interface Span {
  readonly after: bigint;
  readonly upTo: bigint;
  /** To be passed over. */
  readonly without: ReadonlySet<bigint>;
}

interface Start<View> {
  readonly view?: View;
  readonly events?: readonly RecordedEvent[];
}

class StreamFolder<View extends { readonly revision: number }, Event extends DomainEvent> {
  readonly views: LruMap<string, View>;
  readonly #kind: StreamKind<View, Event>;
  readonly #reader: EventReader;
  readonly #codec: EventCodec;

  constructor(kind: StreamKind<View, Event>, reader: EventReader, codec: EventCodec, cachedViews: number) {
    this.#kind = kind;
    this.#reader = reader;
    this.#codec = codec;
    this.views = new LruMap(cachedViews);
  }

  async fold(events: readonly RecordedEvent[], poison: Poison[]): Promise<Change<View, Event>[]> {
    const streams = new Map<string, RecordedEvent[]>();
    for (const event of events) {
      if (!event.streamId.startsWith(this.#kind.prefix)) continue;
      const known = streams.get(event.streamId);
      if (known) known.push(event);
      else streams.set(event.streamId, [event]);
    }
    const starts = await this.#starts(streams);
    const changes: Change<View, Event>[] = [];
    for (const [streamId, news] of streams) {
      const { change, poison: found } = this.#change(streamId, starts.get(streamId), news);
      // An operator may have decided, meanwhile, to pass over what cannot be understood.
      const mended = found && (await this.#mended(streamId, news));
      if (mended) changes.push(...mended);
      else {
        if (found) poison.push(found);
        if (change) changes.push(change);
      }
    }
    return changes;
  }

  async #mended(streamId: string, news: readonly RecordedEvent[]): Promise<Change<View, Event>[] | undefined> {
    const stream = await this.#reader.readStream(streamId);
    if (skippedRevisions(stream).size === 0) return undefined;
    const [first, last] = [news[0], news.at(-1)] as [RecordedEvent, RecordedEvent];
    try {
      const change = this.#part(streamId, stream, {
        after: first.position - 1n,
        upTo: last.position,
        without: new Set(),
      });
      return change ? [change] : [];
    } catch {
      return undefined;
    }
  }

  /** @throws Error for an event that cannot be understood and that nobody has decided to pass over */
  async refold(streamId: string, span: Span): Promise<Change<View, Event> | undefined> {
    this.views.delete(streamId);
    return this.#part(streamId, await this.#reader.readStream(streamId), span);
  }

  #part(
    streamId: string,
    stream: readonly RecordedEvent[],
    { after: from, upTo, without }: Span,
  ): Change<View, Event> | undefined {
    const id = this.#idOf(streamId);
    const skipped = skippedRevisions(stream);
    const events: Decoded<Event>[] = [];
    let before: View | undefined;
    let after: View | undefined;
    for (const recorded of stream) {
      if (recorded.position > upTo) break;
      if (skipped.has(recorded.revision) || without.has(recorded.position)) continue;
      const decoded = this.#codec.decode<Event>(recorded);
      after = this.#kind.fold(after, id, decoded);
      if (recorded.position <= from) before = after;
      else events.push(decoded);
    }
    return after && events.length > 0 ? { id, before, after, events } : undefined;
  }

  #idOf(streamId: string): string {
    const id = streamId.slice(this.#kind.prefix.length);
    if (!UUID.test(id)) throw new Error(`${JSON.stringify(id)} is not a uuid`);
    return id;
  }

  /** Where each stream that did not begin in the batch stood before it: its cached view, or what the log has. */
  async #starts(streams: ReadonlyMap<string, readonly RecordedEvent[]>): Promise<Map<string, Start<View>>> {
    const starts = new Map<string, Start<View>>();
    const missing: { streamId: string; limit: number }[] = [];
    for (const [streamId, news] of streams) {
      const { revision } = news[0] as RecordedEvent;
      if (revision === 0) continue;
      const view = this.views.get(streamId);
      if (view?.revision === revision - 1) starts.set(streamId, { view });
      else missing.push({ streamId, limit: revision });
    }
    for (let at = 0; at < missing.length; at += CONCURRENT_READS)
      await Promise.all(
        missing.slice(at, at + CONCURRENT_READS).map(async ({ streamId, limit }) => {
          starts.set(streamId, { events: await this.#reader.readStream(streamId, { limit }) });
        }),
      );
    return starts;
  }

  #change(
    streamId: string,
    start: Start<View> | undefined,
    news: readonly RecordedEvent[],
  ): { readonly change?: Change<View, Event>; readonly poison?: Poison } {
    const folded: Decoded<Event>[] = [];
    let before: View | undefined;
    let after: View | undefined;
    let id = '';
    try {
      id = this.#idOf(streamId);
      before = start?.view;
      for (const event of start?.events ?? []) before = this.#next(before, id, this.#codec.decode<Event>(event));
      after = before;
      for (const event of news) {
        const decoded = this.#codec.decode<Event>(event);
        after = this.#next(after, id, decoded);
        folded.push(decoded);
      }
    } catch (error) {
      this.views.delete(streamId);
      const poison = { streamId, events: news.slice(folded.length), error: (error as Error).message };
      return after && folded.length > 0 ? { change: { id, before, after, events: folded }, poison } : { poison };
    }
    if (this.#kind.mayGoOn(after as View)) this.views.set(streamId, after as View);
    else this.views.delete(streamId);
    return { change: { id, before, after: after as View, events: folded } };
  }

  #next(view: View | undefined, id: string, decoded: Decoded<Event>): View {
    const expected = view ? view.revision + 1 : 0;
    const { revision } = decoded.recorded;
    if (revision !== expected) throw new Error(`revision ${revision} follows where ${expected} should`);
    return this.#kind.fold(view, id, decoded);
  }
}
