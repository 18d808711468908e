import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import {
  consistencyProof,
  EMPTY_ROOT,
  inclusionProof,
  isConsistent,
  leafHash,
  nodeHash,
  rangeProof,
  rootFromInclusion,
  rootOf,
  type Subtrees,
} from '../../src/audit/merkle.js';

const hex = (hashes: readonly Buffer[]) => hashes.map((hash) => hash.toString('hex'));

/** Written down as section 2.1.1 of RFC 9162 has it, to be compared with what is fast. */
function plainRoot(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return EMPTY_ROOT;
  if (leaves.length === 1) return leaves[0] as Buffer;
  let split = 1;
  while (split * 2 < leaves.length) split *= 2;
  return nodeHash(plainRoot(leaves.slice(0, split)), plainRoot(leaves.slice(split)));
}

const subtreesOf =
  (leaves: readonly Buffer[]): Subtrees =>
  async (level, index) =>
    plainRoot(leaves.slice(index * 2 ** level, (index + 1) * 2 ** level));

/**
 * The eight leaves and the values that Google's certificate-transparency and Trillian projects publish for RFC 6962
 * (merkletree test data: `TestInputs`, roots and proofs).
 */
describe('the published vectors of RFC 6962', () => {
  const inputs = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f'];
  const leaves = inputs.map((input) => leafHash(Buffer.from(input, 'hex').toString('latin1')));
  const subtrees = subtreesOf(leaves);

  it('of the empty tree and the empty leaf', () => {
    expect(EMPTY_ROOT.toString('hex')).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
    expect(leafHash('').toString('hex')).toBe('6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d');
  });

  it('of a leaf', () => {
    expect(leafHash('L123456').toString('hex')).toBe(
      '395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56',
    );
  });

  test.each([
    [1, '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d'],
    [2, 'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125'],
    [3, 'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77'],
    [4, 'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7'],
    [5, '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4'],
    [6, '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef'],
    [7, 'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c'],
    [8, '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328'],
  ])('the root of %i leaves', async (size, root) => {
    expect((await rootOf(size, subtrees)).toString('hex')).toBe(root);
  });

  test.each([
    [0, 1, []],
    [
      0,
      8,
      [
        '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
        '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
        '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
      ],
    ],
    [
      5,
      8,
      [
        'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
        'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
        'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
      ],
    ],
    [2, 3, ['fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125']],
    [
      1,
      5,
      [
        '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
        '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
        'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
      ],
    ],
  ])('the path of leaf %i in %i leaves', async (index, size, path) => {
    expect(hex(await inclusionProof(index, size, subtrees))).toEqual(path);
  });

  test.each([
    [1, 1, []],
    [
      1,
      8,
      [
        '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
        '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
        '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
      ],
    ],
    [
      6,
      8,
      [
        '0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a',
        'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
        'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
      ],
    ],
    [
      2,
      5,
      [
        '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
        'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
      ],
    ],
  ])('the consistency of %i and %i leaves', async (first, second, proof) => {
    expect(hex(await consistencyProof(first, second, subtrees))).toEqual(proof);
  });
});

describe('for any tree', () => {
  const trees = fc.array(fc.string({ maxLength: 8 }), { minLength: 1, maxLength: 70 }).map((all) => all.map(leafHash));

  it('the root is the one of the definition', () =>
    fc.assert(
      fc.asyncProperty(trees, async (leaves) => {
        expect(await rootOf(leaves.length, subtreesOf(leaves))).toEqual(plainRoot(leaves));
      }),
    ));

  it('an inclusion proof leads to the root, for this leaf at this place only', () =>
    fc.assert(
      fc.asyncProperty(trees, fc.nat(), fc.nat(), async (leaves, at, elsewhere) => {
        const index = at % leaves.length;
        const other = elsewhere % (leaves.length + 1);
        const size = leaves.length;
        const path = await inclusionProof(index, size, subtreesOf(leaves));
        const leaf = leaves[index] as Buffer;
        const root = plainRoot(leaves);
        expect(rootFromInclusion(index, size, leaf, path)).toEqual(root);
        const changed = Buffer.from(leaf);
        changed[at % 32] = (changed[at % 32] as number) ^ 1;
        expect(rootFromInclusion(index, size, changed, path)).not.toEqual(root);
        if (other !== index && !leaves[other]?.equals(leaf))
          expect(rootFromInclusion(other, size, leaf, path)).not.toEqual(root);
        expect(rootFromInclusion(index, size, leaf, [...path, leaf])).toBeUndefined();
        if (path.length > 0) expect(rootFromInclusion(index, size, leaf, path.slice(1))).not.toEqual(root);
      }),
    ));

  it('a consistency proof holds for these two trees only', () =>
    fc.assert(
      fc.asyncProperty(trees, fc.nat(), fc.nat(), async (leaves, at, where) => {
        const size = 1 + (at % leaves.length);
        const proof = await consistencyProof(size, leaves.length, subtreesOf(leaves));
        const first = { size, hash: plainRoot(leaves.slice(0, size)) };
        const second = { size: leaves.length, hash: plainRoot(leaves) };
        expect(isConsistent(first, second, proof)).toBe(true);
        const changed = [...leaves];
        changed[where % size] = leafHash(`changed ${where}`);
        expect(isConsistent({ size, hash: plainRoot(changed.slice(0, size)) }, second, proof)).toBe(false);
        expect(isConsistent(first, { ...second, hash: plainRoot(changed) }, proof)).toBe(false);
        expect(isConsistent(first, second, [...proof, first.hash])).toBe(false);
      }),
    ));

  it('leaves of a range and the hashes beside them give the root', () =>
    fc.assert(
      fc.asyncProperty(trees, fc.nat(), fc.nat(), async (leaves, a, b) => {
        const size = leaves.length;
        const [from, to] = [a % size, (a % size) + 1 + (b % (size - (a % size)))];
        const { before, after } = await rangeProof({ from, to, size }, subtreesOf(leaves));
        const root = (low: number, high: number): Buffer => {
          if (high <= from) return before.shift() as Buffer;
          if (low >= to) return after.shift() as Buffer;
          if (low >= from && high <= to) return plainRoot(leaves.slice(low, high));
          let split = 1;
          while (split * 2 < high - low) split *= 2;
          return nodeHash(root(low, low + split), root(low + split, high));
        };
        expect(root(0, size)).toEqual(plainRoot(leaves));
        expect([...before, ...after]).toEqual([]);
      }),
    ));
});
