import type { ChannelRegistry } from '../channels/registry.js';
import type { DestinationDirectory } from '../commands/destination-directory.js';
import { type Channel, isUuid, type JsonObject } from '../domain/vocabulary.js';
import type { CallbackDoor } from '../http/callbacks.js';
import type { ConfiguredProvider } from '../sagas/targets.js';

/** Finds whose configuration verifies the callbacks that come to an address. */
export const callbackDoors =
  (registry: ChannelRegistry, directory: DestinationDirectory, providers: readonly ConfiguredProvider[]) =>
  async (provider: string, destination: string): Promise<CallbackDoor | undefined> => {
    const configured = providers.find(({ name }) => name === destination);
    if (configured) return doorOf(registry, provider, configured.channel, configured.config, { name: destination });
    const found = isUuid(destination) ? await directory.find(destination.toLowerCase()) : undefined;
    if (!found) return undefined;
    const { organizationId, type } = found.definition;
    return doorOf(registry, provider, type, found.config, { destinationId: found.id, organizationId });
  };

function doorOf(
  registry: ChannelRegistry,
  provider: string,
  channel: Channel,
  config: JsonObject,
  whose: { readonly name?: string; readonly destinationId?: string; readonly organizationId?: string },
): CallbackDoor | undefined {
  const selection = registry.adapterFor(channel, config);
  if (!('adapter' in selection)) return undefined;
  const { adapter, config: own } = selection;
  const { parseCallback } = adapter;
  if (adapter.describe().provider !== provider || !parseCallback) return undefined;
  const { name, ...owner } = whose;
  const { recipients } = own;
  return {
    source: {
      channel,
      provider: name ?? provider,
      ...owner,
      // A provider of the instance sends to bare addresses; those of its configuration are a placeholder.
      ...(name === undefined &&
        Array.isArray(recipients) && { recipients: recipients.map((address) => String(address).toLowerCase()) }),
    },
    read: async (request) => await parseCallback.call(adapter, request, own),
  };
}
