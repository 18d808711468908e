import type { Instant, JsonObject, Organizations } from '../domain/vocabulary.js';
import type { EventReader, RecordedEvent } from '../event-store/event-store.js';
import { ACCESS_RECORDED, actorKey, factsOf, leafOf, organizationKey, subjectKey } from './entry.js';
import { leafHash } from './merkle.js';
import { ENTRY_COLUMNS, entryRow, type Sql, type StoredEntryRow } from './store.js';
import { type EntryRow, positionAt, ROW_ENTRIES } from './tree-builder.js';

/** One entry, as it is shown. Whatever is sealed in it stays so: the trail is about who did what. */
export interface TrailEntry {
  readonly index: number;
  readonly position: bigint;
  readonly recordedAt: Instant;
  readonly organizationId: string | null;
  readonly actor: string | null;
  /** The event's type or, of an access, what was asked. */
  readonly action: string;
  /** Stream of what it is about. */
  readonly subject: string;
  /** Only of an access. */
  readonly outcome: string | null;
  readonly reason: string | null;
  readonly address: string | null;
  readonly leafHash: string;
  /** As it is recorded. */
  readonly data: JsonObject;
}

export interface TrailFilter {
  readonly actor?: string | null;
  /** A stream, as in `destination-<id>`, or whatever an access names. */
  readonly subject?: string | null;
  /** Id of a delivery: short for its stream. */
  readonly delivery?: string | null;
  readonly from?: Date | null;
  readonly to?: Date | null;
}

/** The part of the trail that is asked for. */
export interface TrailPart {
  /** At most so many entries. */
  readonly size: number;
  /** By their place in the log. Default: the newest first. */
  readonly direction?: 'asc' | 'desc';
  /** Only what comes after the entry with this index; it need not be one that is asked for. */
  readonly after?: number | undefined;
}

export interface TrailPage {
  readonly entries: readonly TrailEntry[];
  /** The next page comes after this index; undefined when there is nothing more. */
  readonly next: number | undefined;
}

/** The caller's address that an access tells of, opened; null where there is none. */
export type CallerOf = (event: RecordedEvent) => Promise<string | null>;

/** Rows that one page reads at most, of 256 entries each; the next page goes on from there. */
const MAX_ROWS = 64;
const ROWS_AT_ONCE = 4;

/**
 * What was recorded, in the order of the log. Rows that cannot have what is asked for are passed over by their search keys; the
 * entries themselves are read from the log.
 */
export class Trail {
  readonly #sql: Sql;
  readonly #log: string;
  readonly #reader: EventReader;
  readonly #callerOf: CallerOf;

  constructor(sql: Sql, log: string, reader: EventReader, callerOf: CallerOf) {
    this.#sql = sql;
    this.#log = log;
    this.#reader = reader;
    this.#callerOf = callerOf;
  }

  async page(filter: TrailFilter, organizations: Organizations, part: TrailPart): Promise<TrailPage> {
    const { size, direction = 'desc' } = part;
    const subject = filter.delivery ? `delivery-${filter.delivery.toLowerCase()}` : (filter.subject ?? undefined);
    const isWanted = predicate(filter, subject, organizations);
    const rowsOfStream = subject === undefined ? [] : await this.#rowsOf(subject);
    const entries: TrailEntry[] = [];
    let [seen, left] = [part.after ?? (direction === 'desc' ? Number.MAX_SAFE_INTEGER : -1), MAX_ROWS];
    const isAfter = (index: number) => (direction === 'desc' ? index < seen : index > seen);
    while (left > 0) {
      const rows = await this.#rows(filter, subject, rowsOfStream, organizations, {
        ...{ size: Math.min(left, ROWS_AT_ONCE), direction, after: seen },
      });
      for (const row of rows) {
        for (const entry of await this.#entriesOf(row, direction)) {
          if (!isAfter(entry.index) || !isWanted(entry.event)) continue;
          if (entries.length === size) return { entries, next: (entries.at(-1) as TrailEntry).index };
          entries.push(shown(entry.event, entry.index, await this.#callerOf(entry.event)));
        }
        const start = row.row * ROW_ENTRIES;
        seen = direction === 'desc' ? Math.min(seen, start) : Math.max(seen, start + row.positions.length / 8 - 1);
      }
      left -= rows.length;
      if (rows.length < ROWS_AT_ONCE) return { entries, next: undefined };
    }
    return { entries, next: seen };
  }

  async #rows(
    { actor, from, to }: TrailFilter,
    subject: string | undefined,
    rowsOfStream: readonly number[],
    organizations: Organizations,
    { size, direction, after }: Required<TrailPart> & { readonly after: number },
  ): Promise<EntryRow[]> {
    const scope = organizations === 'all' ? null : organizations.map(organizationKey);
    // The row of the first entry that may come after it.
    const rowAfter = Math.floor((after + (direction === 'desc' ? -1 : 1)) / ROW_ENTRIES);
    const { rows } = await this.#sql.query<StoredEntryRow>(
      `select ${ENTRY_COLUMNS} from audit_entries
       where log = $1 and row_number ${direction === 'desc' ? '<=' : '>='} $2
         and ($3::text[] is null or keys && $3) and ($4::text is null or keys @> array[$4])
         and ($5::text is null or keys @> array[$5] or row_number = any($6::bigint[]))
         and ($7::timestamptz is null or last_at >= $7) and ($8::timestamptz is null or first_at < $8)
       order by row_number ${direction} limit $9`,
      [
        ...[this.#log, rowAfter, scope, actor ? actorKey(actor) : null],
        ...[subject === undefined ? null : subjectKey(subject), rowsOfStream, from ?? null, to ?? null, size],
      ],
    );
    return rows.map(entryRow);
  }

  /** Rows with events of a stream: the one whose first position is the greatest that is not beyond the event's. */
  async #rowsOf(stream: string): Promise<number[]> {
    const positions = (await this.#reader.readStream(stream)).map(({ position }) => bytesOf(position));
    if (positions.length === 0) return [];
    const { rows } = await this.#sql.query<{ row_number: string }>(
      `select distinct found.row_number from unnest($2::bytea[]) as wanted(position) cross join lateral (
         select row_number from audit_entries where log = $1 and substr(positions, 1, 8) <= wanted.position
         order by substr(positions, 1, 8) desc limit 1) as found`,
      [this.#log, positions],
    );
    return rows.map(({ row_number }) => Number(row_number));
  }

  async #entriesOf(
    { row, positions }: EntryRow,
    direction: 'asc' | 'desc',
  ): Promise<{ event: RecordedEvent; index: number }[]> {
    const count = positions.length / 8;
    const events = await this.#reader.readAll(positions.readBigInt64BE() - 1n, count);
    const known = new Map(Array.from({ length: count }, (_, at) => [positionAt(positions, at).readBigInt64BE(), at]));
    const entries = events.flatMap((event) => {
      const at = known.get(event.position);
      return at === undefined ? [] : [{ event, index: row * ROW_ENTRIES + at }];
    });
    return direction === 'desc' ? entries.reverse() : entries;
  }
}

function predicate({ actor, from, to }: TrailFilter, subject: string | undefined, organizations: Organizations) {
  const [start, end] = [from?.toISOString(), to?.toISOString()];
  return (event: RecordedEvent): boolean => {
    const facts = factsOf(event);
    if (organizations !== 'all' && !organizations.includes(facts.organizationId ?? '')) return false;
    if (actor && facts.actor !== actor) return false;
    if (subject !== undefined && facts.subject !== subject) return false;
    return (start === undefined || event.created >= start) && (end === undefined || event.created < end);
  };
}

function shown(event: RecordedEvent, index: number, address: string | null): TrailEntry {
  const { data, type, position, created } = event;
  const { organizationId, actor, subject } = factsOf(event);
  const access = type === ACCESS_RECORDED ? data : {};
  return {
    ...{ index, position, recordedAt: created, organizationId: organizationId ?? null, actor: actor ?? null },
    ...{ action: textOf(access.action) ?? type, subject, outcome: textOf(access.outcome) },
    ...{ reason: textOf(access.reason) ?? textOf(data.reason), address },
    ...{ leafHash: leafHash(leafOf(event)).toString('base64'), data },
  };
}

const textOf = (value: unknown): string | null => (typeof value === 'string' ? value : null);

function bytesOf(position: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(position);
  return bytes;
}
