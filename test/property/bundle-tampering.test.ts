import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { describe, expect, it, test } from 'vitest';
import { verifyBundle as verifyIndependently } from '../../docs/audit/verify.mjs';
import { entryLine } from '../../src/audit/bundle.js';
import { verifyBundle } from '../../src/audit/bundle-verifier.js';
import { originOf, signCheckpoint } from '../../src/audit/checkpoint.js';
import { leafOf } from '../../src/audit/entry.js';
import { leafHash } from '../../src/audit/merkle.js';
import { signerOf } from '../../src/audit/signed-note.js';
import { CHAIN_START, TreeBuilder } from '../../src/audit/tree-builder.js';
import type { RecordedEvent } from '../../src/event-store/event-store.js';

const origin = originOf(randomUUID());
const signer = signerOf(origin, generateKeyPairSync('ed25519').privateKey);
const stranger = signerOf(origin, generateKeyPairSync('ed25519').privateKey);

const eventOf = (index: number): RecordedEvent => ({
  streamId: `delivery-${randomUUID()}`,
  revision: 0,
  position: BigInt(index + 1),
  id: randomUUID(),
  type: 'DeliveryRequested',
  // What lines must not be broken at, though some call it the end of one.
  data: { n: index, text: 'ünïcödé \u2028 "quoted" \\ [1,"a"]' },
  metadata: { organizationId: 'a', actor: 'ada' },
  created: '2026-03-02T12:00:00.000Z',
});

/** A bundle of a whole trail, with a checkpoint every `every` entries; `signing` is who signs the last ones. */
function bundleOf(events: readonly RecordedEvent[], every: number, signing = signer): string[] {
  const tree = new TreeBuilder();
  const header = { waybill: 'audit-bundle', version: 1, origin, from: 0, to: events.length };
  const lines = [JSON.stringify({ ...header, chain: CHAIN_START.toString('base64'), before: [], keys: [signer.text] })];
  let previous = 0;
  const note = (): string => {
    const { size, root, position, chain } = tree;
    const made = { origin, size, root, position, time: '2026-03-02T12:00:01.000Z', chain, previous };
    previous = size;
    return signCheckpoint(made, [signing]);
  };
  for (const [index, event] of events.entries()) {
    tree.add(event);
    tree.takeChanged();
    lines.push(entryLine(index, leafHash(leafOf(event)), tree.chain, event));
    if (tree.size % every === 0 && tree.size < events.length) lines.push(JSON.stringify({ checkpoint: note() }));
  }
  lines.push(JSON.stringify({ end: true, after: [], checkpoint: note() }));
  return lines;
}

const EVERY = 25;
const events = Array.from({ length: 90 }, (_, index) => eventOf(index));
const bundle = bundleOf(events, EVERY);
/** The line of an entry: checkpoints stand between them. */
const lineOf = (index: number): number => bundle.findIndex((line) => line.startsWith(`[${index},`));

/** Both readings must say the same. */
async function verdictOf(lines: readonly string[], keys?: readonly string[]) {
  const ours = await verifyBundle(lines, keys ? { keys } : {});
  const theirs = await verifyIndependently(lines, [...(keys ?? [])]);
  expect({ ok: theirs.ok, firstBadIndex: theirs.firstBadIndex }, `${ours.problem} / ${theirs.problem}`).toEqual({
    ok: ours.ok,
    firstBadIndex: ours.firstBadIndex,
  });
  return ours;
}

const changed = (line: number, how: (text: string) => string) =>
  bundle.map((text, at) => (at === line ? how(text) : text));
const without = (...lines: number[]) => bundle.filter((_, at) => !lines.includes(at));

it('an untouched bundle is right', async () => {
  expect(await verdictOf(bundle)).toMatchObject({ ok: true, entries: 90, checkpoints: 4, firstBadIndex: null });
  expect(await verdictOf(bundle, [signer.text])).toMatchObject({ ok: true });
});

describe('the first bad entry is named when', () => {
  const insider = (from: number, how: (event: RecordedEvent) => RecordedEvent) =>
    bundleOf(
      events.map((event, index) => (index === from ? how(event) : event)),
      EVERY,
      stranger,
    );
  test.each<[string, () => readonly string[], number]>([
    ['an entry is deleted', () => without(lineOf(41)), 41],
    ['the first entry is deleted', () => without(lineOf(0)), 0],
    [
      'an entry is inserted',
      () => [...bundle.slice(0, lineOf(30)), bundle[lineOf(12)] as string, ...bundle.slice(lineOf(30))],
      30,
    ],
    [
      'an entry is inserted under the next number',
      () => {
        const forged = entryLine(30, leafHash(leafOf(eventOf(5))), CHAIN_START, eventOf(5));
        return [...bundle.slice(0, lineOf(30)), forged, ...bundle.slice(lineOf(30))];
      },
      30,
    ],
    [
      'two entries have changed places',
      () =>
        bundle.map((line, at) => bundle[at === lineOf(60) ? lineOf(61) : at === lineOf(61) ? lineOf(60) : at] ?? line),
      60,
    ],
    ['one bit of an entry has changed', () => changed(lineOf(77), (line) => line.replace('"n":77', '"n":76')), 77],
    [
      'one character of its hash has changed',
      () => changed(lineOf(8), (line) => line.replace(/"[A-Za-z0-9]/, (found) => (found === '"A' ? '"B' : '"A'))),
      8,
    ],
    ['its number is another one', () => changed(lineOf(8), (line) => line.replace('[8,', '[9,')), 8],
    ['a line is no JSON', () => changed(lineOf(50), (line) => line.slice(0, -1)), 50],
    ['the tail is cut', () => bundle.slice(0, lineOf(66)), 66],
    ['the tail is cut before the end', () => bundle.slice(0, -1), 90],
    ['the tail is cut and the end put back', () => [...bundle.slice(0, lineOf(66)), bundle.at(-1) as string], 66],
    ['something is added at the end', () => [...bundle, bundle[1] as string], 90],
    ['the header says less', () => changed(0, (line) => line.replace('"to":90', '"to":60')), 60],
    ['the chain begins elsewhere', () => changed(0, (line) => line.replace(/"chain":"A/, '"chain":"B')), 0],
    [
      'a checkpoint says another root',
      () =>
        changed(lineOf(49) + 1, (line) =>
          line.replace(/\\n50\\n./, (found) => `${found.slice(0, -1)}${found.endsWith('A') ? 'B' : 'A'}`),
        ),
      25,
    ],
    [
      'a checkpoint is in the wrong place',
      () => [
        ...without(lineOf(49) + 1).slice(0, lineOf(49) - 3),
        bundle[lineOf(49) + 1] as string,
        ...bundle.slice(lineOf(49) - 3),
      ],
      25,
    ],
    ['somebody has made everything anew, but the key', () => insider(33, (event) => ({ ...event, type: 'Forged' })), 0],
  ])('%s', async (_, tampered, index) => {
    const { ok, firstBadIndex, problem } = await verdictOf(tampered());
    expect({ ok, firstBadIndex, problem }).toEqual({ ok: false, firstBadIndex: index, problem: expect.any(String) });
  });

  it('somebody has made the rest anew: it is one since the last checkpoint that holds', async () => {
    const forged = bundleOf(
      events.map((event, index) => (index === 33 ? { ...event, type: 'Forged' } : event)),
      EVERY,
    );
    const kept = [...forged.slice(0, lineOf(49) + 1), ...bundle.slice(lineOf(49) + 1)];
    expect(await verdictOf(kept)).toMatchObject({ ok: false, firstBadIndex: 25 });
  });
});

it('any changed character is found', async () => {
  const text = bundle.slice(0, 6).join('\n').length;
  const whole = bundle.join('\n');
  for (let at = 2; at < text; at += 41) {
    const lines = (whole.slice(0, at) + (whole[at] === '~' ? '-' : '~') + whole.slice(at + 1)).split('\n');
    expect(await verdictOf(lines), whole.slice(Math.max(0, at - 20), at + 20)).toMatchObject({ ok: false });
  }
});

it('keys that are known from elsewhere are the only ones that count', async () => {
  expect(await verdictOf(bundle, [stranger.text])).toMatchObject({ ok: false, firstBadIndex: 0 });
});

it('a checkpoint that is known from elsewhere must agree', async () => {
  const forged = bundleOf(
    events.map((event, index) => (index === 33 ? { ...event, type: 'Forged' } : event)),
    EVERY,
  );
  const note = JSON.parse(bundle[lineOf(49) + 1] as string).checkpoint;
  expect(await verifyBundle(bundle, { checkpoints: [note] })).toMatchObject({ ok: true, checkpoints: 5 });
  expect(await verifyBundle(forged, { checkpoints: [note] })).toMatchObject({ ok: false, firstBadIndex: 25 });
});

it('a bundle of 100,000 entries takes each verifier less than 10 s', { timeout: 180_000 }, async () => {
  const large = bundleOf(
    Array.from({ length: 100_000 }, (_, index) => eventOf(index)),
    10_000,
  );
  for (const verify of [verifyBundle, verifyIndependently]) {
    const before = process.cpuUsage();
    expect(await verify(large)).toMatchObject({ ok: true, entries: 100_000 });
    const { user, system } = process.cpuUsage(before);
    // CPU time: the machine that runs the tests may have other things to do.
    expect((user + system) / 1e6).toBeLessThan(10);
  }
});
