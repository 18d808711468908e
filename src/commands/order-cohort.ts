import type { ExecuteResult, Order } from './executor.js';

type SendMany<State, Command, Event> = (
  orders: readonly Order<State, Command>[],
) => Promise<ExecuteResult<State, Event>[]>;

interface Waiting<State, Command, Event> {
  readonly order: Order<State, Command>;
  readonly resolve: (result: Promise<ExecuteResult<State, Event>> | ExecuteResult<State, Event>) => void;
}

/**
 * Orders that many give one by one in the same step, sent together: all are decided, then encoded, then appended, in as
 * few commits as there may be. See docs/decisions/0086.
 */
export class OrderCohort<State, Command, Event> {
  readonly #send: SendMany<State, Command, Event>;
  #waiting: Waiting<State, Command, Event>[] = [];

  constructor(send: SendMany<State, Command, Event>) {
    this.#send = send;
  }

  order(order: Order<State, Command>): Promise<ExecuteResult<State, Event>> {
    return new Promise((resolve) => {
      // Those who are at the same step run before a new microtask does.
      if (this.#waiting.push({ order, resolve }) === 1) queueMicrotask(() => void this.#sendAll());
    });
  }

  async #sendAll(): Promise<void> {
    const waiting = this.#waiting;
    this.#waiting = [];
    try {
      const results = await this.#send(waiting.map(({ order }) => order));
      for (const [index, { resolve }] of waiting.entries()) resolve(results[index] as ExecuteResult<State, Event>);
    } catch {
      // What is wrong with one is not to be everybody's. Those that were stored already are found to be.
      for (const { order, resolve } of waiting) resolve(this.#alone(order));
    }
  }

  async #alone(order: Order<State, Command>): Promise<ExecuteResult<State, Event>> {
    const [result] = await this.#send([order]);
    if (!result) throw new Error(`there was no answer to the order for ${order.id}`);
    return result;
  }
}
