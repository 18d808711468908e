import type { StoredContent } from '../domain/delivery-events.js';
import type { ContentSource, Subject } from './codec.js';
import type { Contents } from './content/contents.js';
import { Pieces, plainSize } from './content/pieces.js';
import { type DataKeys, KeyMissing, SealedFields } from './sealed-fields.js';

/** Whose a file is, and how long it is kept. */
export interface FileOwner extends Subject {
  /** The stream that has the event that names it. */
  readonly streamId: string;
  /** After it nobody needs the file any more. */
  readonly until: Date;
}

/** A file that was stored, and its size in clear. */
export interface SealedFile {
  readonly stored: StoredContent;
  readonly bytes: number;
}

/** Files that an event names and that were in no request: sealed piece by piece as they come, under their subject's key. */
export class SealedFiles {
  readonly #keys: DataKeys;
  readonly #contents: Pick<Contents, 'keep'>;
  readonly #fields: SealedFields;

  constructor(keys: DataKeys, contents: Contents) {
    this.#keys = keys;
    this.#contents = contents;
    this.#fields = new SealedFields(keys, contents);
  }

  /**
   * Stores files, then has the event appended that names them.
   *
   * @param append says whether they are named now; what is not is removed
   * @throws ContentUnavailable, or what the reading of a file throws: nothing was appended
   */
  async keep(
    { streamId, until, ...owner }: FileOwner,
    files: readonly AsyncIterable<Buffer>[],
    append: (files: readonly SealedFile[]) => Promise<boolean>,
  ): Promise<void> {
    await this.#keys.prepare([owner]);
    const key = this.#keys.ofSubject(owner.subject);
    if (!key) throw new KeyMissing(`the key of ${owner.subject} is not at hand`);
    const seconds = Math.ceil(until.getTime() / 1_000);
    const sealing = files.map((file, index) => {
      const path = `files.${index}`;
      const pieces = new Pieces({ key, streamId, path });
      return { path, salt: pieces.salt, body: pieces.seal(file) };
    });
    const contents = sealing.map(({ body }) => ({ key: key.id, streamId, until: seconds, body }));
    await this.#contents.keep(contents, (stored) =>
      append(
        stored.map(({ hash, size }, index) => {
          const { path, salt } = sealing[index] as (typeof sealing)[number];
          return { stored: { path, key: key.id, hash, size, salt, until: seconds }, bytes: plainSize(size) };
        }),
      ),
    );
  }

  /** @throws ContentLost, ContentUnavailable when it cannot be read, as far as can be told beforehand */
  open = (stored: StoredContent, streamId: string): Promise<ContentSource> => this.#fields.source(stored, streamId);
}
