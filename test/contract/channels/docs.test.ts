import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { examples, FOLDER, nameOf, pages } from '../../../scripts/channel-docs.js';
import { createChannels } from '../../../src/channels/registry.js';
import { exampleOf } from '../../support/provider-examples.js';

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
      expect(examples[name], 'an example in docs/channels/examples.json').toBeDefined();
      expect(adapter.validate(exampleOf(adapter, registry.adapters))).toEqual([]);
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
