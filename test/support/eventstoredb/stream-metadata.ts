/** What a metastream's newest event says of its stream. */
export interface StreamMetadata {
  readonly maxCount?: number;
  readonly maxAgeMs?: number;
  /** Events below this revision are gone; `Infinity`: the stream is deleted, until somebody writes to it again. */
  readonly truncateBefore?: number;
  readonly acl?: Readonly<Record<string, readonly string[]>>;
}

/** A revision that no stream reaches; `$tb` has it in a stream that is (softly) deleted. */
const DELETED = 2 ** 63;
export const DELETED_METADATA = '{"$tb":9223372036854775807}';

export const isMetastream = (stream: string): boolean => stream.startsWith('$$');
export const metastreamOf = (stream: string): string => `$$${stream}`;
export const originalOf = (metastream: string): string => metastream.slice(2);

/** A metastream keeps only what was written last. */
export const METASTREAM_METADATA: StreamMetadata = { maxCount: 1 };

/** What is not metadata says nothing; the real server ignores it as well. */
export function parseMetadata(bytes: Buffer): StreamMetadata {
  const raw = parsed(bytes);
  const truncateBefore = positive(raw.$tb);
  const maxAge = positive(raw.$maxAge);
  return {
    ...optional('maxCount', positive(raw.$maxCount)),
    ...optional('maxAgeMs', maxAge === undefined ? undefined : maxAge * 1_000),
    ...optional(
      'truncateBefore',
      truncateBefore !== undefined && truncateBefore >= DELETED ? Infinity : truncateBefore,
    ),
    ...optional('acl', aclOf(raw.$acl)),
  };
}

export const isSoftDeleted = ({ truncateBefore }: StreamMetadata): boolean => truncateBefore === Infinity;

/** The same metadata, of a stream that goes on from a revision after it was deleted. */
export function undeleted(bytes: Buffer, from: number): Buffer {
  return Buffer.from(JSON.stringify({ ...parsed(bytes), $tb: from }), 'utf8');
}

function parsed(bytes: Buffer): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    return value !== null && typeof value === 'object' ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

const positive = (value: unknown): number | undefined => (typeof value === 'number' && value >= 0 ? value : undefined);

function aclOf(raw: unknown): StreamMetadata['acl'] {
  if (raw === null || typeof raw !== 'object') return undefined;
  return Object.fromEntries(
    Object.entries(raw).map(([right, roles]) => [right, (Array.isArray(roles) ? roles : [roles]).map(String)]),
  );
}

const optional = <Key extends keyof StreamMetadata>(key: Key, value: StreamMetadata[Key]): StreamMetadata =>
  value === undefined ? {} : { [key]: value };
