import type { DeliveryRequested } from '../domain/delivery-events.js';
import type { DeliveryState, Leg } from '../domain/delivery-state.js';
import { AttemptQueue } from './attempt-queue.js';
import type { Verdict } from './breaker.js';
import type { Ticket } from './fair-queue.js';
import { Gates, type GatesParts } from './gates.js';
import { Pace } from './pace.js';
import type { Pass } from './route-gate.js';

/** An attempt that waits or is under way. */
export type Waiting = Ticket<Pass>;

export interface PoolOptions {
  /** Attempts at once, of messages without large attachments. */
  readonly concurrency: number;
  /** … and of those with them, which take memory and lines for longer. */
  readonly largeConcurrency: number;
  /** From this much content on, attachments are large. In bytes, as encoded. */
  readonly largeBytes: number;
}

/**
 * When each attempt is made: a bulkhead for each kind of message, a fair order in each of them, and gates that hold back
 * what the other side cannot take now. Templates are filled in within microseconds, as part of the attempt, so there is
 * no bulkhead for that.
 */
export class Dispatcher {
  readonly gates: Gates;
  readonly #options: PoolOptions;
  readonly #plain: AttemptQueue<Pass>;
  readonly #large: AttemptQueue<Pass>;
  readonly #pace: Pace;

  constructor(options: PoolOptions, gates: GatesParts) {
    this.gates = new Gates(gates);
    this.#options = options;
    this.#plain = new AttemptQueue(options.concurrency);
    this.#large = new AttemptQueue(options.largeConcurrency);
    this.#pace = new Pace(gates.nowMs);
  }

  get running(): number {
    return this.#plain.running + this.#large.running;
  }

  get waiting(): number {
    return this.#plain.waiting + this.#large.waiting;
  }

  /** Attempts ended per second, lately. */
  get rate(): number {
    return this.#pace.rate;
  }

  /** @param run must not reject */
  add({ request }: Exclude<DeliveryState, { tag: 'absent' }>, leg: Leg, run: (pass: Pass) => Promise<void>): Waiting {
    const { priority, organizationId } = request;
    return this.#poolOf(request).add({
      priority,
      organizationId,
      gate: this.gates.of(leg),
      tried: leg.progress.tag === 'retrying' ? leg.progress.tried : undefined,
      run: async (pass, callEnded) => {
        const { provider, detour } = pass;
        const end = (verdict: Verdict) => {
          pass.end(verdict);
          callEnded();
        };
        const pause = (ms: number) => pass.pause(ms);
        try {
          await run({ provider, detour, end, pause });
        } finally {
          pass.end('neutral');
          this.#pace.tick();
        }
      },
    });
  }

  /** @returns false when it is under way, or over */
  withdraw(waiting: Waiting): boolean {
    return this.#plain.withdraw(waiting) || this.#large.withdraw(waiting);
  }

  /** Starts nothing more; resolves when what is under way has ended. */
  async close(): Promise<void> {
    this.gates.stop();
    await Promise.all([this.#plain.close(), this.#large.close()]);
  }

  #poolOf({ content: { attachments, text, html }, stored }: DeliveryRequested['data']): AttemptQueue<Pass> {
    if (!attachments && !stored) return this.#plain;
    let bytes = (text?.length ?? 0) + (html?.length ?? 0);
    for (const { base64 } of attachments ?? []) bytes += base64.length;
    for (const { size } of stored ?? []) bytes += size;
    return bytes > this.#options.largeBytes ? this.#large : this.#plain;
  }
}
