import { createCipheriv, createDecipheriv, hash, randomFillSync } from 'node:crypto';
import type { JsonObject } from '../domain/vocabulary.js';
import type { EventPlace, FieldProtection, Subject } from './codec.js';
import { leaveClosed, putBack, takeOut } from './sensitive.js';

/** One key of one data subject. */
export interface DataKey {
  readonly id: string;
  readonly subject: string;
  /** 32 bytes. */
  readonly key: Buffer;
}

/** The keys that are at hand, and the way to those that are not. */
export interface DataKeys {
  ofSubject(subject: string): DataKey | undefined;
  /** `destroyed` when it never can be had again; undefined when it is not at hand. */
  byId(id: string): DataKey | 'destroyed' | undefined;
  /** Gets keys at hand, makes those that do not exist; undefined when all are. */
  prepare(subjects: readonly Subject[]): Promise<void> | undefined;
  /** Gets keys at hand; undefined when all are. */
  load(ids: readonly string[]): Promise<void> | undefined;
}

/** How the sensitive part of an event lies in the log: the key's id, and nonce, ciphertext and tag in base64. */
interface SealedPart {
  readonly key: string;
  readonly value: string;
}

export const sealedParts = (data: JsonObject): readonly SealedPart[] | undefined =>
  data.sealed as unknown as readonly SealedPart[] | undefined;

/** The key of an event is not at hand, and nobody has said that it was destroyed. */
export class KeyMissing extends Error {
  override name = 'KeyMissing';
}

const CIPHER = 'aes-256-gcm';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEY_BYTES = 32;

/**
 * Seals what is sensitive in events with AES-256-GCM (NIST SP 800-38D), one ciphertext for all fields of one subject:
 * their names are in it, and stream, event id and key id are its additional data, so none can be moved elsewhere.
 *
 * Each event has a key of its own, made of the subject's key and the event's id by the one-step function of NIST
 * SP 800-56C with SHA-256. A random nonce of 96 bits is good for 2^32 messages under one key, which a busy
 * destination reaches within days; with a key per event there is no such bound.
 */
export class SealedFields implements FieldProtection {
  readonly #keys: DataKeys;

  constructor(keys: DataKeys) {
    this.#keys = keys;
  }

  prepare(subjects: readonly Subject[]): Promise<void> | undefined {
    return this.#keys.prepare(subjects);
  }

  seal(type: string, data: JsonObject, { streamId, eventId, subject }: EventPlace): JsonObject {
    const taken = takeOut(type, data, subject);
    if (!taken) return data;
    const sealed = taken.parts.map(({ subject, fields }): SealedPart => {
      const key = this.#keys.ofSubject(subject);
      if (!key) throw new KeyMissing(`the key of ${subject} is not at hand`);
      return { key: key.id, value: encrypt(key, streamId, eventId, JSON.stringify(fields)) };
    });
    return Remembered.on({ ...taken.clear, sealed } as unknown as JsonObject, data);
  }

  /** @throws KeyMissing; Error when it was tampered with */
  open(type: string, data: JsonObject, { streamId, eventId }: EventPlace): JsonObject {
    const sealed = sealedParts(data);
    if (!sealed) return data;
    const remembered = Remembered.of(data);
    if (remembered && sealed.every(({ key }) => typeof this.#keys.byId(key) === 'object')) return remembered;
    return putBack(
      type,
      data,
      sealed.map(({ key: id, value }) => {
        const key = this.#keys.byId(id);
        if (key === 'destroyed') return undefined;
        if (!key) throw new KeyMissing(`the key ${id} is not at hand`);
        return JSON.parse(decrypt(key, streamId, eventId, value)) as JsonObject;
      }),
    );
  }
}

/** For whoever needs nothing sensitive, such as read models: opens nothing and has no keys. */
export const closedFields: FieldProtection = {
  prepare: () => undefined,
  seal() {
    throw new Error('there are no keys here to seal anything with');
  },
  open(type, data, { streamId, eventId }) {
    const sealed = sealedParts(data);
    if (!sealed) return data;
    return leaveClosed(type, data, (part) => {
      const { key, value } = sealed[part] as SealedPart;
      return `${TOKEN}${key}:${streamId}:${eventId}:${value}`;
    });
  },
};

/** In a read model it stands for one part of an event. */
const TOKEN = 'sealed:1:';

/** What read models hold sealed, opened for whoever asks them. */
export class SealedTokens {
  readonly #keys: DataKeys;

  constructor(keys: DataKeys) {
    this.#keys = keys;
  }

  isToken(text: string): boolean {
    return text.startsWith(TOKEN);
  }

  /** The fields that each stands for; undefined where the key was destroyed. @throws KeyMissing */
  async open(tokens: readonly string[]): Promise<(JsonObject | undefined)[]> {
    const parts = tokens.map((token) => token.slice(TOKEN.length).split(':'));
    await this.#keys.load(parts.map(([id = '']) => id));
    return parts.map(([id = '', streamId = '', eventId = '', value = '']) => {
      const key = this.#keys.byId(id);
      if (key === 'destroyed') return undefined;
      if (!key) throw new KeyMissing(`the key ${id} is not at hand`);
      return JSON.parse(decrypt(key, streamId, eventId, value)) as JsonObject;
    });
  }
}

const aad = (key: DataKey, streamId: string, eventId: string): Buffer =>
  Buffer.from(`${streamId}\n${eventId}\n${key.id}`);

function encrypt(key: DataKey, streamId: string, eventId: string, text: string): string {
  const nonce = nextNonce();
  const cipher = createCipheriv(CIPHER, eventKey(key.key, eventId), nonce);
  cipher.setAAD(aad(key, streamId, eventId));
  const body = cipher.update(text, 'utf8');
  cipher.final();
  return Buffer.concat([nonce, body, cipher.getAuthTag()]).toString('base64');
}

function decrypt(key: DataKey, streamId: string, eventId: string, value: string): string {
  const bytes = Buffer.from(value, 'base64');
  const end = bytes.length - TAG_BYTES;
  if (end < NONCE_BYTES) throw new Error('what is sealed is too short');
  const decipher = createDecipheriv(CIPHER, eventKey(key.key, eventId), bytes.subarray(0, NONCE_BYTES), {
    authTagLength: TAG_BYTES,
  });
  decipher.setAAD(aad(key, streamId, eventId));
  decipher.setAuthTag(bytes.subarray(end));
  return Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES, end)), decipher.final()]).toString('utf8');
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

/** Makes what it is given: a class on top of it can put private fields on any object. */
const Given = function given(object: object) {
  return object;
} as unknown as new (
  object: object,
) => object;

/**
 * What was sealed here a moment ago is read here next, by the engine, and need not be decrypted for it. It hangs on the
 * sealed data as a private field: no JSON, log or debugger output has it, and it goes when the event does.
 */
class Remembered extends Given {
  #plain: JsonObject;

  private constructor(sealed: JsonObject, plain: JsonObject) {
    super(sealed);
    this.#plain = plain;
  }

  static on(sealed: JsonObject, plain: JsonObject): JsonObject {
    return new Remembered(sealed, plain) as unknown as JsonObject;
  }

  static of(data: object): JsonObject | undefined {
    return #plain in data ? (data as Remembered).#plain : undefined;
  }
}
