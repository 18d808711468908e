import { FairQueue, type Queued, type Started, type Ticket } from './fair-queue.js';

/** Of the places, so many in four are one organization's at most: another one always finds some. */
const QUARTERS_FOR_ONE = 3;

/**
 * A bulkhead: at most `concurrency` attempts at once, and those that wait start in a fair order. It holds what the
 * engine's open deliveries call for, so it is as bounded as they are.
 */
export class AttemptQueue<Pass> {
  readonly #concurrency: number;
  readonly #waiting: FairQueue<Pass>;
  #running = 0;
  #isStarting = false;
  #open = true;
  #idle: (() => void) | undefined;

  constructor(concurrency: number) {
    this.#concurrency = concurrency;
    const mostOfOne = Math.ceil((concurrency * QUARTERS_FOR_ONE) / 4);
    this.#waiting = new FairQueue(mostOfOne, () => this.#start());
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.waiting;
  }

  add(queued: Queued<Pass>): Ticket<Pass> {
    const mayStart = this.#open && this.#running < this.#concurrency;
    const { ticket, pass } = this.#waiting.add(queued, mayStart);
    if (pass !== undefined) this.#run({ ticket, pass });
    else this.#start();
    return ticket;
  }

  /** @returns false when it has started already */
  withdraw(ticket: Ticket<Pass>): boolean {
    return this.#waiting.withdraw(ticket);
  }

  /** Starts no more attempts; resolves when those under way have ended. */
  async close(): Promise<void> {
    this.#open = false;
    if (this.#running > 0)
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
  }

  #start(): void {
    // Gates call back from inside.
    if (this.#isStarting) return;
    this.#isStarting = true;
    while (this.#open && this.#running < this.#concurrency) {
      const started = this.#waiting.next();
      if (!started) break;
      this.#run(started);
    }
    this.#isStarting = false;
  }

  #run({ ticket, pass }: Started<Pass>): void {
    this.#running++;
    void ticket.queued.run(pass).finally(() => {
      this.#running--;
      this.#waiting.ended(ticket);
      if (this.#running === 0) this.#idle?.();
      this.#start();
    });
  }
}
