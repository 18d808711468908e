import type { Failure } from '../domain/vocabulary.js';
import type { Verdict } from './breaker.js';
import { Gate, type Queued } from './fair-queue.js';
import type { Limiter } from './limiter.js';

/** Leave for one call. */
export interface Pass {
  /** A configured provider that was chosen, and why. */
  readonly provider?: { readonly name: string; readonly reason: string } | undefined;
  /** There is to be no call: the next route is taken, and this is why. */
  readonly detour?: Failure | undefined;
  /** The call has ended. What is said after the first time does not count. */
  end(verdict: Verdict): void;
  /** The other side asks to be left alone for so long. */
  pause(ms: number): void;
}

/** Another side that calls go to, as its gates see it. */
export interface OtherSide {
  readonly limiter: Limiter;
  readonly provider?: string;
  /** Called after each call; `hasTurned` when the circuit has opened or closed. */
  readonly onEnd: (verdict: Verdict, hasTurned: boolean) => void;
}

export interface SideChoice {
  readonly side: OtherSide;
  readonly reason: string;
}

/** setTimeout cannot wait longer (2^31 - 1 ms). */
const LONGEST_WAIT_MS = 2_147_483_647;

const circuitOpen: Failure = {
  category: 'TEMPORARY',
  code: 'CIRCUIT_OPEN',
  message: 'the destination has failed too often in a row to be called for now',
};
const detour: Pass = { detour: circuitOpen, end: () => undefined, pause: () => undefined };

export interface RouteGateParts {
  readonly sides: readonly OtherSide[];
  /** Which of them is called now, if there are several. */
  readonly choose?: (nowMs: number, tried: readonly string[]) => SideChoice | undefined;
  /** Who waits here has another route, and takes it rather than wait for an open circuit. */
  readonly hasDetour?: boolean;
  readonly nowMs: () => number;
}

/** The gate of one route: open when one of its sides takes calls. */
export class RouteGate extends Gate<Pass> {
  readonly #parts: RouteGateParts;
  #timer: NodeJS.Timeout | undefined;
  #timerAtMs = 0;

  constructor(parts: RouteGateParts) {
    super();
    this.#parts = parts;
  }

  enter({ tried = [] }: Queued<Pass>): Pass | undefined {
    const { sides, choose, hasDetour, nowMs } = this.#parts;
    const now = nowMs();
    let opensAtMs = Number.POSITIVE_INFINITY;
    for (const { limiter } of sides) opensAtMs = Math.min(opensAtMs, limiter.opensAtMs(now));
    if (opensAtMs <= now) {
      const only = sides[0] as OtherSide;
      const chosen = choose?.(now, tried);
      return new Call(chosen?.side ?? only, chosen?.reason);
    }
    if (hasDetour && sides.every(({ limiter }) => limiter.breaker?.stateAt(now) === 'open')) return detour;
    this.#lookAgainAt(opensAtMs, now);
    return undefined;
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #lookAgainAt(timeMs: number, nowMs: number): void {
    if (timeMs === Number.POSITIVE_INFINITY || timeMs === this.#timerAtMs) return;
    clearTimeout(this.#timer);
    this.#timerAtMs = timeMs;
    this.#timer = setTimeout(
      () => {
        this.#timerAtMs = 0;
        this.wake();
      },
      Math.min(Math.ceil(timeMs - nowMs), LONGEST_WAIT_MS),
    );
  }
}

class Call implements Pass {
  readonly provider?: { readonly name: string; readonly reason: string };
  readonly #side: OtherSide;
  readonly #phase: number;
  #isOver = false;

  constructor(side: OtherSide, reason: string | undefined) {
    this.#side = side;
    this.#phase = side.limiter.begin();
    if (side.provider !== undefined) this.provider = { name: side.provider, reason: reason ?? 'named in the request' };
  }

  end(verdict: Verdict): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const { limiter, onEnd } = this.#side;
    onEnd(verdict, limiter.end(this.#phase, verdict));
  }

  pause(ms: number): void {
    this.#side.limiter.pause(ms);
  }
}
