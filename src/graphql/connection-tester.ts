import type { ConnectionTest } from '../channels/channel.js';
import type { DestinationDirectory } from '../commands/destination-directory.js';
import type { Adapters } from '../sagas/targets.js';
import { ApiError } from './errors.js';

const TEST_TIMEOUT_MS = 15_000;

/** Tries a destination out without delivering anything. */
export class ConnectionTester {
  readonly #directory: DestinationDirectory;
  readonly #adapters: Adapters;
  readonly #onSuccess: (id: string) => Promise<void>;

  /** @param onSuccess with a destination that is disabled although it works */
  constructor(
    directory: DestinationDirectory,
    adapters: Adapters,
    onSuccess: (id: string) => Promise<void> = async () => undefined,
  ) {
    this.#onSuccess = onSuccess;
    this.#directory = directory;
    this.#adapters = adapters;
  }

  async test(id: string, mayAccess: (organizationId: string) => boolean): Promise<ConnectionTest> {
    const found = await this.#directory.find(id);
    if (!found || !mayAccess(found.definition.organizationId))
      throw new ApiError('NOT_FOUND', 'there is no such destination');
    const choice = this.#adapters.adapterFor(found.definition.type, found.config);
    if (Array.isArray(choice)) return { ok: false, latencyMs: 0, problems: choice };
    const result = await choice.adapter.test(choice.config, { signal: AbortSignal.timeout(TEST_TIMEOUT_MS) });
    if (result.ok && found.disabled !== undefined) await this.#onSuccess(id);
    return result;
  }
}
