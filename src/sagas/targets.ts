import type { ChannelAdapter } from '../channels/channel.js';
import type { DestinationDirectory, UsableDestination } from '../commands/destination-directory.js';
import type { Route } from '../domain/delivery-events.js';
import { defaultRetryPolicy, type RetryPolicy } from '../domain/retry-policy.js';
import type { Channel, Failure, FieldProblem, JsonObject } from '../domain/vocabulary.js';
import type { Limits } from './limiter.js';
import type { Preference } from './provider-choice.js';

/** Where the adapters are found; the adapters themselves are plugged in at the top of the application. */
export interface Adapters {
  /** The adapter a whole configuration asks for, with the part of the configuration that is the adapter's. */
  adapterFor(channel: Channel, config: JsonObject): AdapterChoice | FieldProblem[];
}
export interface AdapterChoice {
  readonly adapter: ChannelAdapter;
  readonly config: JsonObject;
}

/** A provider that bare addresses are sent through, from the instance's configuration. */
export interface ConfiguredProvider extends Preference {
  readonly channel: Channel;
  readonly config: JsonObject;
  readonly limits?: Limits;
}

/** Everything one attempt needs, or why there can be none. */
export type Target =
  | {
      readonly ok: true;
      readonly adapter: ChannelAdapter;
      readonly config: JsonObject;
      readonly provider: string;
      readonly policy: RetryPolicy;
    }
  | { readonly ok: false; readonly failure: Failure; readonly provider: string };

/** Channels a bare address needs no configured provider for: the address says it all. */
const SELF_CONTAINED: Partial<Record<Channel, (address: string) => JsonObject>> = {
  WEBHOOK: (url) => ({ webhook: { url } }),
  DOWNLOAD: (seconds) => ({ download: { expiresInSeconds: Number(seconds) } }),
  IN_APP: (recipient) => ({ inApp: { recipient } }),
};

/** Finds what a route leads to, as it is configured now. */
export class Targets {
  readonly #adapters: Adapters;
  readonly #directory: DestinationDirectory;
  readonly #providers: readonly ConfiguredProvider[];
  /** By the destination's configuration object, which is replaced when the destination changes. */
  readonly #choices = new WeakMap<JsonObject, Target>();

  constructor(adapters: Adapters, directory: DestinationDirectory, providers: readonly ConfiguredProvider[]) {
    this.#adapters = adapters;
    this.#directory = directory;
    this.#providers = providers;
  }

  /** @param chosen the configured provider to use, where the route leaves it open */
  async resolve(route: Route, chosen?: string): Promise<Target> {
    if (route.destinationId === undefined) return this.#bare(route, chosen);
    const known = this.#directory.peek(route.destinationId) ?? (await this.#directory.find(route.destinationId));
    if (!known) return noTarget('unknown', 'DESTINATION_DELETED', 'the destination was deleted');
    if (known.disabled !== undefined)
      return noTarget('unknown', 'DESTINATION_DISABLED', `the destination is disabled: ${known.disabled}`);
    return this.#ofDestination(known);
  }

  #ofDestination({ definition, config }: UsableDestination): Target {
    const kept = this.#choices.get(config);
    if (kept) return kept;
    const target = this.#target(definition.type, config, definition.retry ?? defaultRetryPolicy);
    this.#choices.set(config, target);
    return target;
  }

  #bare({ channel, address = '', provider: wanted }: Route, chosen: string | undefined): Target {
    const own = SELF_CONTAINED[channel];
    const name = wanted ?? chosen;
    if (own && wanted === undefined) return this.#target(channel, own(address), defaultRetryPolicy);
    const provider = this.#providers.find((each) => each.channel === channel && (!name || each.name === name));
    if (!provider)
      return noTarget(name ?? 'unknown', 'NO_PROVIDER', `no provider ${name ?? ''} is configured for ${channel}`);
    const target = this.#target(channel, provider.config, defaultRetryPolicy, provider.name);
    if (!target.ok) return target;
    // A device token of Apple's means nothing to Google, and would be taken for one of a device that is gone.
    if (target.adapter.validateAddress(address) !== undefined)
      return noTarget(provider.name, 'OTHER_PROVIDER', `${provider.name} has no addresses of this kind`);
    return { ...target, config: target.adapter.withAddress(target.config, address) };
  }

  #target(channel: Channel, config: JsonObject, policy: RetryPolicy, provider?: string): Target {
    const choice = this.#adapters.adapterFor(channel, config);
    if (Array.isArray(choice)) {
      const problems = choice.map(({ path, problem }) => `${path} ${problem}`).join('; ');
      return noTarget(provider ?? 'unknown', 'BAD_CONFIGURATION', problems.slice(0, 500));
    }
    return { ok: true, ...choice, provider: provider ?? choice.adapter.describe().provider, policy };
  }
}

const noTarget = (provider: string, code: string, message: string): Target => ({
  ok: false,
  provider,
  failure: { category: 'CONFIGURATION', code, message },
});
