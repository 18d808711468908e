/** `npm run bench:bundle`: how long an auditor waits for the verdict on a bundle, by Waybill's verifier and by the independent one. */
import { spawn } from 'node:child_process';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { entryLine } from '../../src/audit/bundle.js';
import { originOf, signCheckpoint } from '../../src/audit/checkpoint.js';
import { leafOf } from '../../src/audit/entry.js';
import { leafHash } from '../../src/audit/merkle.js';
import { signerOf } from '../../src/audit/signed-note.js';
import { CHAIN_START, TreeBuilder } from '../../src/audit/tree-builder.js';
import type { RecordedEvent } from '../../src/event-store/event-store.js';
import { REPOSITORY } from '../../test/support/waybill-process.js';
import { command } from './command.js';

/** As the audit makes one after so many entries by default. */
const CHECKPOINT_EVERY = 10_000;
/** What a request of 500 bytes takes when it is sealed. */
const SEALED_BYTES = 700;

await command({
  name: 'bundle',
  about:
    'Makes a bundle of so many entries, each with what a webhook of 500 bytes leaves in the log, and verifies it with both verifiers.',
  options: { entries: { default: 100_000, least: 1_000, most: 10_000_000, says: 'entries' } },
  async run({ entries }, cleanUp) {
    const folder = await cleanUp.opened(mkdtemp(join(tmpdir(), 'waybill-bundle-')), (path) =>
      rm(path, { recursive: true }),
    );
    const file = join(folder, 'bundle.jsonl');
    await pipeline(linesOf(entries), createWriteStream(file));
    const seconds = async (...argv: string[]) => {
      const start = performance.now();
      const child = spawn(process.execPath, argv, { cwd: REPOSITORY, stdio: ['ignore', 'ignore', 'inherit'] });
      const [code] = await once(child, 'exit');
      if (code !== 0) throw new Error(`${argv.join(' ')} ended with ${code}`);
      return Math.round((performance.now() - start) / 10) / 100;
    };
    const budget = entries === 100_000 ? { budget: 'at most 10' } : {};
    return [
      { key: 'mebibytes', title: 'size of the bundle, MiB', value: Math.round((await stat(file)).size / 2 ** 20) },
      {
        ...{ key: 'waybillSeconds', title: 'waybill audit verify --offline, s', ...budget },
        value: await seconds('bin/waybill.mjs', 'audit', 'verify', file, '--offline'),
      },
      {
        ...{ key: 'independentSeconds', title: 'docs/audit/verify.mjs, s', ...budget },
        value: await seconds('docs/audit/verify.mjs', file),
      },
    ];
  },
});

function* linesOf(entries: number): Generator<string> {
  const origin = originOf(randomUUID());
  const signer = signerOf(origin, generateKeyPairSync('ed25519').privateKey);
  const tree = new TreeBuilder();
  const header = { waybill: 'audit-bundle', version: 1, origin, from: 0, to: entries };
  yield `${JSON.stringify({ ...header, chain: CHAIN_START.toString('base64'), before: [], keys: [signer.text] })}\n`;
  let previous = 0;
  const note = (): string => {
    const { size, root, position, chain } = tree;
    const made = { origin, size, root, position, time: new Date().toISOString(), chain, previous };
    previous = size;
    return signCheckpoint(made, [signer]);
  };
  for (let index = 0; index < entries; index++) {
    const event = eventOf(index);
    tree.add(event);
    tree.takeChanged();
    yield `${entryLine(index, leafHash(leafOf(event)), tree.chain, event)}\n`;
    if (tree.size % CHECKPOINT_EVERY === 0 && tree.size < entries) yield `${JSON.stringify({ checkpoint: note() })}\n`;
  }
  yield JSON.stringify({ end: true, after: [], checkpoint: note() });
}

function eventOf(index: number): RecordedEvent {
  return {
    streamId: `delivery-${randomUUID()}`,
    revision: 0,
    position: BigInt(index + 1),
    id: randomUUID(),
    type: 'DeliveryRequested',
    data: { organizationId: 'hospital-001', priority: 'NORMAL', sealed: 'A'.repeat(SEALED_BYTES) },
    metadata: { organizationId: 'hospital-001', actor: 'key:ada', commandId: randomUUID() },
    created: new Date().toISOString(),
  };
}
