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
  uuid: { oid: 2950, write: (out: BinaryArray, value: string) => out.uuid(value) },
  text: { oid: 25, write: (out: BinaryArray, value: string) => out.text(value) },
  jsonb: { oid: 3802, write: (out: BinaryArray, value: unknown) => out.jsonb(storableJson(value)) },
  boolean: { oid: 16, write: (out: BinaryArray, value: boolean) => out.byte(value ? 1 : 0) },
  integer: { oid: 23, write: (out: BinaryArray, value: number) => out.int32(value) },
  bigint: { oid: 20, write: (out: BinaryArray, value: number | bigint) => out.int64(value) },
  timestamptz: {
    oid: 1184,
    write: (out: BinaryArray, value: string) => out.int64((Date.parse(value) - POSTGRES_EPOCH_MS) * 1_000),
  },
};

const HIGH = 2 ** 32;
/** Texts up to this length are written faster here than by a call into Buffer. */
const SHORT = 64;
const DASHES = [8, 13, 18, 23];
const DASH = 45;
/** Where the two digits of each byte of a uuid stand. */
const UUID_DIGITS = Array.from({ length: 36 }, (_, at) => at).filter((at) => !DASHES.includes(at));

/** The value of a hexadecimal digit, or a number that is none. */
const digit = (code: number): number => {
  if (code >= 48 && code <= 57) return code - 48;
  const letter = code | 32;
  return letter >= 97 && letter <= 102 ? letter - 87 : Number.NaN;
};

/** One-dimensional array in the format of Postgres' array_recv. */
class BinaryArray {
  #bytes: Buffer;
  #end = 20;

  constructor(elementOid: number, length: number) {
    this.#bytes = Buffer.allocUnsafe(20 + length * 24);
    for (const [index, word] of [1, 1, elementOid, length, 1].entries()) this.#word(index * 4, word);
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
    let valid = value.length === 36 && DASHES.every((dash) => value.charCodeAt(dash) === DASH);
    for (let index = 0; index < 16; index++) {
      const high = digit(value.charCodeAt(UUID_DIGITS[2 * index] as number));
      const low = digit(value.charCodeAt(UUID_DIGITS[2 * index + 1] as number));
      if (Number.isNaN(high + low)) valid = false;
      this.#bytes[at + index] = high * 16 + low;
    }
    if (!valid) throw new Error(`${JSON.stringify(value)} is not a uuid`);
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
    if (at + bytes > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(at + bytes, this.#bytes.length * 2));
      this.#bytes.copy(larger, 0, 0, this.#end);
      this.#bytes = larger;
    }
    this.#word(this.#end, length);
    this.#end = at + bytes;
    return at;
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
