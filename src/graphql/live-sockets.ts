import { reachAlike } from '../security/principal.js';
import type { Session } from '../security/session.js';

export interface Socket {
  readonly readyState: number;
  close(code: number, reason: string): void;
  once(event: 'close', listener: () => void): unknown;
}

const LOOK_MS = 1_000;
/** graphql-transport-ws has no code for it; 4403 is its "Forbidden". */
const FORBIDDEN = 4403;
/** With one connection several credentials can be used, one for each operation; more than a few is no honest use. */
const MAX_SESSIONS = 16;

/**
 * Closes sockets whose credentials are good no longer, or allow something else than when their subscriptions began: once a
 * second. Clients that still have good ones connect again.
 */
export class LiveSockets {
  readonly #sockets = new Map<Socket, Set<Session>>();
  readonly #timer: NodeJS.Timeout;
  #looking: Promise<void> | undefined;

  constructor() {
    this.#timer = setInterval(() => {
      this.#looking ??= this.#look().finally(() => {
        this.#looking = undefined;
      });
    }, LOOK_MS);
    this.#timer.unref();
  }

  /** An operation runs on this socket by the power of this session. @returns false when the socket has had too many */
  add(socket: Socket, session: Session): boolean {
    let sessions = this.#sockets.get(socket);
    if (!sessions) {
      sessions = new Set();
      this.#sockets.set(socket, sessions);
      socket.once('close', () => this.#sockets.delete(socket));
    }
    if (sessions.has(session)) return true;
    sessions.add(session);
    return sessions.size <= MAX_SESSIONS;
  }

  async #look(): Promise<void> {
    for (const [socket, sessions] of this.#sockets)
      for (const session of sessions)
        if (!session.isCurrent() && !(await this.#renewed(session, sessions)))
          socket.close(FORBIDDEN, 'the credentials are not valid any more');
  }

  /** What cannot be judged now, because the log is out of reach, is judged at the next look. */
  async #renewed(session: Session, sessions: Set<Session>): Promise<boolean> {
    const renewed = await session.renew().catch(() => session);
    if (!renewed || !reachAlike(renewed.principal, session.principal)) return false;
    sessions.delete(session);
    sessions.add(renewed);
    return true;
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
