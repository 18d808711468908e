import type { Statement } from '../columns.js';
import type { Rebuild } from './member.js';

/** What instances that share a Postgres tell each other, so that none has to ask often. */
export type Announcement =
  /** These projections show everything up to here. */
  | { readonly moved: string; readonly names: readonly string[] }
  /** One has begun, got on or ended. */
  | { readonly rebuild: Rebuild }
  /** Parked events of this projection are to be tried again. */
  | { readonly takeUp: string }
  /** The lease is free, or its holder has something to say: look at it. */
  | { readonly look: true };

export const CHANNEL = 'waybill_projections';

/** Goes out when the transaction it is part of is committed, and only then. */
export const announce = (announcement: Announcement): Statement => ({
  name: 'announce',
  text: `select pg_notify('${CHANNEL}', $1)`,
  values: [JSON.stringify(announcement)],
});

/** @returns undefined for what another version of the program says */
export function heard(payload: string): Announcement | undefined {
  try {
    return JSON.parse(payload);
  } catch {
    return undefined;
  }
}
