import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { joinSecrets, keepHidden, splitSecrets, withValue } from '../../src/commands/secrets.js';
import { hidden } from '../../src/domain/destination.js';
import type { Json, JsonObject } from '../../src/domain/vocabulary.js';

/** Names as HTTP headers and careless people have them, and the ones that objects have by nature. */
const key = fc.oneof(
  fc.constantFrom(
    'secret',
    'headers',
    'X-Api/Key',
    'a~b',
    '~1',
    '~0',
    '/',
    '~',
    'a.b',
    '',
    '0',
    '__proto__',
    'constructor',
  ),
  fc.string({ maxLength: 4 }),
);
const secret = fc.string({ minLength: 1 }).filter((text) => text !== hidden);

/** Nested objects whose text leaves begin with "§:" are the secrets; the rest is no secret. */
const configs = fc.letrec<{ node: Json; object: JsonObject }>((tie) => ({
  node: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    secret.map((text): Json => `§:${text}`),
    fc.oneof(fc.integer(), fc.boolean(), fc.constant(null), fc.constant(['§:in a list'])) as fc.Arbitrary<Json>,
    tie('object'),
  ),
  object: fc.dictionary(key, tie('node'), { maxKeys: 4, noNullPrototype: true }),
})).object;

function secretsIn(config: JsonObject, path: string[] = []): string[][] {
  return Object.entries(config).flatMap(([name, value]) => {
    if (typeof value === 'string') return [[...path, name]];
    return value !== null && typeof value === 'object' && !Array.isArray(value)
      ? secretsIn(value as JsonObject, [...path, name])
      : [];
  });
}
/** Found by chance only now and then. */
const examples: [JsonObject][] = [[JSON.parse('{"__proto__":"§:secret"}')]];
/** Through the log: what is stored is JSON. */
const stored = <Value>(value: Value): Value => JSON.parse(JSON.stringify(value)) as Value;

describe('secrets of a configuration', () => {
  it('come back where they were', () => {
    fc.assert(
      fc.property(configs, (config) => {
        const split = stored(splitSecrets(config, secretsIn(config)));
        expect(stored(joinSecrets(split.config, split.secrets))).toEqual(stored(config));
      }),
      { examples },
    );
  });

  it('are nowhere in what is shown', () => {
    fc.assert(
      fc.property(configs, (config) => {
        const paths = secretsIn(config);
        const shown = JSON.stringify(splitSecrets(config, paths).config);
        expect(shown.split(JSON.stringify(hidden)).length - 1).toBe(paths.length);
        expect(shown.replaceAll('§:in a list', '')).not.toContain('"§:');
      }),
    );
  });

  it('are kept by whoever sends back what was shown', () => {
    fc.assert(
      fc.property(configs, (config) => {
        const { config: shown, secrets } = splitSecrets(config, secretsIn(config));
        expect(stored(keepHidden(shown, secrets))).toEqual(stored(config));
      }),
      { examples },
    );
  });

  it('are replaced where something else is sent, and gone where nothing is', () => {
    const { secrets } = splitSecrets({ webhook: { secret: 'old', headers: { 'X-Api/Key': 'k' } } }, [
      ['webhook', 'secret'],
      ['webhook', 'headers', 'X-Api/Key'],
    ]);
    expect(keepHidden({ webhook: { secret: 'new', headers: { 'X-Api/Key': hidden } } }, secrets)).toEqual({
      webhook: { secret: 'new', headers: { 'X-Api/Key': 'k' } },
    });
    expect(keepHidden({ webhook: {} }, secrets)).toEqual({ webhook: {} });
  });

  it('are not looked for where the configuration has none', () => {
    const config = { webhook: { url: 'https://a.example', secret: 7 }, list: ['secret'] };
    const paths = [
      ['webhook', 'secret'],
      ['webhook', 'none'],
      ['other', 'secret'],
      ['list', '0'],
      ['webhook', 'toString'],
    ];
    expect(splitSecrets(config, paths)).toEqual({ config, secrets: {} });
  });
});

it('replacing a value leaves the original and all objects as they were', () => {
  const original: JsonObject = { a: { b: 1 }, c: 2 };
  expect(withValue(original, ['a', 'b'], 3)).toEqual({ a: { b: 3 }, c: 2 });
  expect(withValue(original, ['d', 'e'], 3)).toEqual({ a: { b: 1 }, c: 2, d: { e: 3 } });
  withValue(original, ['__proto__', 'polluted'], true);
  expect(original).toEqual({ a: { b: 1 }, c: 2 });
  expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
});
