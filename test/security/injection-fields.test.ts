import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createChannels } from '../../src/channels/registry.js';
import type { JsonObject } from '../../src/domain/vocabulary.js';
import { Offers } from '../support/offers.js';
import { type HttpPeer, type RecordedRequest, startHttpPeer } from '../support/peers/http-peer.js';
import { placesOf, put, type TextField, textFieldsOf } from '../support/provider-examples.js';

/**
 * What an attacker would write into any text field of any provider that is spoken to over HTTP/1.1: it is refused when it is
 * stored, or it arrives as text. Of a new provider all fields are tried too, found by its schema.
 */
const channels = createChannels({ allowedNetworks: ['127.0.0.0/8'], downloads: new Offers() });
const { adapters } = channels.registry;
const received: RecordedRequest[] = [];
let peer: HttpPeer;
/** What each of them takes for a success, or for a token. */
const ANSWER = { access_token: 'token', expires_in: 3_600, sid: 'SM1', name: 'n', id: 'i', ok: true, status: 'ok' };
beforeAll(async () => {
  peer = await startHttpPeer(
    (request) => {
      received.push(request);
      return { body: ANSWER };
    },
    { record: false },
  );
});
afterAll(async () => {
  await channels.close();
  await peer.close();
});

/** Push to Apple's devices is HTTP/2, mail by SMTP and files by SFTP are no HTTP: their own tests have these rows. */
const OTHERWISE = new Set(['apns', 'smtp', 'sftp', 'local', 'inapp', 'download']);
const places = placesOf(adapters).filter(({ path }) => path !== 'proxy.url' && path !== 'oauth.tokenUrl');

/** The example, with everything that is called replaced by the peer. */
function pointed({ adapter, example }: TextField): JsonObject {
  return places
    .filter((place) => place.adapter === adapter)
    .reduce((config, { path }) => put(config, path, `${peer.origin}/base`), example);
}
const fields = textFieldsOf(adapters).filter(
  ({ adapter, path }) =>
    !OTHERWISE.has(adapter.describe().provider) &&
    !/^(proxy|oauth|tls|retention)\./.test(path) &&
    !places.some((place) => place.adapter === adapter && place.path === path),
);
const at = (config: JsonObject, path: string): unknown =>
  path
    .replaceAll('[]', '.0')
    .split('.')
    .reduce<unknown>((value, name) => (value as Record<string, unknown> | undefined)?.[name], config);

const content = {
  ...{ subject: 'subject', text: 'text' },
  data: { total: 1, totalEvents: 1, ward: 4, customer: 'c', name: 'n', status: 's' },
};
/** @returns the fields that were refused, or what was sent */
async function tried(field: TextField, value: string) {
  const config = put(pointed(field), field.path, value);
  const problems = field.adapter.validate(config).map(({ path }) => path);
  if (problems.length > 0) return { problems };
  const before = received.length;
  const message = {
    ...{ deliveryId: 'delivery-1', organizationId: 'organization-1', requestedAt: '2026-03-04T05:06:07.000Z' },
    ...{ config, content, callbackUrl: 'https://waybill.hospital.example/callbacks' },
  };
  const now = new Date();
  const outcome = await field.adapter.send(message, { signal: new AbortController().signal, attemptKey: 'a-1', now });
  return { problems, outcome, requests: received.slice(before) };
}
const first = (path: string): string => path.split(/[.[]/)[0] as string;

describe('a line break in', () => {
  it.each(fields.map((field) => [field.name, field] as const))(
    '%s begins no header',
    async (_, field) => {
      const good = at(field.example, field.path);
      for (const value of ['\r\nX-Injected: yes', '\nX-Injected: yes\r\n\r\nGET /admin HTTP/1.1'].map(
        (injected) => `${typeof good === 'string' ? good : 'a'}${injected}`,
      )) {
        const { problems, requests = [] } = await tried(field, value);
        if (problems.length > 0) expect(problems.map(first)).toContain(first(field.path));
        for (const { headers, path } of requests) {
          expect(headers).not.toHaveProperty('x-injected');
          // Of WNS it is the device's.
          expect(path).toMatch(/^\/(base|w\/)/);
        }
      }
    },
    60_000,
  );
});

/** Takes a template: refuses one that is not closed, and no other text. */
const isTemplate = (field: TextField): boolean => {
  const count = (value: string) => field.adapter.validate(put(field.example, field.path, value)).length;
  const prefix = /url$/i.test(field.path) ? 'https://public.example.com/' : '';
  return count(`${prefix}{{ broken`) > count(`${prefix}plain`);
};

describe('a template', () => {
  const templates = fields.filter(isTemplate);
  it('is in most providers of messages', () => {
    expect(templates.length).toBeGreaterThan(25);
  });

  it.each(templates.map((field) => [field.name, field] as const))(
    '%s runs no code, reads no file and comes to an end',
    async (_, field) => {
      const prefix = /url$/i.test(field.path) ? 'https://public.example.com/' : '';
      for (const code of [
        '{{ "".constructor.constructor("return process.env.PATH")() }}',
        '{{ subject.constructor }}{{ __proto__ }}{{ toString }}',
        '{% include "/etc/passwd" %}',
        '{% render "../../../../../../etc/passwd" %}',
        '{% for i in (1..1000000000) %}x{% endfor %}',
        '{% assign x = "xxxxxxxxxx" %}{% for i in (1..60) %}{% assign x = x | append: x %}{% endfor %}{{ x }}',
      ]) {
        const { problems, outcome, requests = [] } = await tried(field, `${prefix}${code}`);
        if (problems.length > 0) expect(problems.map(first)).toContain(first(field.path));
        else expect(outcome, code).toMatchObject({ kind: 'rejected', category: 'VALIDATION', code: 'TEMPLATE_ERROR' });
        for (const { raw, path } of requests) {
          expect(raw + path).not.toContain('root:');
          expect(raw + path).not.toContain(process.env.PATH as string);
        }
      }
    },
    60_000,
  );
});
