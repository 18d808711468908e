import { hash, randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';

/**
 * API keys as text: `wbl_<id>_<secret><checksum>`, letters and digits only between the underscores, so that a double
 * click selects the parts and scanners for leaked secrets find them: `wbl_[0-9A-Za-z]{31}_[0-9A-Za-z]{49}`.
 *
 * The id (31 characters, no secret) says where the key is recorded: the stream of the organization (16 bytes) and the key
 * in it. The secret has 256 bits of randomness, which is why one SHA-256 is all the hashing it needs. The checksum
 * (CRC-32 of all before it) tells a mistyped key, or a guess, from a key without asking anybody.
 */
export interface ParsedApiKey {
  readonly id: string;
  /** UUID of the stream that has the organization's keys. */
  readonly streamId: string;
  readonly keyId: string;
  /** SHA-256 of the whole key, base64url: what is recorded and compared. */
  readonly hash: string;
}

const PREFIX = 'wbl_';
const STREAM_CHARACTERS = 22;
const KEY_CHARACTERS = 9;
const SECRET_CHARACTERS = 43;
const CHECKSUM_CHARACTERS = 6;
const ID = new RegExp(`^[0-9A-Za-z]{${STREAM_CHARACTERS + KEY_CHARACTERS}}$`);
const KEY = new RegExp(
  `^${PREFIX}[0-9A-Za-z]{${STREAM_CHARACTERS + KEY_CHARACTERS}}_[0-9A-Za-z]{${SECRET_CHARACTERS + CHECKSUM_CHARACTERS}}$`,
);

export const looksLikeApiKey = (text: string): boolean => text.startsWith(PREFIX);

/** What people see of a key: enough to tell it from others. */
export const prefixOf = (id: string): string => PREFIX + id;

export const idOf = (streamId: string, keyId: string): string =>
  base62(Buffer.from(streamId.replaceAll('-', ''), 'hex'), STREAM_CHARACTERS) + keyId;

/** @param id of the key, when it gets another secret; @param streamId a UUID, when it is a new key */
export function newApiKey(whose: { readonly id: string } | { readonly streamId: string }) {
  const id = 'id' in whose ? whose.id : idOf(whose.streamId, base62(randomBytes(6), KEY_CHARACTERS));
  const unchecked = `${PREFIX}${id}_${base62(randomBytes(32), SECRET_CHARACTERS)}`;
  const text = unchecked + checksum(unchecked);
  return { id, text, keyId: id.slice(STREAM_CHARACTERS), hash: hashOf(text) };
}

/** Undefined for what is no key, whoever made it. */
export function parseApiKey(text: string): ParsedApiKey | undefined {
  if (!KEY.test(text)) return undefined;
  const end = text.length - CHECKSUM_CHARACTERS;
  if (checksum(text.slice(0, end)) !== text.slice(end)) return undefined;
  const place = placeOf(text.slice(PREFIX.length, PREFIX.length + STREAM_CHARACTERS + KEY_CHARACTERS));
  return place && { ...place, hash: hashOf(text) };
}

/** Where a key is recorded, by its id; undefined for what cannot be one. */
export function placeOf(id: string): Omit<ParsedApiKey, 'hash'> | undefined {
  if (!ID.test(id)) return undefined;
  const hex = numberOf(id.slice(0, STREAM_CHARACTERS)).toString(16).padStart(32, '0');
  if (hex.length > 32) return undefined;
  const parts = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)];
  return { id, streamId: parts.join('-'), keyId: id.slice(STREAM_CHARACTERS) };
}

const hashOf = (text: string): string => hash('sha256', text, 'base64url');

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

const checksum = (text: string): string => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc32(text));
  return base62(bytes, CHECKSUM_CHARACTERS);
};

/** The bytes as one number, its digits filled up with zeros to a fixed length. */
function base62(bytes: Buffer, length: number): string {
  let number = BigInt(`0x${bytes.toString('hex')}`);
  let text = '';
  while (text.length < length) {
    text = DIGITS[Number(number % 62n)] + text;
    number /= 62n;
  }
  return text;
}

const numberOf = (text: string): bigint => {
  let number = 0n;
  for (const digit of text) number = number * 62n + BigInt(DIGITS.indexOf(digit));
  return number;
};
