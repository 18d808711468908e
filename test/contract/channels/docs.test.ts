import { createECDH, generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { examples, FOLDER, nameOf, pages } from '../../../scripts/channel-docs.js';
import { createChannels } from '../../../src/channels/registry.js';
import type { JsonObject } from '../../../src/domain/vocabulary.js';

const { registry, close } = createChannels({ allowedNetworks: [] });
afterAll(close);

describe('the pages of docs/channels', () => {
  it('say what the adapters say (npm run docs:channels writes them anew)', async () => {
    for (const [name, text] of await pages()) expect(readFileSync(join(FOLDER, name), 'utf8'), name).toBe(text);
  });

  it('are those of the adapters there are', async () => {
    const found = (await readdir(FOLDER)).filter((name) => name.endsWith('.md') && name !== 'writing-an-adapter.md');
    expect(found.sort()).toEqual([...(await pages()).keys()].sort());
  });

  it.each(registry.adapters.map((adapter) => [nameOf(adapter, registry.adapters), adapter] as const))(
    'have an example for %s that is a good configuration',
    (name, adapter) => {
      const example = examples[name];
      expect(example, 'an example in docs/channels/examples.json').toBeDefined();
      expect(adapter.validate(withKey(example as JsonObject, name))).toEqual([]);
    },
  );
});

describe('writing an adapter', () => {
  it('shows the adapter that the tests run', async () => {
    const page = await readFile(join(FOLDER, 'writing-an-adapter.md'), 'utf8');
    const [, shown] = /```ts\n([\s\S]*?)```/.exec(page) ?? [];
    expect(shown).toBe(await readFile(new URL('../../support/example-adapter.ts', import.meta.url), 'utf8'));
  });
});

const rsa = generateKeyPairSync('rsa', { modulusLength: 2_048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });

const vapid = createECDH('prime256v1');
const KEYS: Readonly<Record<string, string>> = {
  publicKey: vapid.generateKeys('base64url'),
  privateKey: Buffer.from(vapid.getPrivateKey('hex').padStart(64, '0'), 'hex').toString('base64url'),
  p256dh: vapid.getPublicKey('base64url'),
  auth: Buffer.alloc(16).toString('base64url'),
};

/** A private key has no place in a document; a dot stands for it. */
function withKey(example: JsonObject, name: string): JsonObject {
  const pem = (name === 'apns' ? ec : rsa).privateKey.export({ type: 'pkcs8', format: 'pem' });
  return JSON.parse(
    JSON.stringify(example, (field, value) => {
      if (typeof value !== 'string' || !value.includes('…')) return value;
      return value.includes('\n…\n') ? pem : KEYS[field];
    }),
  );
}
