import { createHash, timingSafeEqual } from 'node:crypto';
import type { Organizations } from '../domain/vocabulary.js';

/** Who is calling and what they may touch. Every resolver, query and command gets it; none asks for credentials. */
export interface Principal {
  /** As recorded with everything they do, and as named in approvals. No personal data. */
  readonly actor: string;
  readonly organizations: Organizations;
}

/** Turns credentials into a principal. One key exists so far: the administrator's, which spans organizations. */
export class Authenticator {
  readonly #adminKeyHash: Buffer;

  constructor(adminKey: string) {
    this.#adminKeyHash = hash(adminKey);
  }

  /** @param authorization the value of the `authorization` header; undefined when there was none */
  authenticate(authorization: string | undefined): Principal | undefined {
    const key = /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
    // Hashes are compared, so that neither the key's length nor its first characters show in the time this takes.
    if (key === undefined || !timingSafeEqual(hash(key), this.#adminKeyHash)) return undefined;
    return admin;
  }
}

const admin: Principal = { actor: 'admin', organizations: 'all' };

const hash = (text: string): Buffer => createHash('sha256').update(text, 'utf8').digest();
