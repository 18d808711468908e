/** UUIDs (RFC 9562) made into bytes, which is done several times for each delivery. */

const LENGTH = 36;
const DASHES = [8, 13, 18, 23];
const DASH = 45;
/** Where the two digits of each byte stand. */
const DIGITS = Array.from({ length: LENGTH }, (_, at) => at).filter((at) => !DASHES.includes(at));

/**
 * Writes the 16 bytes of a UUID.
 *
 * @returns whether it was one; if not, what was written is of no use
 */
export function writeUuid(text: string, bytes: Uint8Array, at: number): boolean {
  let isOne = text.length === LENGTH && DASHES.every((dash) => text.charCodeAt(dash) === DASH);
  for (let index = 0; index < 16; index++) {
    const high = hexDigit(text.charCodeAt(DIGITS[2 * index] as number));
    const low = hexDigit(text.charCodeAt(DIGITS[2 * index + 1] as number));
    if (Number.isNaN(high + low)) isOne = false;
    bytes[at + index] = high * 16 + low;
  }
  return isOne;
}

/** The value of a hexadecimal digit by its code, or a number that is none. */
export function hexDigit(code: number): number {
  if (code >= 48 && code <= 57) return code - 48;
  const letter = code | 32;
  return letter >= 97 && letter <= 102 ? letter - 87 : Number.NaN;
}
