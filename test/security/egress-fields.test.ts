import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import type { ChannelAdapter } from '../../src/channels/channel.js';
import { fieldsOf } from '../../src/channels/config-fields.js';
import { createChannels } from '../../src/channels/registry.js';
import type { JsonObject } from '../../src/domain/vocabulary.js';

/**
 * Every field of every provider's configuration that says where a call goes refuses what is not public. The fields are found by
 * what they take, so that of a new provider they are tried too: its example in docs/channels/examples.json is all it needs.
 */
const channels = createChannels({ allowedNetworks: [] });
afterAll(() => channels.close());
const examples = JSON.parse(
  readFileSync(new URL('../../docs/channels/examples.json', import.meta.url), 'utf8'),
) as Record<string, JsonObject>;

const INSIDE = [
  '127.0.0.1',
  '10.0.0.1',
  '169.254.169.254',
  '[::1]',
  '[::ffff:10.0.0.1]',
  '[64:ff9b::a00:1]',
  '0.0.0.0',
];
const NO_HTTP = ['file:///etc/passwd', 'gopher://public.example.com/', 'javascript:alert(1)'];

/** A copy of an example with another value at a place, which is made where it is missing. */
function put(config: JsonObject, path: string, value: string): JsonObject {
  const [, name = '', isList, rest] = /^([^.[]+)(\[\])?(?:\.(.*))?$/.exec(path) ?? [];
  const own = config[name];
  const inner = (Array.isArray(own) ? own[0] : own) as JsonObject | undefined;
  const changed = rest === undefined ? value : put(inner ?? {}, rest, value);
  return { ...config, [name]: isList ? [changed] : changed };
}

/** What is wrong at this place, or below or above it where a form has alternatives; not what else may be missing there. */
const isRefused = (adapter: ChannelAdapter, path: string, value: string): boolean =>
  problemsAt(adapter, path, value).length > problemsAt(adapter, path, acceptable(path)).length;

function problemsAt(adapter: ChannelAdapter, path: string, value: string) {
  const { provider } = adapter.describe();
  const first = path.split(/[.[]/)[0] as string;
  return adapter
    .validate(put(examples[provider] ?? {}, path, value))
    .filter((problem) => problem.path === '' || problem.path.split('.')[0] === first);
}

const isHost = (path: string): boolean => /(^|\.)(host|hostname|server)$/i.test(path);
const acceptable = (path: string): string => (isHost(path) ? 'public.example.com' : 'https://public.example.com/');

/** Links that recipients are shown, and whom a push service may write to: Waybill itself never goes there. */
const LINKS = /(^|\.)((unsubscribe|buttons\[\])\.url|vapid\.subject)$/;

const fields = channels.registry.adapters.flatMap((adapter) =>
  fieldsOf(adapter.schema)
    .filter(({ type, path, values }) => type.includes('string') && !path.includes('*') && !values && !LINKS.test(path))
    .map(({ path }) => ({ adapter, path, name: `${adapter.describe().provider} ${path}` })),
);
/** Takes a URL, and refuses what is none. */
const places = fields.filter(
  ({ adapter, path }) =>
    isHost(path) || (!isRefused(adapter, path, acceptable(path)) && isRefused(adapter, path, 'http//no-URL-at-all')),
);

describe('where a provider is called', () => {
  it('every provider has an example to be tried with', () => {
    const providers = channels.registry.adapters.map((adapter) => adapter.describe().provider);
    expect(providers.filter((provider) => !(provider in examples))).toEqual([]);
  });

  it('fields whose names say so are among those that are tried', () => {
    const tried = new Set(places.map(({ name }) => name));
    const named = fields.filter(({ path }) => /(url|uri|endpoint|host|server)$/i.test(path)).map(({ name }) => name);
    expect(named.filter((name) => !tried.has(name))).toEqual([]);
    expect(tried.size).toBeGreaterThan(15);
  });

  it.each(places)('$name', ({ adapter, path }) => {
    const values = isHost(path)
      ? INSIDE.map((host) => host.replace(/^\[|\]$/g, ''))
      : [
          ...INSIDE.flatMap((host) => [`http://${host}/`, `https://${host}:8443/x`]),
          ...NO_HTTP,
          'https://a:b@public.example.com/',
        ];
    expect(values.filter((value) => !isRefused(adapter, path, value))).toEqual([]);
  });
});
