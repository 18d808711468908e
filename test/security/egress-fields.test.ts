import { afterAll, describe, expect, it } from 'vitest';
import type { ChannelAdapter } from '../../src/channels/channel.js';
import { createChannels } from '../../src/channels/registry.js';
import type { JsonObject } from '../../src/domain/vocabulary.js';
import { Offers } from '../support/offers.js';
import { INSIDE, isHost, isRefused, placesOf, textFieldsOf } from '../support/provider-examples.js';

/**
 * Every field of every provider's configuration that says where a call goes refuses what is not public, and no provider calls
 * a name that leads inside. Of a new provider all of it is tried too: its example in docs/channels/examples.json is all it needs.
 */
const channels = createChannels({ allowedNetworks: [] });
afterAll(() => channels.close());
const { adapters } = channels.registry;

const NO_HTTP = ['file:///etc/passwd', 'gopher://public.example.com/', 'javascript:alert(1)'];
const places = placesOf(adapters);

describe('where a provider is called', () => {
  it('fields whose names say so are among those that are tried', () => {
    const tried = new Set(places.map(({ name }) => name));
    const named = textFieldsOf(adapters)
      .filter(
        ({ path }) => /(url|uri|endpoint|host|server)$/i.test(path) && !/(unsubscribe|buttons\[\])\.url$/.test(path),
      )
      .map(({ name }) => name);
    expect(named.filter((name) => !tried.has(name))).toEqual([]);
    // Each provider that is called over a network has at least its proxy.
    expect(tried.size).toBeGreaterThan(45);
  });

  it.each(places.map((place) => [place.name, place] as const))('%s', (_, place) => {
    const values = isHost(place.path)
      ? INSIDE.map((host) => host.replace(/^\[|\]$/g, ''))
      : [
          ...INSIDE.flatMap((host) => [`http://${host}/`, `https://${host}:8443/x`]),
          ...NO_HTTP,
          ...[
            'https://a:b@public.example.com/',
            'https://public.example.com/\r\nX-Injected: yes',
            'https://public.\texample.com/',
          ],
        ];
    expect(values.filter((value) => !isRefused(place, value))).toEqual([]);
  });
});

describe('a name that leads inside', () => {
  /** Names are good when they are stored, and lead inside when they are called: DNS as an attacker runs it. */
  let address = '10.0.0.1';
  const resolver = ((_: string, __: object, done: (error: null, found: object[]) => void) =>
    done(null, [{ address, family: address.includes(':') ? 6 : 4 }])) as never;
  const guarded = createChannels({ allowedNetworks: [], resolver, downloads: new Offers() });
  afterAll(() => guarded.close());

  const data = { total: 1, totalEvents: 1, ward: 4, customer: 'c', name: 'n', status: 's' };
  const send = (adapter: ChannelAdapter, config: JsonObject) =>
    adapter.send(
      {
        ...{ deliveryId: 'delivery-1', organizationId: 'organization-1', requestedAt: '2026-03-04T05:06:07.000Z' },
        ...{ config, content: { subject: 'subject', text: 'text', data } },
      },
      { signal: new AbortController().signal, attemptKey: 'attempt-1', now: new Date() },
    );
  const blocked = { kind: 'rejected', category: 'CONFIGURATION', code: 'BLOCKED_ADDRESS' };
  const called = placesOf(guarded.registry.adapters).filter(({ path }) => path === 'proxy.url');

  it.each(called.map((place) => [place.name.replace(' proxy.url', ''), place] as const))(
    '%s is not called by, nor its proxy',
    async (_, { adapter, example }) => {
      const proxied = { ...example, proxy: { url: 'http://proxy.example.com:3128' } };
      expect([adapter.validate(example), adapter.validate(proxied)]).toEqual([[], []]);
      for (const inside of ['10.0.0.1', '::ffff:10.0.0.1', '64:ff9b::a00:1']) {
        address = inside;
        for (const config of [example, proxied]) expect(await send(adapter, config), inside).toMatchObject(blocked);
      }
      expect(await adapter.test(example, { signal: new AbortController().signal })).toMatchObject({ ok: false });
    },
    60_000,
  );
});
