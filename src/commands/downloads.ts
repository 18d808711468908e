import { delivery } from '../domain/delivery.js';
import type { StoredContent } from '../domain/delivery-events.js';
import {
  accessLog,
  conditionOf,
  type DownloadEvent,
  type DownloadState,
  download,
  type LoggedAccess,
  type Offer,
  type Offered,
  type OfferedFile,
  type PasswordHash,
} from '../domain/download.js';
import { type Instant, isUuid } from '../domain/vocabulary.js';
import { type EventCodec, subjectOfOrganization } from '../event-store/codec.js';
import type { EventReader } from '../event-store/event-store.js';
import type { CommandExecutor, Known, Refused } from './executor.js';
import { derivedId, newId } from './ids.js';

/** Where the files lie until the link expires. */
export interface FileShelf {
  /** Stores files, then has the event appended that names them; says it that it is not named, they are removed. */
  keep(
    owner: {
      readonly streamId: string;
      readonly subject: string;
      readonly organizationId: string;
      readonly until: Date;
    },
    files: readonly AsyncIterable<Buffer>[],
    append: (files: readonly { readonly stored: StoredContent; readonly bytes: number }[]) => Promise<boolean>,
  ): Promise<void>;
}

export interface DownloadParts {
  readonly executor: CommandExecutor;
  readonly reader: EventReader;
  readonly codec: EventCodec;
  readonly shelf: FileShelf;
  readonly hashPassword: (password: string) => Promise<PasswordHash>;
}

export interface NewOffer {
  readonly organizationId: string;
  readonly deliveryId: string;
  readonly files: readonly {
    readonly path: string;
    readonly contentType: string;
    readonly source: { readonly read: () => AsyncIterable<Buffer> };
  }[];
  readonly expiresAt: Instant;
  readonly password?: string;
  readonly maxUses?: number;
  readonly isViewOnly: boolean;
}

/** Files that a provider of storage serves by links of its own. */
export interface LinkedOffer {
  readonly organizationId: string;
  readonly deliveryId: string;
  readonly provider: string;
  readonly files: readonly (OfferedFile & { readonly url: string })[];
  readonly expiresAt: Instant;
}

/** Files behind links, and what happens there. A stream for each link. */
export class Downloads {
  readonly #parts: DownloadParts;

  constructor(parts: DownloadParts) {
    this.#parts = parts;
  }

  /** @param key the same for every attempt at one delivery: it is offered once */
  async offer({ organizationId, deliveryId, files, expiresAt, password, maxUses, isViewOnly }: NewOffer, key: string) {
    const { shelf, hashPassword } = this.#parts;
    const { id, known, subject } = await this.#before(deliveryId, key);
    if (known.state.tag !== 'absent') return { id };
    const owner = {
      ...{ streamId: streamOf(id), organizationId, until: new Date(expiresAt) },
      subject: subject ?? subjectOfOrganization(organizationId),
    };
    const sources = files.map(({ source }) => source.read());
    const locked = password !== undefined && { hasPassword: true, password: await hashPassword(password) };
    await shelf.keep(owner, sources, async (sealed) => {
      const stored = sealed.map((file) => file.stored);
      const offer = {
        ...{ organizationId, deliveryId, stored, expiresAt },
        ...(subject !== undefined && { subject }),
        ...(maxUses !== undefined && { maxUses }),
        ...(isViewOnly && { isViewOnly }),
        files: files.map(({ path, contentType }, index) => {
          return { name: path, contentType, bytes: sealed[index]?.bytes ?? 0 };
        }),
        ...locked,
      };
      const state = await this.#record(id, offer, known);
      // Of two at once the first is offered.
      return state.tag !== 'absent' && state.stored?.[0]?.hash === stored[0]?.hash;
    });
    return { id };
  }

  /** @param key as for `offer`: of links that were signed twice, the first are kept */
  async offerLinked(linked: LinkedOffer, key: string) {
    const { id, known, subject } = await this.#before(linked.deliveryId, key);
    if (known.state.tag === 'absent')
      await this.#record(id, { ...linked, ...(subject !== undefined && { subject }) }, known);
    return { id };
  }

  async #before(deliveryId: string, key: string) {
    const { executor } = this.#parts;
    const id = derivedId(deliveryId, `download/${key}`);
    const known = await executor.load(download, id);
    const { state } = known.state.tag === 'absent' ? await executor.load(delivery, deliveryId) : { state: undefined };
    return { id, known, subject: state && state.tag !== 'absent' ? state.request.subject : undefined };
  }

  async #record(id: string, offer: Offer, known: Known<DownloadState>): Promise<DownloadState> {
    const command = { type: 'OfferDownload', now: new Date().toISOString(), offer } as const;
    const envelope = { organizationId: offer.organizationId, commandId: newId(), actor: 'engine' };
    const offered = await this.#parts.executor.execute(download, { id, command, envelope, known });
    if (!offered.ok) throw new Error(offered.rejection.message);
    return offered.state;
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
    const stream = await this.#parts.reader.readStream(streamOf(id));
    return accessLog(this.#parts.codec.decodeStream<DownloadEvent>(stream).map(({ event }) => event));
  }

  condition = (state: Offered) => conditionOf(state, new Date().toISOString());
}

/** Where what happens at a link is recorded. */
export const streamOf = (id: string): string => `${download.category}-${id}`;

/** Nobody logs in at a link: whoever has it is who it was given to. */
const envelopeOf = (id: string, organizationId: string) => ({
  organizationId,
  commandId: newId(),
  actor: `link:${id}`,
});
