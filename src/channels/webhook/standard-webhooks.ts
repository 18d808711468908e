import { createHmac, createPrivateKey, createPublicKey, type KeyObject, randomBytes, sign } from 'node:crypto';

/**
 * Signatures of Standard Webhooks 1.0 (https://github.com/standard-webhooks/standard-webhooks, spec, "Signature scheme"):
 * `v1` is HMAC-SHA256 under a secret that both sides know, `v1a` is ed25519, where the receiver has the public key alone.
 */

export const SIGNATURES = ['hmac-sha256', 'ed25519'] as const;
export type Signature = (typeof SIGNATURES)[number];

export interface SigningKey {
  /** Of HMAC the secret bytes, of ed25519 the private key. */
  readonly key: Buffer | KeyObject;
  /** The key signs before this point in time only (milliseconds since 1970). */
  readonly untilMs: number;
}

/** RFC 8410, 7: everything of a private and of a public ed25519 key in DER that stands before its 32 bytes. */
const PRIVATE_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');
const PUBLIC_PREFIX_BYTES = 12;
const KEY_BYTES = 32;

/**
 * The key of a secret. `whsec_` and base64, or base64 alone, are the 24 to 64 bytes of a secret, as the
 * `standardwebhooks` libraries decode it; `whsk_` is an ed25519 key: the 32 bytes of the seed, or these with the 32 of the
 * public key after them. Undefined for anything else.
 */
export function decodeSecret(text: string): Buffer | KeyObject | undefined {
  const bytes = text.startsWith('whsk_') ? bytesOf(text.slice('whsk_'.length)) : undefined;
  return bytes ? privateKey(bytes) : sharedSecret(text);
}

/** The same for a secret of HMAC alone. */
export function sharedSecret(text: string): Buffer | undefined {
  const bytes = bytesOf(text.replace(/^whsec_/, ''));
  return bytes && bytes.length >= 24 && bytes.length <= 64 ? bytes : undefined;
}

const bytesOf = (base64: string): Buffer | undefined =>
  base64.length % 4 === 0 && /^[A-Za-z0-9+/]+={0,2}$/.test(base64) ? Buffer.from(base64, 'base64') : undefined;

function privateKey(bytes: Buffer): KeyObject | undefined {
  if (bytes.length !== KEY_BYTES && bytes.length !== 2 * KEY_BYTES) return undefined;
  const der = Buffer.concat([PRIVATE_PREFIX, bytes.subarray(0, KEY_BYTES)]);
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  const given = bytes.subarray(KEY_BYTES);
  return given.length === 0 || given.equals(publicBytes(key)) ? key : undefined;
}

const publicBytes = (key: KeyObject): Buffer =>
  createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(PUBLIC_PREFIX_BYTES);

/** `whpk_…`, what receivers check the signatures of a `whsk_` key with; undefined for secrets that have no public half. */
export function publicKeyOf(secret: string): string | undefined {
  const key = secret.startsWith('whsk_') ? decodeSecret(secret) : undefined;
  return key === undefined || Buffer.isBuffer(key) ? undefined : `whpk_${publicBytes(key).toString('base64')}`;
}

export function newSecret(signature: Signature): string {
  return `${signature === 'ed25519' ? 'whsk' : 'whsec'}_${randomBytes(KEY_BYTES).toString('base64')}`;
}

/**
 * The value of `webhook-signature`: one signature for each key in force, space separated, so that a receiver may know
 * either of them while a secret is being changed. `seconds` is the value of `webhook-timestamp`.
 */
export function signatures(keys: readonly SigningKey[], id: string, seconds: string, body: Buffer, now: Date): string {
  const head = `${id}.${seconds}.`;
  return keys
    .filter(({ untilMs }) => now.getTime() < untilMs)
    .map(({ key }) =>
      Buffer.isBuffer(key)
        ? `v1,${createHmac('sha256', key).update(head).update(body).digest('base64')}`
        : `v1a,${sign(null, Buffer.concat([Buffer.from(head), body]), key).toString('base64')}`,
    )
    .join(' ');
}
