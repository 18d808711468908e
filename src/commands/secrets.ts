import { hidden, type Secrets } from '../domain/destination.js';
import type { Json, JsonObject } from '../domain/vocabulary.js';
import type { ConfigPath } from './channel-catalog.js';

const keyOf = (path: ConfigPath): string =>
  path.map((part) => part.replaceAll('~', '~0').replaceAll('/', '~1')).join('/');
const pathOf = (key: string): ConfigPath =>
  key.split('/').map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));

function valueAt(config: Json | undefined, path: ConfigPath): Json | undefined {
  const [key, ...rest] = path;
  if (key === undefined) return config;
  if (typeof config !== 'object' || config === null || Array.isArray(config)) return undefined;
  return Object.hasOwn(config, key) ? valueAt((config as JsonObject)[key], rest) : undefined;
}

/** A copy of the configuration with one value replaced. */
export function withValue(config: JsonObject, path: ConfigPath, value: Json): JsonObject {
  const [key, ...rest] = path;
  if (key === undefined) return config;
  const inner = Object.hasOwn(config, key) ? config[key] : undefined;
  const nested = rest.length === 0 ? value : withValue((inner ?? {}) as JsonObject, rest, value);
  const entries = Object.entries(config);
  const replaced = entries.map(([name, old]): [string, Json] => [name, name === key ? nested : old]);
  // fromEntries defines properties where an assignment would call a setter: a header may be named __proto__.
  return Object.fromEntries(Object.hasOwn(config, key) ? replaced : [...entries, [key, nested]]);
}

/** Takes the secrets out of a configuration and leaves `hidden` in their places. */
export function splitSecrets(
  config: JsonObject,
  paths: readonly ConfigPath[],
): { config: JsonObject; secrets: Secrets } {
  const secrets: [string, string][] = [];
  let shown = config;
  for (const path of paths) {
    const secret = valueAt(config, path);
    if (typeof secret !== 'string') continue;
    secrets.push([keyOf(path), secret]);
    shown = withValue(shown, path, hidden);
  }
  return { config: shown, secrets: Object.fromEntries(secrets) };
}

/** The configuration as the channel needs it. */
export const joinSecrets = (config: JsonObject, secrets: Secrets): JsonObject =>
  Object.entries(secrets).reduce((joined, [key, secret]) => withValue(joined, pathOf(key), secret), config);

/** Dotted paths of the secrets that are shown hidden: in an update, those to be kept. */
export const hiddenPaths = (config: JsonObject, paths: readonly ConfigPath[]): string[] =>
  paths.filter((path) => valueAt(config, path) === hidden).map((path) => path.join('.'));

/** A changed configuration in which `hidden` means: keep what was there. */
export function keepHidden(config: JsonObject, previous: Secrets): JsonObject {
  return Object.entries(previous).reduce(
    (kept, [key, secret]) => (valueAt(kept, pathOf(key)) === hidden ? withValue(kept, pathOf(key), secret) : kept),
    config,
  );
}
