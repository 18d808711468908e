import { randomBytes } from 'node:crypto';
import type { Subject } from '../../src/event-store/codec.js';
import type { DataKey } from '../../src/event-store/event-cipher.js';
import type { DataKeys } from '../../src/event-store/sealed-fields.js';

/** Data keys in memory, which can be destroyed. */
export class MemoryKeys implements DataKeys {
  readonly #keys = new Map<string, DataKey | 'destroyed'>();
  readonly #bySubject = new Map<string, DataKey>();

  ofSubject(subject: string): DataKey | undefined {
    return this.#bySubject.get(subject);
  }

  byId(id: string): DataKey | 'destroyed' | undefined {
    return this.#keys.get(id);
  }

  prepare(subjects: readonly Subject[]): undefined {
    for (const { subject } of subjects) {
      if (this.#bySubject.has(subject)) continue;
      const key = { id: randomBytes(16).toString('base64url'), subject, key: randomBytes(32) };
      this.#bySubject.set(subject, key);
      this.#keys.set(key.id, key);
    }
  }

  load(): undefined {}

  destroy(subject: string): void {
    const key = this.#bySubject.get(subject);
    if (!key) throw new Error(`${subject} has no key`);
    this.#bySubject.delete(subject);
    this.#keys.set(key.id, 'destroyed');
  }

  /** As in another process, which has not been told of them. */
  forgetAll(): void {
    this.#keys.clear();
  }
}

/** The text of a key ring with one key, for WAYBILL_KEY_RING. */
export const newKeyRing = (): string => {
  const key = { version: 1, created: new Date().toISOString(), key: randomBytes(32).toString('base64') };
  return JSON.stringify({ format: 1, keys: [key] });
};
