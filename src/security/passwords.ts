import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';

/** Passwords of links, by scrypt (RFC 7914): 32 MiB and about 0.1 s for each guess. Beside the event loop. */
const OPTIONS = { N: 32_768, r: 8, p: 1, maxmem: 64 * 1_024 * 1_024 } as const;
const BYTES = 32;
/** At once; the memory is theirs while they run. */
const AT_ONCE = 2;
/** More than that wait too long to be worth it. */
const MAX_WAITING = 32;

export interface HashedPassword {
  readonly salt: string;
  readonly hash: string;
}

export class TooManyPasswords extends Error {
  override name = 'TooManyPasswords';
}

export class Passwords {
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  async hash(password: string): Promise<HashedPassword> {
    const salt = randomBytes(16);
    return { salt: salt.toString('base64'), hash: (await this.#derive(password, salt)).toString('base64') };
  }

  /** @throws TooManyPasswords when too many are being looked at */
  async matches(password: string, { salt, hash }: HashedPassword): Promise<boolean> {
    return timingSafeEqual(await this.#derive(password, Buffer.from(salt, 'base64')), Buffer.from(hash, 'base64'));
  }

  async #derive(password: string, salt: Buffer): Promise<Buffer> {
    if (this.#waiting.length >= MAX_WAITING) throw new TooManyPasswords('too many passwords are being checked');
    if (this.#running >= AT_ONCE) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running += 1;
    try {
      return await new Promise<Buffer>((resolve, reject) =>
        scrypt(password.normalize('NFKC'), salt, BYTES, OPTIONS, (error, key) =>
          error ? reject(error) : resolve(key),
        ),
      );
    } finally {
      const next = this.#waiting.shift();
      // The turn is handed on, or given back.
      if (next) next();
      else this.#running -= 1;
    }
  }
}
