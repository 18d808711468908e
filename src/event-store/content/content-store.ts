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
  put(name: string, bytes: Buffer): Promise<void>;
  /** Undefined when there is none. @param size what it must have; of anything else no more than one byte over is read */
  get(name: string, size: number): Promise<Buffer | undefined>;
  /** Everything whose name begins so, in pages. */
  list(prefix?: string): AsyncIterable<readonly StoredFile[]>;
  /** Those that are not there are no error. */
  remove(names: readonly string[]): Promise<void>;
}

export interface StoredFile {
  readonly name: string;
  readonly bytes: number;
  readonly modifiedAtMs: number;
}

/** Whose key it is sealed with, the stream that has the event that names it, and the SHA-256 of its bytes. */
export interface ContentName {
  readonly key: string;
  readonly streamId: string;
  readonly hash: string;
}

/** The key comes first: what a destroyed key leaves behind is found, and removed, by the beginning of its name. */
export const nameOf = ({ key, streamId, hash }: ContentName): string => `${key}.${streamId}.${hash}`;

const NAME = /^([\w-]{2,64})\.([\w-]{1,100})\.([0-9a-f]{64})$/;

/** Undefined for what is no content. */
export function parseName(name: string): ContentName | undefined {
  const [, key, streamId, hash] = NAME.exec(name) ?? [];
  return key !== undefined && streamId !== undefined && hash !== undefined ? { key, streamId, hash } : undefined;
}

/** Other streams keep everything in their events; those of deliveries all have such names. */
export const canName = (streamId: string): boolean => /^[\w-]{1,100}$/.test(streamId);

/** Up to 4,096 folders, so that none gets too full to be looked through. */
export const shardOf = (name: string): string => name.slice(0, 2);

export const MARK = 'store.id';
/** Of a mark, with room to spare. */
export const MARK_BYTES = 200;
