import type { Logger } from 'pino';

type Close = () => Promise<void> | void;

/** What has been started, to be stopped in the opposite order. */
export class Closings {
  readonly #closings: Close[] = [];

  push(...closings: Close[]): void {
    this.#closings.push(...closings);
  }

  /** One that fails does not keep the others open. */
  async close(logger: Logger): Promise<void> {
    for (let close = this.#closings.pop(); close; close = this.#closings.pop()) {
      try {
        await close();
      } catch (error) {
        logger.error({ err: error }, 'a part did not stop as it should');
      }
    }
  }
}
