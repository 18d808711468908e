/** How a field's value lies in a message (https://protobuf.dev/programming-guides/encoding/). */
const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;

/** Beyond this a varint of 7 bytes is no longer exact as a number once another one is added. */
const EXACT_BYTES = 7;
const MAX_VARINT_BYTES = 10;

/**
 * Goes through one protobuf message and the messages within it, without copying.
 *
 * Written because the client's google-protobuf takes several times as long for the two messages that are sent and
 * received for every event; all others are left to it.
 */
export class ProtobufReader {
  readonly #bytes: Buffer;
  #at = 0;
  #wireType = VARINT;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** The number of the next field of the message that ends at `end`; 0 when there is none. */
  next(end: number): number {
    if (this.#at >= end) return 0;
    const tag = this.number();
    this.#wireType = tag & 7;
    return tag >>> 3;
  }

  /** Where the message that is this field's value ends; what `next` gives up to there belongs to it. */
  message(): number {
    const length = this.number();
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new Error('the event store sent a message that is cut off');
    return end;
  }

  bytes(): Buffer {
    const end = this.message();
    const start = this.#at;
    this.#at = end;
    return this.#bytes.subarray(start, end);
  }

  text(): string {
    const end = this.message();
    const start = this.#at;
    this.#at = end;
    return this.#bytes.toString('utf8', start, end);
  }

  /** Exact up to 2^53. */
  number(): number {
    const bytes = this.#bytes;
    let byte = bytes[this.#at++] as number;
    if (byte < 128) return byte;
    let value = byte & 127;
    for (let factor = 128, count = 1; count < MAX_VARINT_BYTES; factor *= 128, count++) {
      byte = bytes[this.#at++] as number;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
    throw new Error('the event store sent a number that does not end');
  }

  bigint(): bigint {
    const start = this.#at;
    const value = this.number();
    if (this.#at - start <= EXACT_BYTES) return BigInt(value);
    let exact = 0n;
    for (let at = this.#at - 1; at >= start; at--) exact = (exact << 7n) | BigInt((this.#bytes[at] as number) & 127);
    return BigInt.asUintN(64, exact);
  }

  skip(): void {
    if (this.#wireType === VARINT) this.number();
    else if (this.#wireType === LENGTH_DELIMITED) this.#at = this.message();
    else if (this.#wireType === FIXED64) this.#at += 8;
    else if (this.#wireType === FIXED32) this.#at += 4;
    else throw new Error(`the event store sent a field of the unknown wire type ${this.#wireType}`);
  }
}

/** Writes one message into memory whose size is known beforehand. */
export class ProtobufWriter {
  readonly #bytes: Buffer;
  #at = 0;

  /** @param room at least the bytes that will be written */
  constructor(room: number) {
    this.#bytes = Buffer.allocUnsafe(room);
  }

  /** Begins a field of `length` bytes; the caller writes these next. */
  begin(field: number, length: number): void {
    this.#varint((field << 3) | LENGTH_DELIMITED);
    this.#varint(length);
  }

  text(field: number, text: string, length: number): void {
    this.begin(field, length);
    this.#at += this.#bytes.write(text, this.#at, length, 'utf8');
  }

  uint(field: number, value: number): void {
    this.#varint((field << 3) | VARINT);
    this.#varint(value);
  }

  /** Fields that were encoded before. */
  raw(bytes: Buffer): void {
    this.#at += bytes.copy(this.#bytes, this.#at);
  }

  end(): Buffer {
    return this.#bytes.subarray(0, this.#at);
  }

  #varint(value: number): void {
    let rest = value;
    while (rest >= 128) {
      this.#bytes[this.#at++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    this.#bytes[this.#at++] = rest;
  }
}

/** Bytes of a field whose value has `length` bytes; field numbers up to 15. */
export const sizeOfField = (length: number): number => 1 + sizeOfVarint(length) + length;

export function sizeOfVarint(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) size++;
  return size;
}
