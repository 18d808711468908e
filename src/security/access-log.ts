/** An access that was refused, or one to something sensitive that was granted. */
export interface Access {
  /** Who: a principal's actor; undefined when the credentials themselves were refused. */
  readonly actor?: string;
  /** What was asked: `Query.delivery`, `Mutation.createApiKey` …, `authenticate` for the credentials themselves. */
  readonly action: string;
  readonly outcome: 'granted' | 'denied';
  /** Whose data it was about, where that is known: of a thing that exists it is its owner, which the caller may not know. */
  readonly organizationId?: string;
  /** Id of what was asked for, as the caller gave it. */
  readonly resource?: string;
  /** The caller's address. Personal data: to be kept only where that is protected. */
  readonly ip?: string;
  /** A code for why it was denied: `permission`, `tenant`, `credentials`, `blocked`, `rate`. */
  readonly reason?: string;
}

/**
 * The one seam through which everybody hears of denied and of sensitive accesses. It is called by
 *
 * - `guardOperations` (src/graphql/access-guard.ts): every operation without permission, every sensitive one with it,
 * - `accessOf` and `organizationFor` (src/graphql/request-context.ts): somebody else's delivery, destination, organization,
 * - `authenticated` (src/graphql/request-context.ts): credentials that are not valid,
 *
 * and is made in src/app/app.module.ts. Implementations must return at once, never throw, and bound what they keep: who is
 * denied decides how often they are called.
 */
export interface AccessLog {
  record(access: Access): void;
}

/** Lines a minute; what is beyond is counted and told with the next minute's first line. */
const LINES_PER_MINUTE = 60;

/** Writes denials to the process's log, without address and resource; granted ones it leaves to others. */
export class LoggedDenials implements AccessLog {
  readonly #write: (fields: object, message: string) => void;
  readonly #now: () => number;
  #minute = 0;
  #lines = 0;
  #unsaid = 0;

  /** @param now milliseconds */
  constructor(write: (fields: object, message: string) => void, now: () => number = Date.now) {
    this.#write = write;
    this.#now = now;
  }

  record({ outcome, actor, action, organizationId, reason }: Access): void {
    if (outcome === 'granted') return;
    const minute = Math.floor(this.#now() / 60_000);
    if (minute !== this.#minute) {
      this.#minute = minute;
      this.#lines = 0;
    }
    if (this.#lines >= LINES_PER_MINUTE) {
      this.#unsaid++;
      return;
    }
    this.#lines++;
    const unsaid = this.#unsaid > 0 && { unsaid: this.#unsaid };
    this.#unsaid = 0;
    this.#write({ actor, action, organizationId, reason, ...unsaid }, 'access denied');
  }
}
