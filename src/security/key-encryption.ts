import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
export const KEY_BYTES = 32;

/** A key that lies in the database, and the version of the key-encryption key that opens it. */
export interface WrappedKey {
  readonly version: number;
  readonly wrapped: Buffer;
}

/** The key-encryption keys are not the ones that something was wrapped with. */
export class WrongKeyRing extends Error {
  override name = 'WrongKeyRing';
}

/**
 * Key-encryption keys by version; the newest wraps, all unwrap. AES-256-GCM with a random nonce, bound to the name of
 * what is wrapped: good for 2^32 keys in one version.
 */
export class KeyEncryption {
  readonly #keys: ReadonlyMap<number, Buffer>;
  readonly current: number;

  /** @param keys of 32 bytes each, at least one */
  constructor(keys: ReadonlyMap<number, Buffer>) {
    if (keys.size === 0) throw new Error('there is no key-encryption key');
    this.#keys = keys;
    this.current = Math.max(...keys.keys());
  }

  has(version: number): boolean {
    return this.#keys.has(version);
  }

  wrap(name: string, key: Buffer): WrappedKey {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.#keys.get(this.current) as Buffer, nonce);
    cipher.setAAD(Buffer.from(name));
    const wrapped = Buffer.concat([nonce, cipher.update(key), cipher.final(), cipher.getAuthTag()]);
    return { version: this.current, wrapped };
  }

  /** @throws WrongKeyRing */
  unwrap(name: string, { version, wrapped }: WrappedKey): Buffer {
    const key = this.#keys.get(version);
    if (!key) throw new WrongKeyRing(`the key ring has no version ${version}`);
    const end = wrapped.length - TAG_BYTES;
    try {
      const decipher = createDecipheriv('aes-256-gcm', key, wrapped.subarray(0, NONCE_BYTES), {
        authTagLength: TAG_BYTES,
      });
      decipher.setAAD(Buffer.from(name));
      decipher.setAuthTag(wrapped.subarray(end));
      return Buffer.concat([decipher.update(wrapped.subarray(NONCE_BYTES, end)), decipher.final()]);
    } catch {
      throw new WrongKeyRing(`version ${version} of the key ring is not the one that ${name} was wrapped with`);
    }
  }
}
