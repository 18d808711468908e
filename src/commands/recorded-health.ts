import { instantNow } from '../domain/instant.js';
import { type OpenCircuit, provider } from '../domain/provider.js';
import type { Channel } from '../domain/vocabulary.js';
import type { Destinations } from './destinations.js';
import type { CommandExecutor } from './executor.js';
import { newId, providerId } from './ids.js';

/** A destination, or a provider of the instance's configuration. */
type Subject = { readonly destinationId: string } | { readonly provider: string; readonly channel: Channel };

/** Providers belong to the installation, not to one of its organizations. */
const NOBODY = '';

/** How destinations and providers are, written down and read again: only changes, never single calls. */
export class RecordedHealth {
  readonly #executor: CommandExecutor;
  readonly #destinations: Destinations;

  constructor(executor: CommandExecutor, destinations: Destinations) {
    this.#executor = executor;
    this.#destinations = destinations;
  }

  async opened(subject: Subject, circuit: OpenCircuit): Promise<void> {
    if ('destinationId' in subject)
      return await this.#destinations.note(subject.destinationId, { type: 'OpenDestinationCircuit', circuit });
    const { provider: name, channel } = subject;
    const command = { type: 'OpenProviderCircuit', now: instantNow(), name, channel, circuit } as const;
    await this.#executor.execute(provider, { id: providerId(name), command, envelope: envelope() });
  }

  async closed(subject: Subject): Promise<void> {
    if ('destinationId' in subject)
      return await this.#destinations.note(subject.destinationId, { type: 'CloseDestinationCircuit' });
    const { provider: name } = subject;
    const command = { type: 'CloseProviderCircuit', now: instantNow(), name } as const;
    await this.#executor.execute(provider, { id: providerId(name), command, envelope: envelope() });
  }

  async disable(destinationId: string, reason: string): Promise<void> {
    await this.#destinations.note(destinationId, { type: 'DisableDestination', reason });
  }

  /** Undefined while calls to it are allowed. */
  async circuitOf(name: string): Promise<OpenCircuit | undefined> {
    return (await this.#executor.load(provider, providerId(name))).state.circuit;
  }
}

const envelope = () => ({ organizationId: NOBODY, commandId: newId(), actor: 'engine' });
