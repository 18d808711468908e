import type { Contents, NewContent } from './content/contents.js';
import type { EventStore, RecordedEvent, StreamRange, SubscribeOptions, SubscriptionBatch } from './event-store.js';
import { takeContents } from './remembered.js';
import { type DataKeys, sealedParts } from './sealed-fields.js';

const none: readonly NewContent[] = [];

/**
 * An event store that hands events out only when their keys are at hand, so that whoever decodes them need not wait:
 * commands and the engine fold without a pause. All keys of a batch are fetched in one go, and mostly none is missing.
 * What new events name outside the log is stored before they are appended.
 */
export class KeyedEventStore implements EventStore {
  readonly #store: EventStore;
  readonly #keys: Pick<DataKeys, 'load'>;
  readonly #contents: Pick<Contents, 'storeFirst'> | undefined;

  constructor(store: EventStore, keys: Pick<DataKeys, 'load'>, contents?: Pick<Contents, 'storeFirst'>) {
    this.#store = store;
    this.#keys = keys;
    this.#contents = contents;
  }

  append: EventStore['append'] = (streamId, expected, events) => {
    const contents = takeContents(events);
    const append = () => this.#store.append(streamId, expected, events);
    return contents ? this.#storeFirst(contents, append) : append();
  };

  appendMany: EventStore['appendMany'] = (appends) => {
    const contents: NewContent[] = [];
    for (const { events } of appends) for (const content of takeContents(events) ?? none) contents.push(content);
    const append = () => this.#store.appendMany(appends);
    return contents.length > 0 ? this.#storeFirst(contents, append) : append();
  };

  head: EventStore['head'] = () => this.#store.head();
  eventsBetween: EventStore['eventsBetween'] = (after, upTo) => this.#store.eventsBetween(after, upTo);
  close: EventStore['close'] = () => this.#store.close();

  async readStream(streamId: string, options?: StreamRange): Promise<RecordedEvent[]> {
    return await this.#withKeys(await this.#store.readStream(streamId, options));
  }

  async readLast(streamId: string): Promise<RecordedEvent | undefined> {
    const last = await this.#store.readLast(streamId);
    return last && (await this.#withKeys([last]))[0];
  }

  async readAll(after: bigint, limit: number): Promise<RecordedEvent[]> {
    return await this.#withKeys(await this.#store.readAll(after, limit));
  }

  async readAllBackwards(before: bigint | 'end', limit: number): Promise<RecordedEvent[]> {
    return await this.#withKeys(await this.#store.readAllBackwards(before, limit));
  }

  async *subscribe(options: SubscribeOptions): AsyncGenerator<SubscriptionBatch> {
    for await (const batch of this.#store.subscribe(options)) {
      await this.#load(batch.events);
      yield batch;
    }
  }

  async #withKeys(events: RecordedEvent[]): Promise<RecordedEvent[]> {
    await this.#load(events);
    return events;
  }

  #storeFirst<Result>(contents: readonly NewContent[], append: () => Promise<Result>): Promise<Result> {
    if (!this.#contents) throw new Error('there is no place for what these events name outside the log');
    return this.#contents.storeFirst(contents, append);
  }

  #load(events: readonly RecordedEvent[]): Promise<void> | undefined {
    const ids: string[] = [];
    for (const { data } of events) for (const { key } of sealedParts(data) ?? []) ids.push(key);
    return ids.length === 0 ? undefined : this.#keys.load(ids);
  }
}
