import { randomBytes } from 'node:crypto';
import type { ByteRange } from './pieces.js';

/**
 * Where what is too large for an event lies: sealed, outside the log, each content under a name that ends with the
 * SHA-256 of its bytes. What has been put there never changes.
 */
export interface ContentStore {
  /** Where it is, for people. */
  readonly place: string;
  /** One line that says whose it is; undefined before somebody has written one. */
  readMark(): Promise<string | undefined>;
  /** Of several that write one at once, one wins; a mark that is there stays. */
  writeMark(line: string): Promise<void>;
  /** Resolves when it would survive a power cut. A name is used once. */
  put(name: string, bytes: Buffer | AsyncIterable<Buffer>): Promise<void>;
  /** Of what was stored as it came, so that its digest was not known. Resolves as `put` does; the key stays the same. */
  rename(name: string, other: string): Promise<void>;
  /** How many bytes it has; undefined when there is none. */
  size(name: string): Promise<number | undefined>;
  /**
   * Its bytes from `start` up to `end`, which is not included, as they come: never much of it at once.
   *
   * @param size what all of it must have
   * @throws Unreadable while they are read
   */
  read(name: string, size: number, range: ByteRange): AsyncIterable<Buffer>;
  /** Everything whose name begins so, in pages. */
  list(prefix?: string): AsyncIterable<readonly StoredFile[]>;
  /** Those that are not there are no error. */
  remove(names: readonly string[]): Promise<void>;
}

/** Why a content cannot be read: it is not there, or is not what was stored. */
export class Unreadable extends Error {
  override name = 'Unreadable';

  constructor(readonly reason: 'missing' | 'damaged') {
    super(reason);
  }
}

export interface StoredFile {
  readonly name: string;
  readonly bytes: number;
  readonly modifiedAtMs: number;
}

/**
 * Whose key it is sealed with, the stream that has the event that names it, the SHA-256 of its bytes, and until when it is
 * kept, in seconds since 1970, where that is not for ever: what has had its time shows in the names alone.
 */
export interface ContentName {
  readonly key: string;
  readonly streamId: string;
  readonly hash: string;
  readonly until?: number | undefined;
}

/** The key comes first: what a destroyed key leaves behind is found, and removed, by the beginning of its name. */
export const nameOf = ({ key, streamId, hash, until }: ContentName): string =>
  `${key}.${streamId}.${hash}${until === undefined ? '' : `.${until}`}`;

const NAME = /^([\w-]{2,64})\.([\w-]{1,100})\.([0-9a-f]{64})(?:\.(\d{10,11}))?$/;

/** Undefined for what is no content. */
export function parseName(name: string): ContentName | undefined {
  const [, key, streamId, hash, until] = NAME.exec(name) ?? [];
  if (key === undefined || streamId === undefined || hash === undefined) return undefined;
  return until === undefined ? { key, streamId, hash } : { key, streamId, hash, until: Number(until) };
}

/** For what is stored before its digest is known: a name that nothing will ever name, should nobody rename it. */
export const provisionalName = (name: Omit<ContentName, 'hash'>): string =>
  nameOf({ ...name, hash: randomBytes(32).toString('hex') });

/** Other streams keep everything in their events; those of deliveries all have such names. */
export const canName = (streamId: string): boolean => /^[\w-]{1,100}$/.test(streamId);

/** Up to 4,096 folders, so that none gets too full to be looked through. */
export const shardOf = (name: string): string => name.slice(0, 2);

export const MARK = 'store.id';
/** Of a mark, with room to spare. */
export const MARK_BYTES = 200;
