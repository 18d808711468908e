import { createCipheriv, createDecipheriv, hash, randomFillSync } from 'node:crypto';
import type { StoredContent } from '../domain/delivery-events.js';
import type { JsonObject } from '../domain/vocabulary.js';
import type { EventPlace, FieldProtection, Subject } from './codec.js';
import { canName } from './content/content-store.js';
import type { ContentReader, NewContent } from './content/contents.js';
import { LARGE, lengthOf, putTogether, takeApart } from './content/large-content.js';
import { ContentLost } from './event-store.js';
import { type ContentReference, leaveClosed, type Part, putBack, takeOut } from './sensitive.js';

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
  readonly #contents: ContentReader | undefined;

  /** @param contents where what is large is kept; without it all is kept in the events */
  constructor(keys: DataKeys, contents?: ContentReader) {
    this.#keys = keys;
    this.#contents = contents;
  }

  prepare(subjects: readonly Subject[]): Promise<void> | undefined {
    return this.#keys.prepare(subjects);
  }

  seal(type: string, data: JsonObject, place: EventPlace): JsonObject {
    const { streamId, eventId, subject } = place;
    const taken = takeOut(type, data, subject);
    if (!taken) return data;
    const [own] = taken.parts;
    const isRequest = type === 'DeliveryRequested' && this.#contents !== undefined && canName(streamId);
    if (isRequest && lengthOf((own as Part).fields as never) > LARGE) return this.#sealLarge(data, taken, place);
    const sealed: SealedPart[] = [];
    for (const { subject, fields } of taken.parts) {
      const text = JSON.stringify(fields);
      if (isRequest && text.length > LARGE && fields === own?.fields) return this.#sealLarge(data, taken, place);
      const key = this.#keyOf(subject);
      sealed.push({ key: key.id, value: encrypt(key, streamId, eventId, text) });
    }
    return Remembered.on({ ...taken.clear, sealed } as unknown as JsonObject, data);
  }

  #keyOf(subject: string): DataKey {
    const key = this.#keys.ofSubject(subject);
    if (!key) throw new KeyMissing(`the key of ${subject} is not at hand`);
    return key;
  }

  /** Of a request the fields of its own subject are split: what is large is sealed by itself, and the event names it. */
  #sealLarge(data: JsonObject, { clear, parts }: NonNullable<ReturnType<typeof takeOut>>, place: EventPlace) {
    const { streamId, eventId } = place;
    const [own, ...others] = parts as [Part, ...Part[]];
    const key = this.#keyOf(own.subject);
    const { fields, parts: large } = takeApart(own.fields as never);
    const contents: NewContent[] = large.map(({ path, bytes }) => {
      const body = encryptContent(key, streamId, path, bytes);
      return { key: key.id, streamId, hash: hash('sha256', body), body };
    });
    const stored = contents.map(({ key, hash, body }): ContentReference => ({ key, hash, size: body.length }));
    const apart = large.map(({ path }) => path);
    const sealed = [{ subject: own.subject, fields: { ...(fields as JsonObject), apart } }, ...others].map((part) => {
      const key = this.#keyOf(part.subject);
      return { key: key.id, value: encrypt(key, streamId, eventId, JSON.stringify(part.fields)) };
    });
    const { content, personalization } = fields as { content: JsonObject; personalization?: JsonObject };
    const { personalization: _, ...rest } = data;
    const plain = {
      ...rest,
      content,
      ...(personalization && { personalization }),
      stored: stored.map((reference, index) => ({ path: apart[index] as string, ...reference })),
    };
    return Remembered.on(
      { ...clear, stored, sealed } as unknown as JsonObject,
      plain as unknown as JsonObject,
      contents,
    );
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

  complete(data: JsonObject, streamId: string): Promise<JsonObject> | undefined {
    const stored = data.stored as unknown as readonly StoredContent[] | undefined;
    return stored && this.#fetch(data, stored, streamId);
  }

  async #fetch(data: JsonObject, stored: readonly StoredContent[], streamId: string): Promise<JsonObject> {
    await this.#keys.load(stored.map(({ key }) => key));
    const parts: { path: string; bytes: Buffer }[] = [];
    for (const { path, key: id, hash, size } of stored) {
      const key = this.#keys.byId(id);
      if (key === 'destroyed') throw new ContentLost(`${path} of ${streamId} was erased`);
      if (!key) throw new KeyMissing(`the key ${id} is not at hand`);
      if (!this.#contents) throw new ContentLost(`there is no place here where ${path} of ${streamId} could be`);
      const body = await this.#contents.get({ key: id, streamId, hash }, size);
      parts.push({ path, bytes: decryptContent(key, streamId, path, body) });
    }
    return putTogether(data, parts);
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

/** What was sealed with new events, taken from them: it is to be stored before they are. */
export function takeContents(events: readonly { readonly data: JsonObject }[]): NewContent[] | undefined {
  let contents: NewContent[] | undefined;
  for (const { data } of events) {
    if (data.stored === undefined) continue;
    const taken = Remembered.takeContents(data);
    if (taken) contents = [...(contents ?? []), ...taken];
  }
  return contents;
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

const decrypt = (key: DataKey, streamId: string, eventId: string, value: string): string =>
  decryptBytes(eventKey(key.key, eventId), aad(key, streamId, eventId), Buffer.from(value, 'base64')).toString('utf8');

/** A content is bound to its stream and its field; which event it belongs to says the hash in that. */
function encryptContent(key: DataKey, streamId: string, path: string, plain: Buffer): Buffer {
  const nonce = nextNonce();
  const cipher = createCipheriv(CIPHER, contentKey(key.key, streamId), nonce);
  cipher.setAAD(aad(key, streamId, path));
  const body = cipher.update(plain);
  cipher.final();
  return Buffer.concat([nonce, body, cipher.getAuthTag()]);
}

const decryptContent = (key: DataKey, streamId: string, path: string, body: Buffer): Buffer =>
  decryptBytes(contentKey(key.key, streamId), aad(key, streamId, path), body);

/** @throws Error when it was tampered with */
function decryptBytes(key: Buffer, aad: Buffer, bytes: Buffer): Buffer {
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

/** The same function; the word keeps these keys apart from those of events. */
const contentKey = (key: Buffer, streamId: string): Buffer =>
  hash('sha256', Buffer.concat([input.subarray(0, 4), key, Buffer.from(`content\n${streamId}`)]), 'buffer');

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
  /** What is still to be stored outside the log. */
  #contents: NewContent[] | undefined;

  private constructor(sealed: JsonObject, plain: JsonObject, contents: NewContent[] | undefined) {
    super(sealed);
    this.#plain = plain;
    this.#contents = contents;
  }

  static on(sealed: JsonObject, plain: JsonObject, contents?: NewContent[]): JsonObject {
    return new Remembered(sealed, plain, contents) as unknown as JsonObject;
  }

  /** The event stays in memory for longer than they should. */
  static takeContents(data: object): NewContent[] | undefined {
    if (!(#plain in data)) return undefined;
    const remembered = data as Remembered;
    const contents = remembered.#contents;
    remembered.#contents = undefined;
    return contents;
  }

  static of(data: object): JsonObject | undefined {
    return #plain in data ? (data as Remembered).#plain : undefined;
  }
}
