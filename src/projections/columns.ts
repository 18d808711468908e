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
}

/** `insert … select from unnest … on conflict (key) do update set …`, the assignments as SQL text by column. */
export function upsert<Row>(
  table: string,
  columns: readonly Column<Row>[],
  key: readonly string[],
  update: Readonly<Record<string, string>>,
): (rows: readonly Row[]) => Statement {
  const names = columns.map(({ name }) => name).join(', ');
  // unnest flattens arrays of arrays, so inner arrays travel as text.
  const selected = columns.map(({ name, type }) => (type.endsWith('[]') ? `u.${name}::${type}` : `u.${name}`));
  const parameters = columns.map(({ type }, index) => `$${index + 1}::${type.endsWith('[]') ? 'text' : type}[]`);
  const assignments = Object.entries(update).map(([name, sql]) => `${name} = ${sql}`);
  const text =
    `insert into ${table} (${names}) select ${selected.join(', ')} from unnest(${parameters.join(', ')}) as u(${names}) ` +
    `on conflict (${key.join(', ')}) do update set ${assignments.join(', ')}`;
  return (rows) => ({ name: `upsert_${table}`, text, values: columns.map((column) => encodeColumn(column, rows)) });
}

/** `column = excluded.column` for each. */
export const replacing = (...names: readonly string[]): Record<string, string> =>
  Object.fromEntries(names.map((name) => [name, `excluded.${name}`]));

export function encodeColumn<Row>({ type, of }: Column<Row>, rows: readonly Row[]): Buffer {
  const encoder = type === 'text[]' || type === 'uuid[]' ? encoders.text : encoders[type];
  const toText = type === 'text[]' || type === 'uuid[]' ? arrayLiteral : undefined;
  const out = new BinaryArray(encoder.oid, rows.length);
  for (const row of rows) {
    const value = of(row);
    if (value === null || value === undefined) out.null();
    else encoder.write(out, (toText ? toText(value as readonly string[]) : value) as never);
  }
  return out.end();
}

/** Milliseconds from the Unix epoch to Postgres' (2000-01-01). */
const POSTGRES_EPOCH_MS = 946_684_800_000;

const encoders = {
  uuid: { oid: 2950, write: (out: BinaryArray, value: string) => out.hex(value.replaceAll('-', ''), 16) },
  text: { oid: 25, write: (out: BinaryArray, value: string) => out.text(storableText(value)) },
  jsonb: { oid: 3802, write: (out: BinaryArray, value: unknown) => out.jsonb(storableJson(value)) },
  boolean: { oid: 16, write: (out: BinaryArray, value: boolean) => out.byte(value ? 1 : 0) },
  integer: { oid: 23, write: (out: BinaryArray, value: number) => out.int32(value) },
  bigint: { oid: 20, write: (out: BinaryArray, value: number | bigint) => out.int64(BigInt(value)) },
  timestamptz: {
    oid: 1184,
    write: (out: BinaryArray, value: string) => out.int64(BigInt(Date.parse(value) - POSTGRES_EPOCH_MS) * 1_000n),
  },
};

/** One-dimensional array in the format of Postgres' array_recv. */
class BinaryArray {
  #bytes: Buffer;
  #end = 20;

  constructor(elementOid: number, length: number) {
    this.#bytes = Buffer.allocUnsafe(20 + length * 24);
    for (const [index, word] of [1, 1, elementOid, length, 1].entries()) this.#bytes.writeInt32BE(word, index * 4);
  }

  null(): void {
    this.#lengthOf(0);
    this.#bytes.writeInt32BE(-1, this.#end - 4);
  }

  byte(value: number): void {
    this.#lengthOf(1);
    this.#bytes[this.#end++] = value;
  }

  int32(value: number): void {
    this.#lengthOf(4);
    this.#end = this.#bytes.writeInt32BE(value, this.#end);
  }

  int64(value: bigint): void {
    this.#lengthOf(8);
    this.#end = this.#bytes.writeBigInt64BE(value, this.#end);
  }

  hex(digits: string, length: number): void {
    this.#lengthOf(length);
    if (this.#bytes.write(digits, this.#end, 'hex') !== length) throw new Error(`${digits} has not ${length} bytes`);
    this.#end += length;
  }

  text(value: string): void {
    this.#lengthOf(Buffer.byteLength(value));
    this.#end += this.#bytes.write(value, this.#end);
  }

  /** The leading 1 is the version of jsonb's binary format. */
  jsonb(json: string): void {
    this.#lengthOf(Buffer.byteLength(json) + 1);
    this.#bytes[this.#end++] = 1;
    this.#end += this.#bytes.write(json, this.#end);
  }

  end(): Buffer {
    return this.#bytes.subarray(0, this.#end);
  }

  #lengthOf(bytes: number): void {
    const needed = this.#end + 4 + bytes;
    if (needed > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2));
      this.#bytes.copy(larger, 0, 0, this.#end);
      this.#bytes = larger;
    }
    this.#end = this.#bytes.writeInt32BE(bytes, this.#end);
  }
}

const arrayLiteral = (items: readonly string[]): string =>
  items.length === 0 ? '{}' : `{${items.map((item) => `"${item.replace(/["\\]/g, '\\$&')}"`).join(',')}}`;

/** Postgres has no NUL in text and neither NUL nor half a surrogate pair in jsonb; JSON has both. */
const storableText = (text: string): string => (text.includes('\0') ? text.replaceAll('\0', '\ufffd') : text);

function storableJson(value: unknown): string {
  const json = JSON.stringify(value);
  // A backslash before "u0000" in the text itself looks alike; that costs one superfluous pass.
  return /\\u(0000|d[89a-f])/.test(json) ? JSON.stringify(value, replaceUnstorable) : json;
}

function replaceUnstorable(_: string, value: unknown): unknown {
  const clean = (text: string) => text.replace(/\0|\p{Surrogate}/gu, '\ufffd');
  if (typeof value === 'string') return clean(value);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [clean(key), inner]));
}
