import { millisOf } from '../domain/instant.js';
import { writeUuid } from '../domain/uuid.js';

/**
 * Rows on their way to Postgres: one array parameter per column, taken apart by `unnest` in one statement. The arrays
 * are sent in Postgres' binary format, because escaping JSON inside text array literals costs more on both sides than
 * everything else about a row.
 */
export interface Column<Row> {
  readonly name: string;
  readonly type: ColumnType;
  /** null and undefined become NULL. */
  readonly of: (row: Row) => unknown;
}

export type ColumnType = keyof typeof encoders | 'text[]' | 'uuid[]';

/** What a projection wants to be run in the transaction of a batch; prepared once per connection under its name. */
export interface Statement {
  readonly name: string;
  readonly text: string;
  readonly values: unknown[];
  /** What a `copy … from stdin` is given, in Postgres' binary format. */
  readonly rows?: Buffer;
}

/** `insert … select from unnest … on conflict (key) do update set …`, the assignments as SQL text by column. */
export function upsert<Row>(
  table: string,
  columns: readonly Column<Row>[],
  key: readonly string[],
  update: Readonly<Record<string, string>>,
): (rows: readonly Row[]) => Statement {
  const names = namesOf(columns);
  // unnest flattens arrays of arrays, so inner arrays travel as text.
  const selected = columns.map(({ name, type }) => (type.endsWith('[]') ? `u.${name}::${type}` : `u.${name}`));
  const parameters = columns.map(({ type }, index) => `$${index + 1}::${type.endsWith('[]') ? 'text' : type}[]`);
  // In a from clause Postgres would store all it gives before it takes the first row.
  const unnested = columns.map(({ name }, index) => `unnest(${parameters[index]}) as ${name}`);
  const assignments = Object.entries(update).map(([name, sql]) => `${name} = ${sql}`);
  const text =
    `insert into ${table} (${names}) select ${selected.join(', ')} from (select ${unnested.join(', ')}) as u ` +
    `on conflict (${key.join(', ')}) do update set ${assignments.join(', ')}`;
  return (rows) => ({ name: `upsert_${table}`, text, values: columns.map((column) => encodeColumn(column, rows)) });
}

/**
 * Of rows that are new for certain, `copy`, which takes Postgres a third less than the same rows by `upsert`; of others
 * `upsert`.
 */
export function rowWriter<Row>(
  table: string,
  columns: readonly Column<Row>[],
  key: readonly string[],
  update: Readonly<Record<string, string>>,
): (rows: { readonly added: readonly Row[]; readonly others: readonly Row[] }) => Statement[] {
  const write = upsert(table, columns, key, update);
  const text = `copy ${table} (${namesOf(columns)}) from stdin (format binary)`;
  return ({ added, others }) => [
    ...(added.length > 0 ? [{ name: `copy_${table}`, text, values: [], rows: encodeRows(columns, added) }] : []),
    ...(others.length > 0 ? [write(others)] : []),
  ];
}

const namesOf = <Row>(columns: readonly Column<Row>[]): string => columns.map(({ name }) => name).join(', ');

/** `column = excluded.column` for each. */
export const replacing = (...names: readonly string[]): Record<string, string> =>
  Object.fromEntries(names.map((name) => [name, `excluded.${name}`]));

export function encodeColumn<Row>({ type, of }: Column<Row>, rows: readonly Row[]): Buffer {
  const encoder = type === 'text[]' || type === 'uuid[]' ? encoders.text : encoders[type];
  const toText = type === 'text[]' || type === 'uuid[]' ? arrayLiteral : undefined;
  const out = new BinaryElements(rows.length * 24);
  out.words(1, 1, encoder.oid, rows.length, 1);
  for (const row of rows) {
    const value = of(row);
    if (value === null || value === undefined) out.null();
    else encoder.write(out, (toText ? toText(value as readonly string[]) : value) as never);
  }
  return out.end();
}

/** "Binary Format" of https://www.postgresql.org/docs/18/sql-copy.html: a field is written as an element of an array is. */
export function encodeRows<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): Buffer {
  const out = new BinaryElements(rows.length * columns.length * 24);
  out.signature();
  for (const row of rows) {
    out.int16(columns.length);
    for (const { type, of } of columns) {
      const value = of(row);
      if (value === null || value === undefined) out.null();
      else if (type === 'text[]' || type === 'uuid[]')
        out.array(encoders[type === 'text[]' ? 'text' : 'uuid'], value as readonly string[]);
      else encoders[type].write(out, value as never);
    }
  }
  out.int16(-1);
  return out.end();
}

/** Milliseconds from the Unix epoch to Postgres' (2000-01-01). */
const POSTGRES_EPOCH_MS = 946_684_800_000;

interface Encoder<Value> {
  readonly oid: number;
  readonly write: (out: BinaryElements, value: Value) => void;
}

const encoders = {
  uuid: { oid: 2950, write: (out: BinaryElements, value: string) => out.uuid(value) },
  text: { oid: 25, write: (out: BinaryElements, value: string) => out.text(value) },
  jsonb: { oid: 3802, write: (out: BinaryElements, value: unknown) => out.jsonb(storableJson(value)) },
  boolean: { oid: 16, write: (out: BinaryElements, value: boolean) => out.byte(value ? 1 : 0) },
  integer: { oid: 23, write: (out: BinaryElements, value: number) => out.int32(value) },
  bigint: { oid: 20, write: (out: BinaryElements, value: number | bigint) => out.int64(value) },
  timestamptz: {
    oid: 1184,
    write: (out: BinaryElements, value: string) => out.int64((millisOf(value) - POSTGRES_EPOCH_MS) * 1_000),
  },
};

const HIGH = 2 ** 32;
/** Texts up to this length are written faster here than by a call into Buffer. */
const SHORT = 64;

const COPY_SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1');

/** Values in Postgres' binary formats, each after its length: elements of a one-dimensional array, or fields of a row. */
class BinaryElements {
  #bytes: Buffer;
  #end = 0;

  /** @param bytes how many it will be about */
  constructor(bytes: number) {
    this.#bytes = Buffer.allocUnsafe(20 + bytes);
  }

  /** What stands before all elements. */
  words(...words: readonly number[]): void {
    for (const word of words) {
      this.#room(4);
      this.#word(this.#end, word);
      this.#end += 4;
    }
  }

  /** What a copy begins with: no flags, no extension. */
  signature(): void {
    this.#room(COPY_SIGNATURE.length);
    this.#bytes.set(COPY_SIGNATURE, this.#end);
    this.#end += COPY_SIGNATURE.length;
    this.words(0, 0);
  }

  int16(value: number): void {
    this.#room(2);
    this.#bytes[this.#end] = value >>> 8;
    this.#bytes[this.#end + 1] = value;
    this.#end += 2;
  }

  array({ oid, write }: Encoder<string>, items: readonly string[]): void {
    const start = this.#begin(0);
    if (items.length === 0) this.words(0, 0, oid);
    else this.words(1, 0, oid, items.length, 1);
    for (const item of items) write(this, item);
    this.#word(start - 4, this.#end - start);
  }

  null(): void {
    this.#begin(0, -1);
  }

  byte(value: number): void {
    const at = this.#begin(1);
    this.#bytes[at] = value;
  }

  int32(value: number): void {
    this.#word(this.#begin(4), value);
  }

  int64(value: number | bigint): void {
    const at = this.#begin(8);
    const number = Number(value);
    if (Number.isSafeInteger(number)) {
      const high = Math.floor(number / HIGH);
      this.#word(at, high);
      this.#word(at + 4, number - high * HIGH);
    } else this.#bytes.writeBigInt64BE(BigInt(value), at);
  }

  uuid(value: string): void {
    const at = this.#begin(16);
    if (!writeUuid(value, this.#bytes, at)) throw new Error(`${JSON.stringify(value)} is not a uuid`);
  }

  text(value: string): void {
    if (!this.#ascii(value)) this.#utf8(storableText(value), 0);
  }

  /** The leading 1 is the version of jsonb's binary format. */
  jsonb(json: string): void {
    this.#utf8(json, 1);
  }

  end(): Buffer {
    return this.#bytes.subarray(0, this.#end);
  }

  /** @returns false, and leaves everything as it was, when the text is not a short and simple one */
  #ascii(value: string): boolean {
    const { length } = value;
    if (length > SHORT) return false;
    const start = this.#end;
    const at = this.#begin(length);
    for (let index = 0; index < length; index++) {
      const code = value.charCodeAt(index);
      if (code === 0 || code > 127) {
        this.#end = start;
        return false;
      }
      this.#bytes[at + index] = code;
    }
    return true;
  }

  /** @param prefix 1 for a byte of that value before the text, or 0 */
  #utf8(value: string, prefix: 0 | 1): void {
    const start = this.#end;
    // As many bytes as it may have at most: to count them first would take as long as to write them.
    const at = this.#begin(prefix + value.length * 3);
    this.#bytes[at] = prefix;
    const bytes = prefix + this.#bytes.write(value, at + prefix);
    this.#word(start, bytes);
    this.#end = at + bytes;
  }

  /** Makes room for an element and writes its length before it. @returns where it begins */
  #begin(bytes: number, length = bytes): number {
    const at = this.#end + 4;
    this.#room(4 + bytes);
    this.#word(this.#end, length);
    this.#end = at + bytes;
    return at;
  }

  #room(bytes: number): void {
    const end = this.#end + bytes;
    if (end <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(end, this.#bytes.length * 2));
    this.#bytes.copy(larger, 0, 0, this.#end);
    this.#bytes = larger;
  }

  /** Big-endian; of a number beyond 32 bits the lowest. */
  #word(at: number, value: number): void {
    const bytes = this.#bytes;
    bytes[at] = value >>> 24;
    bytes[at + 1] = value >>> 16;
    bytes[at + 2] = value >>> 8;
    bytes[at + 3] = value;
  }
}

const SPECIAL = /["\\]/;

function arrayLiteral(items: readonly string[]): string {
  let text = '';
  for (const item of items)
    text += `${text === '' ? '' : ','}"${SPECIAL.test(item) ? item.replace(/["\\]/g, '\\$&') : item}"`;
  return `{${text}}`;
}

/** Postgres has no NUL in text and neither NUL nor half a surrogate pair in jsonb; JSON has both. */
const storableText = (text: string): string => (text.includes('\0') ? text.replaceAll('\0', '\ufffd') : text);

function storableJson(value: unknown): string {
  const json = JSON.stringify(value);
  // A backslash before "u0000" in the text itself looks alike; that costs one superfluous pass.
  const isStorable = !json.includes('\\u') || !/\\u(0000|d[89a-f])/.test(json);
  return isStorable ? json : JSON.stringify(value, replaceUnstorable);
}

function replaceUnstorable(_: string, value: unknown): unknown {
  const clean = (text: string) => text.replace(/\0|\p{Surrogate}/gu, '\ufffd');
  if (typeof value === 'string') return clean(value);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [clean(key), inner]));
}
