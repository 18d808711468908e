import { type Decision, record, reject } from './rejection.js';
import type { Channel, Instant } from './vocabulary.js';

/** One address of one organization that gets nothing any more, because it bounced, complained, or asked to be left alone. */

export const SUPPRESSION_REASONS = ['MANUAL', 'BOUNCE', 'COMPLAINT', 'OPT_OUT'] as const;
export type SuppressionReason = (typeof SUPPRESSION_REASONS)[number];

/** Channels whose providers tell of bounces, complaints, people who want no more and devices that are gone. */
export const SUPPRESSIBLE: ReadonlySet<Channel> = new Set<Channel>(['EMAIL', 'SMS', 'VOICE', 'PUSH', 'WEB_PUSH']);

/** How long addresses on the list can be read: the entry itself, which names nobody, stays until it is released. */
export const SUPPRESSION_RETENTION = 'suppression';

interface Suppressed {
  readonly organizationId: string;
  readonly channel: Channel;
  readonly address: string;
  /** The name of the person whose it is. */
  readonly subject?: string;
  /** Whose key protects the address: the person's, for a week and the class `suppression`; the person's own without it. */
  readonly keptAs?: string;
  readonly reason: SuppressionReason;
  /** Of the delivery whose report it was. */
  readonly deliveryId?: string;
  readonly note?: string;
  readonly by: string;
}

export type SuppressionEvent =
  | { readonly type: 'AddressSuppressed'; readonly at: Instant; readonly data: Suppressed }
  | {
      readonly type: 'AddressReleased';
      readonly at: Instant;
      readonly data: { readonly by: string; readonly note?: string };
    };

export type SuppressionState =
  | { readonly tag: 'absent' }
  | ({ readonly tag: 'listed'; readonly since: Instant } & Suppressed)
  | ({ readonly tag: 'released'; readonly releasedAt: Instant } & Suppressed);

export type SuppressionCommand =
  | {
      readonly type: 'SuppressAddress';
      readonly now: Instant;
      /** When what it follows from happened; a report that is older than a release does not undo it. */
      readonly happenedAt: Instant;
      readonly entry: Suppressed;
    }
  | { readonly type: 'ReleaseAddress'; readonly now: Instant; readonly by: string; readonly note?: string };

/** A complaint outranks a bounce, and what the person has said outranks both. */
const rank = (reason: SuppressionReason): number => SUPPRESSION_REASONS.indexOf(reason);

export function decide(command: SuppressionCommand, state: SuppressionState): Decision<SuppressionEvent> {
  const { now } = command;
  if (command.type === 'ReleaseAddress') {
    if (state.tag !== 'listed') return reject('NOT_FOUND', 'this address is not on the suppression list');
    const { by, note } = command;
    return record({ type: 'AddressReleased', at: now, data: { by, ...(note !== undefined && { note }) } });
  }
  const { entry, happenedAt } = command;
  if (state.tag === 'listed' && rank(entry.reason) <= rank(state.reason)) return record();
  if (state.tag === 'released' && happenedAt < state.releasedAt) return record();
  return record({ type: 'AddressSuppressed', at: now, data: entry });
}

export function evolve(state: SuppressionState, event: SuppressionEvent): SuppressionState {
  if (event.type === 'AddressSuppressed')
    return { tag: 'listed', since: state.tag === 'listed' ? state.since : event.at, ...event.data };
  if (state.tag === 'absent') throw new Error('an address is released that was never suppressed');
  const { organizationId, channel, address, reason, by } = state;
  return { tag: 'released', releasedAt: event.at, organizationId, channel, address, reason, by };
}

export const suppression = {
  category: 'suppression',
  initial: { tag: 'absent' } as SuppressionState,
  decide,
  evolve,
} as const;
