import { hash as digest, randomUUID } from 'node:crypto';
import { ContentLost, ContentUnavailable, type EventStore } from '../event-store.js';
import { type ContentName, type ContentStore, nameOf } from './content-store.js';

/** A content that an event not yet appended names. */
export interface NewContent extends ContentName {
  readonly body: Buffer;
}

export interface ContentReader {
  /** @throws ContentLost, ContentUnavailable */
  get(name: ContentName, size: number): Promise<Buffer>;
}

/** Each log says where the contents are that its events name: an event for each store, of which more than one is an exception. */
const STREAM = 'waybill-content';
/** Written at once; more wait. Each of them is in memory anyway until its event is in the log. */
const PUTS_AT_ONCE = 8;

/** What is outside the log, and how it is known to be its own. */
export interface ContentsOptions {
  /** The log's first identity, which it keeps when it is restored. */
  readonly logId: string;
  /** The contents that the log's earlier events name were lost, and an operator has accepted it. */
  readonly acceptsLost?: boolean;
}

/**
 * What the events of one log name outside it. The store has a mark that says which log it belongs to, and the log says which
 * store it has used: an instance that looks elsewhere, or where another Waybill keeps its own, is told so.
 */
export class Contents implements ContentReader {
  readonly store: ContentStore;
  readonly #log: Pick<EventStore, 'append' | 'readStream'>;
  readonly #options: ContentsOptions;
  /** Stored, or about to be, for appends that have not ended: nobody may take them for orphans. */
  readonly #underWay = new Set<string>();
  readonly #waiting: (() => void)[] = [];
  #putting = 0;
  #claim: Promise<void> | undefined;

  constructor(store: ContentStore, log: Pick<EventStore, 'append' | 'readStream'>, options: ContentsOptions) {
    this.store = store;
    this.#log = log;
    this.#options = options;
  }

  /** Stores contents, then has the events appended that name them. @throws ContentUnavailable: nothing was appended */
  async storeFirst<Result>(contents: readonly NewContent[], append: () => Promise<Result>): Promise<Result> {
    const named = contents.map((content) => ({ name: nameOf(content), body: content.body }));
    for (const { name } of named) this.#underWay.add(name);
    try {
      await this.#claimed();
      await Promise.all(named.map(({ name, body }) => this.#put(name, body)));
      return await append();
    } finally {
      for (const { name } of named) this.#underWay.delete(name);
    }
  }

  async get(name: ContentName, size: number): Promise<Buffer> {
    const { place } = this.store;
    const body = await this.store.get(nameOf(name), size).catch((error: unknown) => {
      throw unavailable(place, error);
    });
    if (!body) throw new ContentLost(`the content ${nameOf(name)} is not in ${place}`);
    if (body.length !== size || digest('sha256', body) !== name.hash)
      throw new ContentLost(
        `the content ${nameOf(name)} in ${place} is damaged: its bytes are not those that were stored`,
      );
    return body;
  }

  isUnderWay(name: string): boolean {
    return this.#underWay.has(name);
  }

  /** Whether this is the store that the log's events name; undefined when they name nothing yet. */
  async isTheLogs(): Promise<boolean | undefined> {
    const [mark, used] = await Promise.all([this.#mark(), this.#used()]);
    if (used.length === 0) return mark && mark.logId !== this.#options.logId ? false : undefined;
    return mark !== undefined && mark.logId === this.#options.logId && used.includes(mark.id);
  }

  /** The ids of the stores that the log has used. */
  async #used(): Promise<string[]> {
    return (await this.#log.readStream(STREAM)).map(({ id }) => id);
  }

  async #mark(): Promise<{ readonly id: string; readonly logId: string } | undefined> {
    const { place } = this.store;
    const line = await this.store.readMark().catch((error: unknown) => {
      throw unavailable(place, error);
    });
    const [, id, logId] = MARK.exec(line ?? '') ?? [];
    if (line !== undefined && id === undefined) throw new ContentUnavailable(`the mark of ${place} is damaged`);
    return id !== undefined && logId !== undefined ? { id, logId } : undefined;
  }

  #claimed(): Promise<void> {
    this.#claim ??= this.#makeClaim().catch((error: unknown) => {
      this.#claim = undefined;
      throw error;
    });
    return this.#claim;
  }

  /** Before the first content of a log: from then on its contents are here, and nowhere else. */
  async #makeClaim(): Promise<void> {
    const { place } = this.store;
    const { logId, acceptsLost } = this.#options;
    for (;;) {
      const [mark, used] = await Promise.all([this.#mark(), this.#used()]);
      if (mark && mark.logId !== logId) throw new ContentUnavailable(ofAnother(place));
      if (mark && used.includes(mark.id)) return;
      if (used.length > 0 && !acceptsLost) throw new ContentUnavailable(elsewhere(place));
      if (mark) {
        const metadata = { schemaVersion: '1', occurredAt: new Date().toISOString() };
        const event = { id: mark.id, type: 'ContentStoreIdentified', data: {}, metadata };
        await this.#log.append(STREAM, used.length === 0 ? 'no-stream' : used.length - 1, [event]);
      } else
        await this.store.writeMark(`${randomUUID()} ${logId}`).catch((error: unknown) => {
          throw unavailable(place, error);
        });
    }
  }

  async #put(name: string, body: Buffer): Promise<void> {
    if (this.#putting >= PUTS_AT_ONCE) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#putting++;
    try {
      await this.store.put(name, body);
    } catch (error) {
      throw unavailable(this.store.place, error);
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#putting--;
    }
  }
}

const UUID = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}';
const MARK = new RegExp(`^(${UUID}) (${UUID})$`);

export const elsewhere = (place: string): string =>
  `the large contents of this event log are not those in ${place}: name the folder or bucket that has them with ` +
  'WAYBILL_CONTENT (all instances share one), or set WAYBILL_ACCEPT_LOST_CONTENT=true to go on without them for ever';

const ofAnother = (place: string): string =>
  `${place} has the contents of another event log: give each Waybill a folder or prefix of its own with WAYBILL_CONTENT`;

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EACCES: 'permission denied',
  EROFS: 'the file system is read-only',
};

function unavailable(place: string, error: unknown): ContentUnavailable {
  const { code = '', message } = error as NodeJS.ErrnoException;
  return new ContentUnavailable(`${place} cannot be used: ${REASONS[code] ?? message}`, { cause: error });
}
