import { createECDH, generateKeyPairSync } from 'node:crypto';
import { examples, nameOf } from '../../scripts/channel-docs.js';
import type { ChannelAdapter } from '../../src/channels/channel.js';
import { fieldsOf } from '../../src/channels/config-fields.js';
import type { JsonObject } from '../../src/domain/vocabulary.js';

/** The examples of docs/channels/examples.json as configurations, and what their fields are, whatever the provider. */

const rsa = generateKeyPairSync('rsa', { modulusLength: 2_048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
const vapid = createECDH('prime256v1');
const KEYS: Readonly<Record<string, string>> = {
  publicKey: vapid.generateKeys('base64url'),
  privateKey: Buffer.from(vapid.getPrivateKey('hex').padStart(64, '0'), 'hex').toString('base64url'),
  p256dh: vapid.getPublicKey('base64url'),
  auth: Buffer.alloc(16).toString('base64url'),
};

/** A good configuration. A private key has no place in a document; a dot stands for it there. */
export function exampleOf(adapter: ChannelAdapter, adapters: readonly ChannelAdapter[]): JsonObject {
  const name = nameOf(adapter, adapters);
  const example = examples[name];
  if (!example) throw new Error(`docs/channels/examples.json has none of ${name}`);
  const pem = (name === 'apns' ? ec : rsa).privateKey.export({ type: 'pkcs8', format: 'pem' });
  return JSON.parse(
    JSON.stringify(example, (field, value) => {
      if (typeof value !== 'string' || !value.includes('…')) return value;
      return value.includes('\n…\n') ? pem : KEYS[field];
    }),
  );
}

/** A copy with another value at a place, as the documentation names it; the place is made where it is missing. */
export function put(config: JsonObject, path: string, value: string): JsonObject {
  const [, name = '', isList, rest] = /^([^.[]+)(\[\])?(?:\.(.*))?$/.exec(path) ?? [];
  const own = config[name];
  const inner = (Array.isArray(own) ? own[0] : own) as JsonObject | undefined;
  const changed = rest === undefined ? value : put(inner ?? {}, rest, value);
  return { ...config, [name]: isList ? [changed] : changed };
}

export interface TextField {
  readonly adapter: ChannelAdapter;
  readonly example: JsonObject;
  readonly path: string;
  /** Of page and field, for people. */
  readonly name: string;
}

/** Fields that take any text, of all providers. */
export function textFieldsOf(adapters: readonly ChannelAdapter[]): TextField[] {
  return adapters.flatMap((adapter) => {
    const example = exampleOf(adapter, adapters);
    return fieldsOf(adapter.schema)
      .filter(({ type, path, values }) => /string|any/.test(type) && !path.includes('*') && !values)
      .map(({ path }) => ({ adapter, example, path, name: `${nameOf(adapter, adapters)} ${path}` }));
  });
}

/** Links that recipients are shown, and whom a push service may write to: Waybill itself never goes there. */
const LINKS = /(^|\.)((unsubscribe|buttons\[\])\.url|vapid\.subject)$/;

export const isHost = (path: string): boolean => /(^|\.)(host|hostname|server)$/i.test(path);
const acceptable = (path: string): string => (isHost(path) ? 'public.example.com' : 'https://public.example.com/');

/** What is wrong at this place, or below or above it where a form has alternatives; not what else may be missing there. */
export const isRefused = (field: TextField, value: string): boolean =>
  problemsAt(field, value).length > problemsAt(field, acceptable(field.path)).length;

function problemsAt({ adapter, example, path }: TextField, value: string) {
  const first = path.split(/[.[]/)[0] as string;
  return adapter
    .validate(put(example, path, value))
    .filter((problem) => problem.path === '' || problem.path.split('.')[0] === first);
}

/** Fields that say where a call goes: they take a URL, and refuse what is none. Found by what they take, so that none is forgotten. */
export const placesOf = (adapters: readonly ChannelAdapter[]): TextField[] =>
  textFieldsOf(adapters).filter(
    (field) =>
      !LINKS.test(field.path) &&
      (isHost(field.path) || (!isRefused(field, acceptable(field.path)) && isRefused(field, 'http//no-URL-at-all'))),
  );

/** A way to each of this machine's neighbours that nobody outside has: addresses as they stand in a URL. */
export const INSIDE: readonly string[] = [
  ...['127.0.0.2', '10.0.0.1', '169.254.169.254', '192.168.1.1', '0.0.0.0', '[::1]', '[fd00::1]'],
  ...['[::ffff:10.0.0.1]', '[::ffff:a9fe:a9fe]', '[64:ff9b::a00:1]', '[2002:a00:1::]'],
];
