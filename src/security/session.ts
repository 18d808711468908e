import type { Principal } from './principal.js';

/** Credentials that were found good, and the principal they stand for. */
export interface Session {
  readonly principal: Principal;
  /** True while nothing that the principal rests on has changed or run out. Costs next to nothing. */
  isCurrent(): boolean;
  /** The same credentials judged again by what is known now; undefined when they are good no longer. */
  renew(): Promise<Session | undefined>;
}

/** One way of proving who one is. */
export interface Scheme {
  /** Whether the credentials are of this kind at all; no other scheme is asked then. */
  recognizes(token: string): boolean;
  /**
   * Undefined when they are not good, `expired` when they were.
   *
   * @throws when it cannot be known now
   */
  verify(token: string): Promise<Session | 'expired' | undefined>;
}
