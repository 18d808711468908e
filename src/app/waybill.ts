import type { Logger } from 'pino';
import type { Config } from '../platform/config.js';
import { Closings } from './closings.js';
import { layFoundation } from './foundation.js';

/** One running instance: everything it needs is started in order, and stopped in the opposite one. */
export class Waybill {
  readonly #closings: Closings;

  private constructor(
    readonly url: string,
    readonly dataDir: string,
    /** Set when this start made it; it is shown once. */
    readonly newAdminKey: string | undefined,
    closings: Closings,
  ) {
    this.#closings = closings;
  }

  /** @throws with one line for the operator when a part cannot start; what was started is stopped again */
  static async start(config: Config, logger: Logger): Promise<Waybill> {
    const closings = new Closings();
    try {
      return await Waybill.#start(config, logger, closings);
    } catch (error) {
      await closings.close(logger);
      throw error;
    }
  }

  /** Takes no more requests, lets attempts under way end, stores where everything stands. */
  async stop(logger: Logger): Promise<void> {
    await this.#closings.close(logger);
  }

  static async #start(config: Config, logger: Logger, closings: Closings): Promise<Waybill> {
    // PostgreSQL starts, and at first makes its files, while all the rest is loaded.
    const [foundation, { assemble }] = await Promise.all([
      layFoundation(config, logger, closings),
      import('./assembly.js'),
    ]);
    const { url, newAdminKey } = await assemble(config, foundation, logger, closings);
    return new Waybill(url, foundation.directory.path, newAdminKey, closings);
  }
}
