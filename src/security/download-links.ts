import { createHmac, timingSafeEqual } from 'node:crypto';

/** What a link is good for. */
export interface LinkTarget {
  readonly id: string;
  /** Index of the file. */
  readonly file: number;
  readonly expiresAt: Date;
}

const MAC_BYTES = 32;

/**
 * `/downloads/<id>/<file>?expires=<seconds since 1970>&signature=<HMAC-SHA-256, base64url>`. The signature is checked before
 * anything is looked up, so that who has no link learns nothing, not even whether there is such a download.
 */
export class DownloadLinks {
  readonly #key: Buffer;

  /** @param key 32 bytes that are used for nothing else; the same for all instances */
  constructor(key: Buffer) {
    this.#key = key;
  }

  pathOf({ id, file, expiresAt }: LinkTarget): string {
    const expires = String(Math.floor(expiresAt.getTime() / 1_000));
    return `/downloads/${id}/${file}?expires=${expires}&signature=${this.#mac(id, String(file), expires).toString('base64url')}`;
  }

  /** All as they stand in the URL. @returns undefined for what nobody here has signed */
  verified(id: string, file: string, expires: unknown, signature: unknown): LinkTarget | undefined {
    if (typeof expires !== 'string' || typeof signature !== 'string') return undefined;
    if (!/^\d{10,11}$/.test(expires) || !/^\d{1,4}$/.test(file)) return undefined;
    const given = Buffer.from(signature, 'base64url');
    if (given.length !== MAC_BYTES || !timingSafeEqual(given, this.#mac(id, file, expires))) return undefined;
    return { id, file: Number(file), expiresAt: new Date(Number(expires) * 1_000) };
  }

  #mac(...parts: readonly string[]): Buffer {
    return createHmac('sha256', this.#key).update(parts.join('\n')).digest();
  }
}
