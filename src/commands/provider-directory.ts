import type { OpenCircuit } from '../domain/provider.js';
import type { Channel, Instant } from '../domain/vocabulary.js';

/** A provider of the instance's configuration, without what it is configured with. */
export interface ListedProvider {
  readonly name: string;
  readonly channel: Channel;
  readonly priority?: number;
  readonly weight?: number;
  readonly cost?: number;
  readonly region?: string;
}

export interface ProviderHealth extends ListedProvider {
  /** open: it is not called for now · half-open: single calls try whether it works again · closed: all is well */
  readonly circuit: 'closed' | 'open' | 'half-open';
  readonly reason: string | null;
  /** In a row, when its circuit opened. */
  readonly failures: number;
  readonly failingSince: Instant | null;
  /** When it is tried again. */
  readonly retryAt: Instant | null;
}

/** The configured providers, and what the log knows of them. */
export class ProviderDirectory {
  readonly #providers: readonly ListedProvider[];
  readonly #circuitOf: (name: string) => Promise<OpenCircuit | undefined>;

  constructor(
    providers: readonly ListedProvider[],
    record: { readonly circuitOf: (name: string) => Promise<OpenCircuit | undefined> },
  ) {
    this.#providers = providers;
    this.#circuitOf = (name) => record.circuitOf(name);
  }

  /** In the order of the configuration. */
  async health(channel?: Channel): Promise<ProviderHealth[]> {
    const asked = this.#providers.filter((provider) => channel === undefined || provider.channel === channel);
    return await Promise.all(
      asked.map(async ({ name, channel, priority = 1, weight = 1, cost = 0, region }) => ({
        ...{ name, channel, priority, weight, cost, ...(region !== undefined && { region }) },
        ...standing(await this.#circuitOf(name)),
      })),
    );
  }
}

function standing(circuit: OpenCircuit | undefined): Omit<ProviderHealth, keyof ListedProvider> {
  if (!circuit) return { circuit: 'closed', reason: null, failures: 0, failingSince: null, retryAt: null };
  const { reason, failures, failingSince, until } = circuit;
  const isOpen = Date.parse(until) > Date.now();
  return { circuit: isOpen ? 'open' : 'half-open', reason, failures, failingSince, retryAt: until };
}
