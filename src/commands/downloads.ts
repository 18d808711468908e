import { delivery } from '../domain/delivery.js';
import {
  type Access,
  conditionOf,
  type DownloadEvent,
  download,
  type Offered,
  type PasswordHash,
} from '../domain/download.js';
import type { Instant } from '../domain/vocabulary.js';
import type { EventCodec } from '../event-store/codec.js';
import type { EventReader } from '../event-store/event-store.js';
import type { CommandExecutor, Refused } from './executor.js';
import { derivedId, isUuid, newId } from './ids.js';

/** Where the files lie until the link expires. */
export interface FileShelf {
  put(files: readonly Buffer[], key: Buffer, until: Date): Promise<string>;
  remove(place: string): Promise<void>;
}

export interface DownloadParts {
  readonly executor: CommandExecutor;
  readonly reader: EventReader;
  readonly codec: EventCodec;
  readonly shelf: FileShelf;
  readonly hashPassword: (password: string) => Promise<PasswordHash>;
  /** 32 random bytes. */
  readonly newKey: () => Buffer;
}

export interface NewOffer {
  readonly organizationId: string;
  readonly deliveryId: string;
  readonly files: readonly { readonly path: string; readonly contentType: string; readonly bytes: Buffer }[];
  readonly expiresAt: Instant;
  readonly password?: string;
  readonly maxUses?: number;
  readonly isViewOnly: boolean;
}

/** One line of a link's access log. */
export interface LoggedAccess extends Partial<Access> {
  readonly at: Instant;
  readonly outcome: 'served' | 'refused';
}

/** Files behind links, and what happens there. A stream for each link. */
export class Downloads {
  readonly #parts: DownloadParts;

  constructor(parts: DownloadParts) {
    this.#parts = parts;
  }

  /** @param key the same for every attempt at one delivery: it is offered once */
  async offer({ organizationId, deliveryId, files, expiresAt, password, maxUses, isViewOnly }: NewOffer, key: string) {
    const { executor, shelf, hashPassword, newKey } = this.#parts;
    const id = derivedId(deliveryId, `download/${key}`);
    const known = await executor.load(download, id);
    if (known.state.tag !== 'absent') return { id };
    const { state } = await executor.load(delivery, deliveryId);
    const subject = state.tag === 'absent' ? undefined : state.request.subject;
    const fileKey = newKey();
    // Each attempt has a place of its own, so that of two at once neither writes over what the other has recorded.
    const place = await shelf.put(
      files.map(({ bytes }) => bytes),
      fileKey,
      new Date(expiresAt),
    );
    const offer = {
      ...{ organizationId, deliveryId, place, expiresAt },
      ...(subject !== undefined && { subject }),
      ...(maxUses !== undefined && { maxUses }),
      ...(isViewOnly && { isViewOnly }),
      files: files.map(({ path, contentType, bytes }) => ({ name: path, contentType, bytes: bytes.length })),
      fileKey: fileKey.toString('base64'),
      ...(password !== undefined && { hasPassword: true, password: await hashPassword(password) }),
    };
    const command = { type: 'OfferDownload', now: new Date().toISOString(), offer } as const;
    const envelope = { organizationId, commandId: newId(), actor: 'engine' };
    const offered = await executor.execute(download, { id, command, envelope, known });
    if (!offered.ok) throw new Error(offered.rejection.message);
    if (offered.state.tag === 'absent' || offered.state.place !== place) await shelf.remove(place);
    return { id };
  }

  async find(id: string): Promise<Offered | undefined> {
    if (!isUuid(id)) return undefined;
    const { state } = await this.#parts.executor.load(download, id.toLowerCase());
    return state.tag === 'absent' ? undefined : state;
  }

  /** To be called before anything is served. @returns the use it is, or why not */
  async access(
    id: string,
    request: { readonly file: number; readonly isRest: boolean; readonly address: string },
    { organizationId }: Offered,
  ): Promise<{ readonly ok: true } | Refused> {
    const command = { type: 'AccessDownload', now: new Date().toISOString(), ...request } as const;
    return await this.#parts.executor.execute(download, { id, command, envelope: envelopeOf(id, organizationId) });
  }

  async refuse(id: string, address: string, { organizationId }: Offered): Promise<void> {
    const command = { type: 'RefuseDownload', now: new Date().toISOString(), address } as const;
    await this.#parts.executor.execute(download, { id, command, envelope: envelopeOf(id, organizationId) });
  }

  /** What happened at the link, the oldest first. */
  async accesses(id: string): Promise<LoggedAccess[]> {
    const stream = await this.#parts.reader.readStream(`${download.category}-${id}`);
    return this.#parts.codec.decodeStream<DownloadEvent>(stream).flatMap(({ event }): LoggedAccess[] => {
      if (event.type === 'DownloadOffered') return [];
      return [{ at: event.at, outcome: event.type === 'DownloadAccessed' ? 'served' : 'refused', ...event.data }];
    });
  }

  condition = (state: Offered) => conditionOf(state, new Date().toISOString());
}

/** Nobody logs in at a link: whoever has it is who it was given to. */
const envelopeOf = (id: string, organizationId: string) => ({
  organizationId,
  commandId: newId(),
  actor: `link:${id}`,
});
