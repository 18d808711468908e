import { randomBytes } from 'node:crypto';
import { Generations } from './generations.js';
import { KEY_BYTES, type KeyEncryption } from './key-encryption.js';
import type { KeyRow, KeyTable, NewKeyRow } from './key-table.js';

/** A key, ready for use. */
export interface DataKey {
  readonly id: string;
  readonly subject: string;
  readonly key: Buffer;
}

/** Whose key is wanted; it is made when there is none. */
export interface Wanted {
  readonly subject: string;
  readonly organizationId: string;
  readonly members?: readonly string[];
}

/** Where the keys are that all others are wrapped with. */
export interface KeyRing {
  readonly encryption: KeyEncryption;
  /** Reads it again: it may have got a new version. */
  reload(): Promise<void>;
}

export interface DataKeysOptions {
  /** Keys kept at hand, about 400 bytes each; up to twice as many. Default 50,000. */
  readonly cached?: number;
  /** Keys that are not in the table count as destroyed. */
  readonly acceptsMissing?: boolean;
}

const ID_BYTES = 16;
/** Somebody else keeps making, and destroying, keys of the same subjects: more than chance. */
const MAX_ROUNDS = 5;

/** What is wanted by everybody who waits for the same statement. */
interface Batch {
  readonly subjects: Map<string, Wanted>;
  readonly ids: Set<string>;
  readonly done: Promise<void>;
}

/**
 * The data keys of this process: one living key for each subject, made when it is first needed, unwrapped once and kept
 * in a bounded cache. One batch is on its way to Postgres at a time, and whoever comes meanwhile shares the next.
 */
export class DataKeys {
  readonly #table: KeyTable;
  readonly #ring: KeyRing;
  readonly #acceptsMissing: boolean;
  readonly #byId: Generations<string, DataKey | 'destroyed'>;
  readonly #bySubject: Generations<string, DataKey>;
  #next: Batch | undefined;
  #underWay: Promise<void> = Promise.resolve();

  constructor(table: KeyTable, ring: KeyRing, options: DataKeysOptions = {}) {
    const { cached = 50_000, acceptsMissing = false } = options;
    this.#table = table;
    this.#ring = ring;
    this.#acceptsMissing = acceptsMissing;
    this.#byId = new Generations(cached);
    this.#bySubject = new Generations(cached);
  }

  ofSubject(subject: string): DataKey | undefined {
    return this.#bySubject.get(subject);
  }

  byId(id: string): DataKey | 'destroyed' | undefined {
    return this.#byId.get(id);
  }

  prepare(subjects: readonly Wanted[]): Promise<void> | undefined {
    let batch: Batch | undefined;
    for (const wanted of subjects) {
      if (this.#bySubject.get(wanted.subject)) continue;
      batch ??= this.#batch();
      batch.subjects.set(wanted.subject, wanted);
    }
    return batch?.done;
  }

  load(ids: readonly string[]): Promise<void> | undefined {
    let batch: Batch | undefined;
    for (const id of ids) {
      if (this.#byId.get(id)) continue;
      batch ??= this.#batch();
      batch.ids.add(id);
    }
    return batch?.done;
  }

  /** These keys are destroyed: nothing is sealed or opened with them here from now on. */
  forget(ids: readonly string[]): void {
    for (const id of ids) {
      const key = this.#byId.get(id);
      if (typeof key === 'object') {
        if (this.#bySubject.get(key.subject)?.id === id) this.#bySubject.delete(key.subject);
        key.key.fill(0);
      }
      this.#byId.set(id, 'destroyed');
    }
  }

  #batch(): Batch {
    if (this.#next) return this.#next;
    const subjects = new Map<string, Wanted>();
    const ids = new Set<string>();
    const done = this.#underWay.then(() => {
      this.#next = undefined;
      return this.#fetch(subjects, ids);
    });
    this.#underWay = done.catch(() => undefined);
    this.#next = { subjects, ids, done };
    return this.#next;
  }

  async #fetch(subjects: ReadonlyMap<string, Wanted>, ids: ReadonlySet<string>): Promise<void> {
    // Some may have come with the batch before.
    const missing = new Map([...subjects].filter(([subject]) => !this.#bySubject.get(subject)));
    const unknown = new Set([...ids].filter((id) => !this.#byId.get(id)));
    for (let round = 0; missing.size > 0 || unknown.size > 0; round++) {
      if (round === MAX_ROUNDS)
        throw new Error('data keys changed too often to be read, or the key ring here is older than the one in use');
      const rows = await this.#table.find([...missing.keys()], [...unknown]);
      if (rows.some(({ version, wrapped }) => wrapped && !this.#ring.encryption.has(version)))
        await this.#ring.reload();
      for (const row of rows) {
        this.#keep(row);
        unknown.delete(row.id);
        if (row.wrapped) missing.delete(row.subject);
      }
      if (this.#acceptsMissing) for (const id of unknown) this.#byId.set(id, 'destroyed');
      unknown.clear();
      if (missing.size > 0) await this.#make(missing);
    }
  }

  async #make(missing: Map<string, Wanted>): Promise<void> {
    const { encryption } = this.#ring;
    const made = [...missing.values()].map(({ subject, organizationId, members }) => {
      const id = randomBytes(ID_BYTES).toString('base64url');
      const key = randomBytes(KEY_BYTES);
      const row: NewKeyRow = { id, subject, organizationId, ...encryption.wrap(id, key), ...(members && { members }) };
      return { row, key: { id, subject, key } };
    });
    const added = await this.#table.add(made.map(({ row }) => row));
    // Somebody may have rotated the ring: what is wrapped with the version before is not taken any more.
    if (added.size < made.length) await this.#ring.reload();
    for (const { key } of made) {
      if (!added.has(key.id)) continue;
      this.#byId.set(key.id, key);
      this.#bySubject.set(key.subject, key);
      missing.delete(key.subject);
    }
  }

  #keep({ id, subject, version, wrapped }: KeyRow): void {
    const known = this.#byId.get(id);
    if (known === 'destroyed' || !wrapped) {
      this.#byId.set(id, 'destroyed');
      return;
    }
    const key = known ?? { id, subject, key: this.#ring.encryption.unwrap(id, { version, wrapped }) };
    this.#byId.set(id, key);
    this.#bySubject.set(subject, key);
  }
}
