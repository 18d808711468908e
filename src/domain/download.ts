import type { StoredContent } from './delivery-events.js';
import { type Decision, record, reject } from './rejection.js';
import type { Instant } from './vocabulary.js';

/**
 * Files that wait behind a link until it expires or is used up. What happens at the link is its access log; a link of a
 * provider of storage is served by the provider, and nothing that happens there is known here.
 */

export interface OfferedFile {
  readonly name: string;
  readonly contentType: string;
  readonly bytes: number;
  /** The provider's own link. Whoever has it has the file. */
  readonly url?: string;
}

/** scrypt (RFC 7914) of the password, both base64. */
export interface PasswordHash {
  readonly salt: string;
  readonly hash: string;
}

export interface Offer {
  readonly organizationId: string;
  /** Whose key protects what is sealed: the delivery's subject. */
  readonly subject?: string;
  readonly deliveryId: string;
  /** Who serves the files, when it is not Waybill. */
  readonly provider?: string;
  /** Where the files lie that Waybill serves, in their order; missing of offers of before there was one place for contents. */
  readonly stored?: readonly StoredContent[];
  readonly expiresAt: Instant;
  /** Default: as often as somebody likes. */
  readonly maxUses?: number;
  readonly isViewOnly?: boolean;
  readonly hasPassword?: boolean;
  /** Both are sealed, and gone when the subject was erased. */
  readonly files?: readonly OfferedFile[];
  readonly password?: PasswordHash;
}

export interface Access {
  readonly file: number;
  /** The use it is, or belongs to. */
  readonly use: number;
  /** False when it goes on with a use that was interrupted: the rest of a file. */
  readonly isCounted: boolean;
  readonly mode: 'view' | 'download';
  /** Sealed. */
  readonly address?: string;
}

export type DownloadEvent =
  | { readonly type: 'DownloadOffered'; readonly at: Instant; readonly data: Offer }
  | { readonly type: 'DownloadAccessed'; readonly at: Instant; readonly data: Access }
  /** A wrong password. */
  | { readonly type: 'DownloadRefused'; readonly at: Instant; readonly data: { readonly address?: string } };

export type DownloadState =
  | { readonly tag: 'absent' }
  | ({
      readonly tag: 'offered';
      readonly offeredAt: Instant;
      readonly uses: number;
      readonly accesses: number;
      readonly refusals: number;
      readonly lastUseAt?: Instant;
      readonly lastAccessAt?: Instant;
    } & Offer);

export type Offered = Exclude<DownloadState, { tag: 'absent' }>;

export type DownloadCommand =
  | { readonly type: 'OfferDownload'; readonly now: Instant; readonly offer: Offer }
  | {
      readonly type: 'AccessDownload';
      readonly now: Instant;
      readonly file: number;
      /** The request is for the rest of a file, not for its beginning. */
      readonly isRest: boolean;
      readonly address?: string;
    }
  | { readonly type: 'RefuseDownload'; readonly now: Instant; readonly address?: string };

/** Wrong passwords in all: whoever guesses has as many guesses, and whoever forgot it asks for another link. */
const MAX_REFUSALS = 10;
/** Of one link, counted or not: its stream is read at each of them. */
const MAX_ACCESSES = 5_000;
/** So long after the beginning of a use its rest may be fetched, in as many parts as a player likes. */
const USE_LASTS_MS = 3_600_000;

export type DownloadCondition = 'open' | 'expired' | 'used' | 'locked' | 'erased';

export function conditionOf(state: Offered, now: Instant): DownloadCondition {
  if (state.expiresAt <= now) return 'expired';
  if (!state.files || (state.provider === undefined && state.stored === undefined)) return 'erased';
  if (state.refusals >= MAX_REFUSALS) return 'locked';
  const isUsed = state.accesses >= MAX_ACCESSES || (state.maxUses !== undefined && state.uses >= state.maxUses);
  return isUsed ? 'used' : 'open';
}

export function decide(command: DownloadCommand, state: DownloadState): Decision<DownloadEvent> {
  const { now } = command;
  if (command.type === 'OfferDownload')
    return state.tag === 'absent' ? record({ type: 'DownloadOffered', at: now, data: command.offer }) : record();
  if (state.tag === 'absent') return reject('NOT_FOUND', 'there is no such download');
  if (state.provider !== undefined) return reject('NOT_FOUND', `these files are served by ${state.provider}`);
  const condition = conditionOf(state, now);
  const address = command.address !== undefined && { address: command.address };
  if (command.type === 'RefuseDownload')
    return condition === 'open' ? record({ type: 'DownloadRefused', at: now, data: { ...address } }) : record();

  const { file, isRest } = command;
  const isOngoing = state.lastUseAt !== undefined && Date.parse(now) - Date.parse(state.lastUseAt) < USE_LASTS_MS;
  const goesOn = isRest && isOngoing && state.accesses < MAX_ACCESSES;
  if (condition !== 'open' && !(condition === 'used' && goesOn))
    return reject('NOT_FOUND', `this link is ${condition}`);
  const use = goesOn ? state.uses : state.uses + 1;
  const mode = state.isViewOnly ? 'view' : 'download';
  return record({ type: 'DownloadAccessed', at: now, data: { file, use, isCounted: !goesOn, mode, ...address } });
}

export function evolve(state: DownloadState, event: DownloadEvent): DownloadState {
  if (event.type === 'DownloadOffered')
    return { tag: 'offered', offeredAt: event.at, uses: 0, accesses: 0, refusals: 0, ...event.data };
  if (state.tag === 'absent') throw new Error(`${event.type} is recorded of a download that was never offered`);
  switch (event.type) {
    case 'DownloadAccessed': {
      const seen = { ...state, accesses: state.accesses + 1, lastAccessAt: event.at };
      return event.data.isCounted ? { ...seen, uses: event.data.use, lastUseAt: event.at } : seen;
    }
    case 'DownloadRefused':
      return { ...state, refusals: state.refusals + 1 };
    default:
      // Not a matter of types: the event is whatever was recorded under this name.
      throw new Error(`${(event as { type: string }).type} is not an event of downloads`);
  }
}

/** What happened at a link: a use, a part of one, or a wrong password. */
export interface LoggedAccess extends Partial<Access> {
  readonly at: Instant;
  readonly outcome: 'served' | 'refused';
}

/** The access log of a link, the oldest first. */
export const accessLog = (events: readonly DownloadEvent[]): LoggedAccess[] =>
  events.flatMap((event): LoggedAccess[] => {
    if (event.type === 'DownloadOffered') return [];
    return [{ at: event.at, outcome: event.type === 'DownloadAccessed' ? 'served' : 'refused', ...event.data }];
  });

export const download = {
  category: 'download',
  initial: { tag: 'absent' } as DownloadState,
  decide,
  evolve,
  subject: (state: DownloadState): string | undefined => (state.tag === 'absent' ? undefined : state.subject),
} as const;
