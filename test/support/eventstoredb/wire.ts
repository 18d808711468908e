/** How a field's value lies in a message (https://protobuf.dev/programming-guides/encoding/). */
const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;

/** Reads one protobuf message, field by field; what is not asked for is skipped. */
export class Reader {
  readonly #bytes: Buffer;
  readonly #end: number;
  #at: number;
  #wire = VARINT;

  constructor(bytes: Buffer, start = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  /** The number of the next field, 0 after the last. */
  next(): number {
    if (this.#at >= this.#end) return 0;
    const tag = this.uint32();
    this.#wire = tag & 7;
    return tag >>> 3;
  }

  uint32(): number {
    return Number(BigInt.asUintN(32, this.uint64()));
  }

  uint64(): bigint {
    let value = 0;
    for (let shift = 1; shift <= 2 ** 42; shift *= 128) {
      const byte = this.#byte();
      value += (byte & 127) * shift;
      if (byte < 128) return BigInt(value);
    }
    let large = BigInt(value);
    for (let shift = 49n; shift <= 63n; shift += 7n) {
      const byte = this.#byte();
      large |= BigInt(byte & 127) << shift;
      if (byte < 128) return BigInt.asUintN(64, large);
    }
    throw new WireError('a number has more than ten bytes');
  }

  int64(): bigint {
    return BigInt.asIntN(64, this.uint64());
  }

  bool(): boolean {
    return this.uint64() !== 0n;
  }

  /** A view of the message's own memory. */
  bytes(): Buffer {
    const start = this.#length();
    return this.#bytes.subarray(start, this.#at);
  }

  string(): string {
    const start = this.#length();
    return this.#bytes.toString('utf8', start, this.#at);
  }

  message(): Reader {
    const start = this.#length();
    return new Reader(this.#bytes, start, this.#at);
  }

  skip(): void {
    if (this.#wire === VARINT) this.uint64();
    else if (this.#wire === FIXED64) this.#move(8);
    else if (this.#wire === LENGTH_DELIMITED) this.#length();
    else if (this.#wire === FIXED32) this.#move(4);
    else throw new WireError(`a field has the unknown wire type ${this.#wire}`);
  }

  /** Goes past a length and what has it; the answer is where that starts. */
  #length(): number {
    if (this.#wire !== LENGTH_DELIMITED) throw new WireError('a field is not of the type it should have');
    const length = Number(this.uint64());
    const start = this.#at;
    this.#move(length);
    return start;
  }

  #byte(): number {
    if (this.#at >= this.#end) throw new WireError('a message ends within a field');
    return this.#bytes[this.#at++] as number;
  }

  #move(length: number): void {
    if (length > this.#end - this.#at) throw new WireError('a message ends within a field');
    this.#at += length;
  }
}

export class WireError extends Error {
  override name = 'WireError';
}

/** Writes one protobuf message after the other into memory that it keeps. */
export class Writer {
  #buffer = Buffer.allocUnsafe(64 * 1024);
  #at = 0;

  uint(field: number, value: number | bigint): void {
    this.#tag(field, VARINT);
    this.#varint(value);
  }

  int64(field: number, value: bigint): void {
    this.uint(field, BigInt.asUintN(64, value));
  }

  string(field: number, text: string): void {
    // A character of UTF-16 has at most three bytes in UTF-8.
    this.message(
      field,
      () => {
        this.#reserve(text.length * 3);
        this.#at += this.#buffer.write(text, this.#at, 'utf8');
      },
      text.length,
    );
  }

  bytes(field: number, bytes: Buffer): void {
    this.#tag(field, LENGTH_DELIMITED);
    this.#varint(bytes.length);
    this.#reserve(bytes.length);
    this.#at += bytes.copy(this.#buffer, this.#at);
  }

  empty(field: number): void {
    this.#tag(field, LENGTH_DELIMITED);
    this.#varint(0);
  }

  /** @param likely its length, when known: a good guess saves moving the message once it is written */
  message(field: number, write: () => void, likely = 0): void {
    this.#tag(field, LENGTH_DELIMITED);
    const prefix = sizeOfVarint(likely);
    this.#reserve(prefix);
    const start = this.#at + prefix;
    this.#at = start;
    write();
    const length = this.#at - start;
    const moved = sizeOfVarint(length) - prefix;
    if (moved !== 0) {
      this.#reserve(moved);
      this.#buffer.copyWithin(start + moved, start, start + length);
    }
    this.#at = start - prefix;
    this.#varint(length);
    this.#at += length;
  }

  /** The message written since the last time, in memory of its own. */
  finish(): Buffer {
    const message = Buffer.from(this.#buffer.subarray(0, this.#at));
    this.#at = 0;
    if (this.#buffer.length > KEPT_BYTES) this.#buffer = Buffer.allocUnsafe(KEPT_BYTES);
    return message;
  }

  #tag(field: number, wire: number): void {
    this.#varint(field * 8 + wire);
  }

  #varint(value: number | bigint): void {
    this.#reserve(10);
    let rest = value;
    if (typeof rest === 'bigint' && rest <= Number.MAX_SAFE_INTEGER) rest = Number(rest);
    while (rest >= 128) {
      const low = typeof rest === 'bigint' ? Number(rest & 127n) : rest % 128;
      this.#buffer[this.#at++] = low | 128;
      rest = typeof rest === 'bigint' ? rest >> 7n : Math.floor(rest / 128);
    }
    this.#buffer[this.#at++] = Number(rest);
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#at + bytes, this.#buffer.length * 2));
    this.#buffer.copy(larger, 0, 0, this.#at);
    this.#buffer = larger;
  }
}

/** After a larger message the memory is given back. */
const KEPT_BYTES = 1024 * 1024;

function sizeOfVarint(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) size++;
  return size;
}
