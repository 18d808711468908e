import { FairQueue, type Queued, type Started, type Ticket } from './fair-queue.js';

/** Of the places, so many in four are one organization's at most: another one always finds some. */
const QUARTERS_FOR_ONE = 3;

/** Attempts whose call is over and whose outcome is on its way to the disk, for each place: a slow disk is no slow call. */
const UNDER_WAY_PER_PLACE = 8;

/**
 * A bulkhead: at most `concurrency` calls at once, and attempts that wait start in a fair order. It holds what the
 * engine's open deliveries call for, so it is as bounded as they are.
 */
export class AttemptQueue<Pass> {
  readonly #concurrency: number;
  readonly #waiting: FairQueue<Pass>;
  #calls = 0;
  #running = 0;
  #isStarting = false;
  #open = true;
  #idle: (() => void) | undefined;

  constructor(concurrency: number) {
    this.#concurrency = concurrency;
    const mostOfOne = Math.ceil((concurrency * QUARTERS_FOR_ONE) / 4);
    this.#waiting = new FairQueue(mostOfOne, () => this.#start());
  }

  /** Attempts begun whose outcome is not stored yet. */
  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.waiting;
  }

  add(queued: Queued<Pass>): Ticket<Pass> {
    const { ticket, pass } = this.#waiting.add(queued, this.#hasPlace());
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
    while (this.#hasPlace()) {
      const started = this.#waiting.next();
      if (!started) break;
      this.#run(started);
    }
    this.#isStarting = false;
  }

  #hasPlace(): boolean {
    return this.#open && this.#calls < this.#concurrency && this.#running < this.#concurrency * UNDER_WAY_PER_PLACE;
  }

  #run({ ticket, pass }: Started<Pass>): void {
    this.#calls++;
    this.#running++;
    let isCalling = true;
    const callEnded = () => {
      if (!isCalling) return;
      isCalling = false;
      this.#calls--;
      this.#waiting.ended(ticket);
      this.#start();
    };
    void ticket.queued.run(pass, callEnded).finally(() => {
      this.#running--;
      callEnded();
      if (this.#running === 0) this.#idle?.();
      this.#start();
    });
  }
}
