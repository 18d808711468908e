import type { Halting, SendOptions } from '../channels/channel.js';

/**
 * Ends one attempt early. An AbortSignal would say it as well, but to make one, to listen to it and to leave it takes longer
 * than to sign the message: so one is made only for a channel that asks for it.
 */
export class Halt implements Halting {
  #listeners: (() => void)[] = [];
  #controller: AbortController | undefined;
  #reason: unknown;

  get aborted(): boolean {
    return this.#reason !== undefined;
  }

  get reason(): unknown {
    return this.#reason;
  }

  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.aborted) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  /** Only the first time counts. */
  abort(reason: Error): void {
    if (this.aborted) return;
    this.#reason = reason;
    this.#controller?.abort(reason);
    for (const listener of this.#listeners.splice(0)) listener();
  }

  addEventListener(_: 'abort', listener: () => void): void {
    this.#listeners.push(listener);
  }

  removeEventListener(_: 'abort', listener: () => void): void {
    const at = this.#listeners.indexOf(listener);
    if (at >= 0) this.#listeners.splice(at, 1);
  }
}

/** What a channel is told of a call to it beside the message. */
export class Call implements SendOptions {
  readonly halt = new Halt();

  constructor(
    readonly attemptKey: string,
    readonly now: Date,
  ) {}

  get signal(): AbortSignal {
    return this.halt.signal;
  }
}
