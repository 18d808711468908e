import { hash } from 'node:crypto';
import type { StoredContent } from '../domain/delivery-events.js';
import type { JsonObject } from '../domain/vocabulary.js';
import type { ContentSource, EventPlace, FieldProtection, Subject } from './codec.js';
import { canName } from './content/content-store.js';
import type { ContentReader, NewContent } from './content/contents.js';
import { LARGE, type LargePart, lengthOf, putTogether, takeApart } from './content/large-content.js';
import { OnePiece, plainSizeOfOne } from './content/one-piece.js';
import { type ByteRange, Pieces, plainSize } from './content/pieces.js';
import { type DataKey, decrypt, encrypt } from './event-cipher.js';
import { ContentLost, ContentUnavailable } from './event-store.js';
import { Remembered, Unstored } from './remembered.js';
import { type ContentReference, leaveClosed, type Part, putBack, takeOut } from './sensitive.js';

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
    const mayBeLarge = type === 'DeliveryRequested' && this.#contents !== undefined;
    if (mayBeLarge && lengthOf((own as Part).fields as never) > LARGE && canName(streamId))
      return this.#sealLarge(data, taken, place);
    const sealed: SealedPart[] = [];
    for (const { subject, fields } of taken.parts) {
      const text = JSON.stringify(fields);
      if (mayBeLarge && text.length > LARGE && fields === own?.fields && canName(streamId))
        return this.#sealLarge(data, taken, place);
      const key = this.#keyOf(subject);
      sealed.push({ key: key.id, value: encrypt(key, streamId, eventId, text) });
    }
    return Remembered.on(Object.assign(taken.clear, { sealed }) as unknown as JsonObject, data);
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
    const contents: NewContent[] = [];
    const stored: ContentReference[] = [];
    for (const { path, bytes } of large) {
      const pieces = new Pieces({ key, streamId, path });
      const body = pieces.sealAll(bytes);
      const digest = hash('sha256', body);
      contents.push({ key: key.id, streamId, hash: digest, body });
      stored.push({ key: key.id, hash: digest, size: body.length, salt: pieces.salt });
    }
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
    const whole = { ...clear, stored, sealed } as unknown as JsonObject;
    return Unstored.on(Remembered.on(whole, plain as unknown as JsonObject), contents);
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

  complete(data: JsonObject, streamId: string, leave?: 'attachments'): Promise<JsonObject> | undefined {
    const stored = data.stored as unknown as readonly StoredContent[] | undefined;
    return stored && this.#fetch(data, stored, streamId, leave === 'attachments');
  }

  async #fetch(
    data: JsonObject,
    stored: readonly StoredContent[],
    streamId: string,
    leavesAttachments: boolean,
  ): Promise<JsonObject> {
    const parts: LargePart[] = [];
    const left: StoredContent[] = [];
    for (const content of stored) {
      if (leavesAttachments && isAttachment(content)) {
        left.push(content);
        continue;
      }
      const { bytes, read } = await this.source(content, streamId);
      const chunks: Buffer[] = [];
      for await (const chunk of read()) chunks.push(chunk);
      parts.push({ path: content.path, bytes: Buffer.concat(chunks, bytes) });
    }
    return putTogether(data, parts, left);
  }

  async source({ path, key: id, hash, size, salt, until }: StoredContent, streamId: string): Promise<ContentSource> {
    await this.#keys.load([id]);
    const key = this.#keys.byId(id);
    if (key === 'destroyed') throw new ContentLost(`${path} of ${streamId} was erased`);
    if (!key) throw new KeyMissing(`the key ${id} is not at hand`);
    const contents = this.#contents;
    if (!contents) throw new ContentLost(`there is no place here where ${path} of ${streamId} could be`);
    const name = { key: id, streamId, hash, until };
    await contents.check(name, size);
    const pieces = salt === undefined ? new OnePiece(key, streamId, path) : new Pieces({ key, streamId, path }, salt);
    const bytes = salt === undefined ? plainSizeOfOne(size) : plainSize(size);
    async function* read({ start, end }: ByteRange = { start: 0, end: bytes }): AsyncGenerator<Buffer> {
      const sealed = { size, digest: hash };
      const range = { start, end: Math.min(end, bytes) };
      try {
        yield* pieces.open(sealed, range, (part) => (contents as ContentReader).read(name, size, part));
      } catch (error) {
        const isKnown = error instanceof ContentLost || error instanceof ContentUnavailable;
        throw isKnown ? error : (contents as ContentReader).lost(name, 'damaged');
      }
    }
    return { bytes, read };
  }
}

const isAttachment = ({ path }: StoredContent): boolean => path.startsWith('content.attachments.');

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
