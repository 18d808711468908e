import { createHash, hash as digest, randomUUID } from 'node:crypto';
import { ContentLost, ContentUnavailable, type EventStore } from '../event-store.js';
import { type ContentName, type ContentStore, nameOf, provisionalName, Unreadable } from './content-store.js';
import type { ByteRange } from './pieces.js';

/** A content that an event not yet appended names. */
export interface NewContent extends ContentName {
  readonly body: Buffer;
}

/** One whose bytes come, and are stored, one after the other. */
export interface IncomingContent extends Omit<ContentName, 'hash'> {
  readonly body: AsyncIterable<Buffer>;
}

export interface ContentReader {
  /** Whether it is there, as far as can be told without reading it. @throws ContentLost, ContentUnavailable */
  check(name: ContentName, size: number): Promise<void>;
  /** Sealed bytes, as they come. @throws ContentLost, ContentUnavailable while they are read */
  read(name: ContentName, size: number, range: ByteRange): AsyncIterable<Buffer>;
  /** What to throw when what was read is not what was stored. */
  lost(name: ContentName, reason: 'damaged'): ContentLost;
}

/** Each log says where the contents are that its events name: an event for each store, of which more than one is an exception. */
const STREAM = 'waybill-content';
/** Written at once; more wait. */
const PUTS_AT_ONCE = 8;

/** How often a place that could not be written is tried again, with so much as an event would not hold. */
const PROBE_MS = 5_000;
const PROBE_BYTES = 256 * 1_024;

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
  #problem: string | undefined;
  #probing: NodeJS.Timeout | undefined;
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

  /**
   * Stores contents as they come, then has the event appended that names them.
   *
   * @param append says whether they are named now; what is not is removed
   * @throws ContentUnavailable, or what a body throws: nothing was appended
   */
  async keep(
    contents: readonly IncomingContent[],
    append: (stored: readonly { readonly hash: string; readonly size: number }[]) => Promise<boolean>,
  ): Promise<void> {
    const names: string[] = [];
    const remove = () => this.store.remove(names).catch(() => undefined); // else the collector does
    try {
      const stored: { hash: string; size: number }[] = [];
      try {
        await this.#claimed();
        for (const content of contents) stored.push(await this.#store(content, names));
      } catch (error) {
        await remove();
        throw error;
      }
      if (!(await append(stored))) await remove();
    } finally {
      for (const name of names) this.#underWay.delete(name);
    }
  }

  async #store({ body, ...content }: IncomingContent, names: string[]) {
    const named = (name: string) => {
      this.#underWay.add(name);
      names.push(name);
      return name;
    };
    const provisional = named(provisionalName(content));
    const digest = createHash('sha256');
    let size = 0;
    let broken: unknown;
    async function* noted() {
      try {
        for await (const chunk of body) {
          digest.update(chunk);
          size += chunk.length;
          yield chunk;
        }
      } catch (error) {
        broken = error;
        throw error;
      }
    }
    await this.#put(provisional, noted(), () => broken);
    const hash = digest.digest('hex');
    await this.store.rename(provisional, named(nameOf({ ...content, hash }))).catch((error: unknown) => {
      throw unavailable(this.store.place, error);
    });
    return { hash, size };
  }

  async check(name: ContentName, size: number): Promise<void> {
    const found = await this.store.size(nameOf(name)).catch((error: unknown) => {
      throw unavailable(this.store.place, error);
    });
    if (found !== size) throw this.lost(name, found === undefined ? 'missing' : 'damaged');
  }

  async *read(name: ContentName, size: number, range: ByteRange): AsyncGenerator<Buffer> {
    try {
      yield* this.store.read(nameOf(name), size, range);
    } catch (error) {
      throw error instanceof Unreadable ? this.lost(name, error.reason) : unavailable(this.store.place, error);
    }
  }

  lost(name: ContentName, reason: 'missing' | 'damaged'): ContentLost {
    const { place } = this.store;
    return new ContentLost(
      reason === 'missing'
        ? `the content ${nameOf(name)} is not in ${place}`
        : `the content ${nameOf(name)} in ${place} is damaged: its bytes are not those that were stored`,
    );
  }

  /** Why nothing can be stored, as far as is known: where it failed it is tried again until it does not. Names no place. */
  get problem(): string | undefined {
    return this.#problem;
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

  /** @param broken what was wrong with the body itself, which the place is not to blame for */
  async #put(name: string, body: Buffer | AsyncIterable<Buffer>, broken?: () => unknown): Promise<void> {
    if (this.#putting >= PUTS_AT_ONCE) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#putting++;
    try {
      await this.store.put(name, body);
      this.#problem = undefined;
    } catch (error) {
      if (broken?.() !== undefined) throw broken();
      this.#problem = REASONS[(error as NodeJS.ErrnoException).code ?? ''] ?? 'its place cannot be used';
      this.#probing ??= setTimeout(() => this.#probe(), PROBE_MS).unref();
      throw unavailable(this.store.place, error);
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#putting--;
    }
  }

  async #probe(): Promise<void> {
    this.#probing = undefined;
    if (this.#problem === undefined) return;
    const body = Buffer.alloc(PROBE_BYTES);
    const name = nameOf({ key: 'probe', streamId: randomUUID(), hash: digest('sha256', body) });
    this.#underWay.add(name);
    await this.#put(name, body).catch(() => undefined);
    await this.store.remove([name]).catch(() => undefined);
    this.#underWay.delete(name);
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
