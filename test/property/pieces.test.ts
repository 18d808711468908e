import { createHash, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Pieces, plainSize } from '../../src/event-store/content/pieces.js';

/** Contents as they lie outside the log: whatever is asked of one is what was put there, or nothing. */
const PIECE = 65_536;
const SEALED = PIECE + 16;
const place = { key: { id: 'key-1', key: randomBytes(32) }, streamId: 'delivery-1', path: 'content.attachments.0' };

async function* inChunks(bytes: Buffer, size: number) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function collected(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}

/** @param was what was sealed, and what the event says of it */
function open(sealed: Buffer, pieces: Pieces, part?: { start: number; end: number }, was = sealed) {
  const range = part ?? { start: 0, end: plainSize(was.length) };
  const content = { size: was.length, digest: createHash('sha256').update(was).digest('hex') };
  return collected(pieces.open(content, range, ({ start, end }) => inChunks(sealed.subarray(start, end), 50_000)));
}

const sizes = fc.oneof(
  fc.constantFrom(0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 17),
  fc.integer({ min: 0, max: 5 * PIECE }),
);

it('any part of one is read as it was, whether it was sealed as a whole or as it came', async () => {
  await fc.assert(
    fc.asyncProperty(sizes, fc.integer({ min: 1, max: 100_000 }), fc.nat(), fc.nat(), async (size, chunk, a, b) => {
      const bytes = randomBytes(size);
      const pieces = new Pieces(place);
      const sealed = pieces.sealAll(bytes);
      expect(plainSize(sealed.length)).toBe(size);
      expect((await collected(pieces.seal(inChunks(bytes, chunk)))).equals(sealed)).toBe(true);
      const again = new Pieces(place, pieces.salt);
      expect((await open(sealed, again)).equals(bytes)).toBe(true);
      const [start, end] = [a % (size + 1), b % (size + 1)].sort((one, other) => one - other) as [number, number];
      expect((await open(sealed, again, { start, end })).equals(bytes.subarray(start, end))).toBe(true);
    }),
    { numRuns: 60 },
  );
});

it('one changed bit anywhere is found, whatever part of its piece is asked for', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 3 * PIECE }), fc.nat(), fc.nat(7), async (size, nth, bit) => {
      const pieces = new Pieces(place);
      const sealed = pieces.sealAll(randomBytes(size));
      const changed = Buffer.from(sealed);
      const at = nth % changed.length;
      changed[at] = (changed[at] as number) ^ (1 << bit);
      await expect(open(changed, pieces, undefined, sealed)).rejects.toThrow();
      const start = Math.min(Math.floor(at / SEALED) * PIECE, size - 1);
      await expect(open(changed, pieces, { start, end: start + 1 }, sealed)).rejects.toThrow();
    }),
    { numRuns: 60 },
  );
});

it('pieces that were cut off, exchanged, repeated or are of another content give nothing', async () => {
  const pieces = new Pieces(place);
  const sealed = pieces.sealAll(randomBytes(3 * PIECE));
  const [one, two, three] = [0, 1, 2].map((n) => sealed.subarray(n * SEALED, (n + 1) * SEALED)) as [
    Buffer,
    Buffer,
    Buffer,
  ];
  const other = new Pieces(place).sealAll(randomBytes(3 * PIECE));
  for (const tampered of [
    Buffer.concat([one, two]),
    sealed.subarray(0, sealed.length - 1),
    Buffer.concat([two, one, three]),
    Buffer.concat([one, two, two]),
    Buffer.concat([one, two, other.subarray(2 * SEALED)]),
  ]) {
    await expect(open(tampered, pieces, undefined, sealed)).rejects.toThrow();
    // Also by whoever could change what the event says of its size and digest.
    await expect(open(tampered, pieces)).rejects.toThrow();
  }
});

it('it is of no use elsewhere: not in another stream or field, not with another key or another salt', async () => {
  const pieces = new Pieces(place);
  const sealed = pieces.sealAll(randomBytes(1_000));
  const { salt } = pieces;
  const elsewhere = [
    new Pieces({ ...place, streamId: 'delivery-2' }, salt),
    new Pieces({ ...place, path: 'content.attachments.1' }, salt),
    new Pieces({ ...place, key: { id: 'key-2', key: place.key.key } }, salt),
    new Pieces({ ...place, key: { id: 'key-1', key: randomBytes(32) } }, salt),
    new Pieces(place),
  ];
  for (const wrong of elsewhere) await expect(open(sealed, wrong)).rejects.toThrow();
  expect(await open(sealed, new Pieces(place, salt))).toHaveLength(1_000);
});

it('the last piece is not given before the digest of all is right', async () => {
  const pieces = new Pieces(place);
  const sealed = pieces.sealAll(randomBytes(2 * PIECE));
  const given: number[] = [];
  const reading = async () => {
    const content = { size: sealed.length, digest: 'another one' };
    for await (const { length } of pieces.open(content, { start: 0, end: 2 * PIECE }, () => inChunks(sealed, PIECE)))
      given.push(length);
  };
  await expect(reading()).rejects.toThrow('digest');
  expect(given).toEqual([PIECE]);
});
