import { emailContentProblems } from '../channels/email/compose.js';
import type { ChannelRegistry } from '../channels/registry.js';
import { newSecret, publicKeyOf, SIGNATURES } from '../channels/webhook/standard-webhooks.js';
import type { ChannelCatalog, ConfigPath, SigningKind } from '../commands/channel-catalog.js';
import type { RetryPolicy } from '../domain/retry-policy.js';
import type { Channel, Content, FieldProblem, Json, JsonObject } from '../domain/vocabulary.js';
import type { ConfiguredProvider } from '../sagas/targets.js';

/** Where a webhook's signing secrets are in a destination's configuration. */
const SIGNING_SECRET: ConfigPath = ['webhook', 'secret'];
const KINDS = { HMAC_SHA256: 'hmac-sha256', ED25519: 'ed25519' } as const;
const SIGNING = new Set(['webhook.secret', 'webhook.previousSecret']);

/** What intake wants to know of channels, answered by the adapters that are plugged in and the providers configured. */
export class PluggedChannels implements ChannelCatalog {
  readonly #registry: ChannelRegistry;
  readonly #providers: readonly ConfiguredProvider[];

  constructor(registry: ChannelRegistry, providers: readonly ConfiguredProvider[]) {
    this.#registry = registry;
    this.#providers = providers;
  }

  configProblems(channel: Channel, config: JsonObject): FieldProblem[] {
    return this.#registry.validate(channel, config);
  }

  secretPaths(channel: Channel, config: JsonObject): ConfigPath[] {
    return this.#registry.secretPaths(channel, config).map((path) => path.split('.'));
  }

  credentialPaths(channel: Channel, config: JsonObject): ConfigPath[] {
    return this.secretPaths(channel, config).filter((path) => !SIGNING.has(path.join('.')));
  }

  newSigningSecret(channel: Channel, config: JsonObject, wish?: SigningKind) {
    if (channel !== 'WEBHOOK') return undefined;
    const configured = isObject(config.webhook) ? config.webhook.signature : undefined;
    const signature = wish ? KINDS[wish] : (SIGNATURES.find((known) => known === configured) ?? 'hmac-sha256');
    return { path: SIGNING_SECRET, secret: newSecret(signature), isShared: signature === 'hmac-sha256' };
  }

  completed(channel: Channel, config: JsonObject): JsonObject {
    if (channel !== 'WEBHOOK' || !isObject(config.webhook)) return config;
    const { publicKey: _, previousPublicKey: __, ...webhook } = config.webhook;
    const current = publicHalf(webhook.secret);
    const previous = publicHalf(webhook.previousSecret);
    const keys = { ...(current && { publicKey: current }), ...(previous && { previousPublicKey: previous }) };
    return { ...config, webhook: { ...webhook, ...keys } };
  }

  rotated(channel: Channel, config: JsonObject, secret: string, previousUntil: Date): JsonObject | undefined {
    const webhook = config.webhook;
    if (channel !== 'WEBHOOK' || !isObject(webhook)) return undefined;
    const { secret: previous, ...rest } = webhook;
    const overlap =
      previous === undefined ? {} : { previousSecret: previous, previousSecretUntil: previousUntil.toISOString() };
    const signature = secret.startsWith('whsk_') ? 'ed25519' : 'hmac-sha256';
    return this.completed(channel, { ...config, webhook: { ...rest, signature, secret, ...overlap } });
  }

  approvers(channel: Channel, config: JsonObject): ConfigPath | undefined {
    const isNaming = channel === 'SLACK' && isObject(config.slack) && config.slack.approvals !== undefined;
    return isNaming ? ['slack', 'approvals'] : undefined;
  }

  server(_channel: Channel, config: JsonObject): string {
    return Object.values(config)
      .filter(isObject)
      .flatMap((inner) => [inner, inner.config, inner.oauth, inner.proxy].filter(isObject))
      .map(({ url, host, port, endpoint, tokenEndpoint, tokenUrl }) =>
        [originOf(url), host, port, originOf(endpoint), originOf(tokenEndpoint), originOf(tokenUrl)].join(' '),
      )
      .join();
  }

  addressProblem(channel: Channel, address: string): string | undefined {
    return this.#registry.addressProblem(channel, address);
  }

  providerProblem(channel: Channel, provider: string | undefined): string | undefined {
    const candidates = this.#providers.filter((each) => each.channel === channel);
    if (provider !== undefined)
      return candidates.some(({ name }) => name === provider)
        ? undefined
        : `no provider of that name is configured for ${channel}`;
    return NEEDS_NOBODY.has(channel) || candidates.length > 0 ? undefined : `no provider is configured for ${channel}`;
  }

  contentProblems(content: Content): FieldProblem[] {
    return emailContentProblems(content).map(({ path, problem }) => ({ path: `content.${path}`, problem }));
  }

  recipients(_channel: Channel, config: JsonObject): number {
    const lists = Object.values(config).map((inner) => (isObject(inner) ? inner.recipients : undefined));
    const list = lists.find(Array.isArray);
    return list?.length ?? 1;
  }

  retryPolicy(_channel: Channel, config: JsonObject): Partial<RetryPolicy> | undefined {
    const wishes = Object.values(config)
      .map((inner) => (isObject(inner) ? inner.retryConfig : undefined))
      .find(isObject);
    if (!wishes) return undefined;
    const { maxRetries, initialDelay, backoffMultiplier, maxBackoffDelay } = wishes;
    return {
      ...(typeof maxRetries === 'number' && { maxAttempts: maxRetries + 1 }),
      ...(typeof initialDelay === 'number' && { initialDelayMs: initialDelay }),
      ...(typeof backoffMultiplier === 'number' && { multiplier: backoffMultiplier }),
      ...(typeof maxBackoffDelay === 'number' && { maxDelayMs: maxBackoffDelay }),
    };
  }
}

/** A webhook's address is all there is to it, inboxes and downloads are our own; anything else needs somebody to send it. */
const NEEDS_NOBODY: ReadonlySet<Channel> = new Set<Channel>(['WEBHOOK', 'IN_APP', 'DOWNLOAD']);

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const publicHalf = (secret: Json | undefined): string | undefined =>
  typeof secret === 'string' ? publicKeyOf(secret) : undefined;

const originOf = (url: Json | undefined): Json | undefined =>
  typeof url === 'string' && URL.canParse(url) ? new URL(url).origin : url;
