import type { ChannelCatalog, ConfigPath } from '../../src/commands/channel-catalog.js';
import { isObject } from '../../src/commands/delivery-input.js';
import { withValue } from '../../src/commands/secrets.js';
import type { FieldProblem, Json, JsonObject } from '../../src/domain/vocabulary.js';

const valueAt = (config: JsonObject, path: ConfigPath): Json | undefined =>
  path.reduce<Json | undefined>((inner, key) => (isObject(inner) ? inner[key] : undefined), config);

/**
 * Two channels: WEBHOOK signs and has a secret, EMAIL has a password and reaches several people. As strict as the types
 * say: what is no text where text is promised throws.
 */
export class FakeCatalog implements ChannelCatalog {
  #secrets = 0;

  configProblems(channel: string, config: JsonObject): FieldProblem[] {
    const problems: FieldProblem[] = [];
    if (channel === 'WEBHOOK' && !String(valueAt(config, ['webhook', 'url'])).startsWith('https://'))
      problems.push({ path: 'config.webhook.url', problem: 'must be a URL' });
    return problems;
  }

  secretPaths(channel: string, config: JsonObject): ConfigPath[] {
    const headers = valueAt(config, ['webhook', 'headers']);
    const names = isObject(headers) ? Object.keys(headers) : [];
    const paths =
      channel === 'EMAIL'
        ? [['email', 'password']]
        : [['webhook', 'secret'], ['webhook', 'previousSecret'], ...names.map((name) => ['webhook', 'headers', name])];
    return paths.filter((path) => typeof valueAt(config, path) === 'string');
  }

  credentialPaths(channel: string, config: JsonObject): ConfigPath[] {
    return this.secretPaths(channel, config).filter(([, field]) => field === 'headers' || field === 'password');
  }

  newSigningSecret(channel: string) {
    if (channel !== 'WEBHOOK') return undefined;
    return { path: ['webhook', 'secret'], secret: `whsec_${++this.#secrets}`, isShared: true };
  }

  completed(_channel: string, config: JsonObject): JsonObject {
    return config;
  }

  rotated(channel: string, config: JsonObject, secret: string, previousUntil: Date): JsonObject | undefined {
    if (channel !== 'WEBHOOK') return undefined;
    const previous = valueAt(config, ['webhook', 'secret']) as string;
    const kept = withValue(config, ['webhook', 'previousSecret'], previous);
    const dated = withValue(kept, ['webhook', 'previousUntil'], previousUntil.toISOString());
    return withValue(dated, ['webhook', 'secret'], secret);
  }

  approvers(): undefined {
    return undefined;
  }

  server(channel: string, config: JsonObject): string {
    const server = valueAt(config, channel === 'EMAIL' ? ['email', 'host'] : ['webhook', 'url']);
    return /^\w+:\/\/[^/]*/.exec(String(server))?.[0] ?? String(server);
  }

  contentProblems(): FieldProblem[] {
    return [];
  }

  addressProblem(channel: string, address: string): string | undefined {
    if (typeof address !== 'string') throw new TypeError('an address is text');
    const isGood = channel === 'EMAIL' ? address.includes('@') : address.startsWith('https://');
    return isGood ? undefined : 'is no address of this channel';
  }

  providerProblem(channel: string, provider: string | undefined): string | undefined {
    const isKnown = provider === undefined || (channel === 'EMAIL' && provider === 'smtp');
    return isKnown ? undefined : `no provider ${provider} is configured`;
  }

  recipients(_: string, config: JsonObject): number {
    const to = valueAt(config, ['email', 'to']);
    return Array.isArray(to) ? to.length : 1;
  }

  retryPolicy(_: string, config: JsonObject) {
    const attempts = valueAt(config, ['webhook', 'retryConfig', 'maxRetries']);
    return typeof attempts === 'number' ? { maxAttempts: attempts + 1 } : undefined;
  }
}
