import { createHmac } from 'node:crypto';

/** Signatures of Standard Webhooks 1.0 (https://github.com/standard-webhooks/standard-webhooks, spec, "Signature scheme"). */

export interface SigningKey {
  readonly key: Buffer;
  /** The key signs before this point in time only (milliseconds since 1970). */
  readonly untilMs: number;
}

/**
 * The bytes of a secret, `whsec_` and base64 or base64 alone, as the `standardwebhooks` libraries decode it; undefined
 * when they could not, or when it is not the 24 to 64 bytes that the specification asks for.
 */
export function decodeSecret(text: string): Buffer | undefined {
  const base64 = text.replace(/^whsec_/, '');
  if (base64.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) return undefined;
  const key = Buffer.from(base64, 'base64');
  return key.length >= 24 && key.length <= 64 ? key : undefined;
}

/**
 * The value of `webhook-signature`: one signature for each key in force, space separated, so that a receiver may know
 * either of them while a secret is being changed. `seconds` is the value of `webhook-timestamp`.
 */
export function signatures(keys: readonly SigningKey[], id: string, seconds: string, body: Buffer, now: Date): string {
  return keys
    .filter(({ untilMs }) => now.getTime() < untilMs)
    .map(({ key }) => `v1,${createHmac('sha256', key).update(`${id}.${seconds}.`).update(body).digest('base64')}`)
    .join(' ');
}
