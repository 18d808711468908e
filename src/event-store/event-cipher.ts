import { createCipheriv, createDecipheriv, hash, randomFillSync } from 'node:crypto';

/** One key of one data subject. */
export interface DataKey {
  readonly id: string;
  readonly subject: string;
  /** 32 bytes. */
  readonly key: Buffer;
}

const CIPHER = 'aes-256-gcm';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEY_BYTES = 32;
/** What a ciphertext is longer than what it hides. */
export const SEAL_BYTES = NONCE_BYTES + TAG_BYTES;

/** What a ciphertext is bound to: its stream, what it is of there, and its key. */
export const aad = (key: DataKey, streamId: string, eventId: string): Buffer =>
  Buffer.from(`${streamId}\n${eventId}\n${key.id}`);

export function encrypt(key: DataKey, streamId: string, eventId: string, text: string): string {
  const nonce = nextNonce();
  const cipher = createCipheriv(CIPHER, eventKey(key.key, eventId), nonce);
  cipher.setAAD(aad(key, streamId, eventId));
  const body = cipher.update(text, 'utf8');
  cipher.final();
  return Buffer.concat([nonce, body, cipher.getAuthTag()]).toString('base64');
}

export const decrypt = (key: DataKey, streamId: string, eventId: string, value: string): string =>
  decryptBytes(eventKey(key.key, eventId), aad(key, streamId, eventId), Buffer.from(value, 'base64')).toString('utf8');

/** @throws Error when it was tampered with */
export function decryptBytes(key: Buffer, aad: Buffer, bytes: Buffer): Buffer {
  const end = bytes.length - TAG_BYTES;
  if (end < NONCE_BYTES) throw new Error('what is sealed is too short');
  const decipher = createDecipheriv(CIPHER, key, bytes.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
  decipher.setAAD(aad);
  decipher.setAuthTag(bytes.subarray(end));
  return Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES, end)), decipher.final()]);
}

/** Counter 1, the subject's key, the event's id. Always the same bytes in the same places, so one buffer will do. */
const input = Buffer.alloc(4 + KEY_BYTES + 36);
input.writeUInt32BE(1, 0);

function eventKey(key: Buffer, eventId: string): Buffer {
  key.copy(input, 4);
  input.fill(0, 4 + KEY_BYTES);
  input.write(eventId, 4 + KEY_BYTES, 'latin1');
  return hash('sha256', input, 'buffer');
}

/** Random bytes are cheap in bulk; never used twice. */
const nonces = Buffer.alloc(NONCE_BYTES * 512);
let nextAt = nonces.length;

function nextNonce(): Buffer {
  if (nextAt === nonces.length) {
    randomFillSync(nonces);
    nextAt = 0;
  }
  const nonce = nonces.subarray(nextAt, nextAt + NONCE_BYTES);
  nextAt += NONCE_BYTES;
  return nonce;
}
