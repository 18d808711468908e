import { hash } from 'node:crypto';

/**
 * The Merkle tree of RFC 9162 (the same as RFC 6962's), section 2.1: leaves are SHA-256(0x00 ‖ bytes), nodes are
 * SHA-256(0x01 ‖ left ‖ right), and a tree of n leaves is split at the largest power of two below n.
 *
 * Sizes and indexes are JavaScript numbers; no bit operators are used, which would end at 2^31.
 */

export const HASH_BYTES = 32;

/**
 * As text first: for a digest that is a buffer from the beginning node takes memory of its own, which costs more than the
 * hash of two hashes.
 */
export const sha256 = (bytes: Buffer | string): Buffer => Buffer.from(hash('sha256', bytes, 'binary'), 'binary');

export const EMPTY_ROOT = sha256('');

/** Hashing is synchronous and keeps no reference, so one buffer serves all leaves, and one all nodes. */
let leafInput = Buffer.alloc(16 * 1024);
const nodeInput = Buffer.alloc(1 + 2 * HASH_BYTES, 1);
/** UTF-8 needs at most this many bytes for one unit of a JavaScript string. */
const MOST_BYTES_PER_UNIT = 3;
/** Larger leaves (attachments) get a buffer of their own. */
const SHARED_UNITS = 64 * 1024;

export function leafHash(leaf: string): Buffer {
  const most = 1 + leaf.length * MOST_BYTES_PER_UNIT;
  if (leaf.length > SHARED_UNITS) return sha256(Buffer.concat([Buffer.alloc(1), Buffer.from(leaf)]));
  if (leafInput.length < most) leafInput = Buffer.alloc(most);
  return sha256(leafInput.subarray(0, 1 + leafInput.write(leaf, 1)));
}

export function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  nodeInput.set(left, 1);
  nodeInput.set(right, 1 + HASH_BYTES);
  return sha256(nodeInput);
}

/** The hash of a complete subtree: that of leaves `index`·2^`level` up to, but not, (`index` + 1)·2^`level`. */
export type Subtrees = (level: number, index: number) => Promise<Buffer>;

/** The root of the first `size` leaves. */
export const rootOf = async (size: number, subtrees: Subtrees): Promise<Buffer> =>
  size === 0 ? EMPTY_ROOT : await rangeHash(0, size, subtrees);

/** Proves that leaf `index` is in the tree of `size` leaves; section 2.1.3.1. @throws RangeError */
export async function inclusionProof(index: number, size: number, subtrees: Subtrees): Promise<Buffer[]> {
  if (index < 0 || index >= size) throw new RangeError(`there is no entry ${index} among ${size}`);
  const path: Buffer[] = [];
  for (let [low, high] = [0, size]; high - low > 1; ) {
    const middle = low + splitOf(high - low);
    if (index < middle) {
      path.push(await rangeHash(middle, high, subtrees));
      high = middle;
    } else {
      path.push(await rangeHash(low, middle, subtrees));
      low = middle;
    }
  }
  return path.reverse();
}

/** Proves that the tree of `first` leaves is the beginning of the one of `second`; section 2.1.4.1. @throws RangeError */
export async function consistencyProof(first: number, second: number, subtrees: Subtrees): Promise<Buffer[]> {
  if (first < 1 || first > second) throw new RangeError(`a tree of ${first} entries is no beginning of ${second}`);
  const path: Buffer[] = [];
  let [low, high, isFirstTree] = [0, second, true];
  while (first !== high) {
    const middle = low + splitOf(high - low);
    if (first <= middle) {
      path.push(await rangeHash(middle, high, subtrees));
      high = middle;
    } else {
      path.push(await rangeHash(low, middle, subtrees));
      low = middle;
      isFirstTree = false;
    }
  }
  // The verifier knows the first tree's root.
  if (!isFirstTree) path.push(await rangeHash(low, high, subtrees));
  return path.reverse();
}

/**
 * What is needed beside the leaves `from` (inclusive) to `to` (exclusive) to compute the root of a tree: the hashes of
 * the largest subtrees before and after them, in order. Those before are the same for every tree that reaches so far.
 */
export async function rangeProof(
  { from, to, size }: { readonly from: number; readonly to: number; readonly size: number },
  subtrees: Subtrees,
): Promise<{ before: Buffer[]; after: Buffer[] }> {
  const before: Buffer[] = [];
  const after: Buffer[] = [];
  const visit = async (low: number, high: number): Promise<void> => {
    if (high <= from) before.push(await rangeHash(low, high, subtrees));
    else if (low >= to) after.push(await rangeHash(low, high, subtrees));
    else if (low < from || high > to) {
      const middle = low + splitOf(high - low);
      await visit(low, middle);
      await visit(middle, high);
    }
  };
  await visit(0, size);
  return { before, after };
}

/** Section 2.1.3.2. @returns the root that the proof leads to; undefined when it is too long or too short */
export function rootFromInclusion(index: number, size: number, leaf: Buffer, path: readonly Buffer[]) {
  if (index < 0 || index >= size) return undefined;
  let [node, last, root] = [index, size - 1, leaf];
  for (const hash of path) {
    if (last === 0) return undefined;
    if (node % 2 === 1 || node === last) {
      root = nodeHash(hash, root);
      while (node % 2 === 0 && node !== 0) [node, last] = [half(node), half(last)];
    } else root = nodeHash(root, hash);
    [node, last] = [half(node), half(last)];
  }
  return last === 0 ? root : undefined;
}

export interface Root {
  readonly size: number;
  readonly hash: Buffer;
}

/** Section 2.1.4.2. */
export function isConsistent(first: Root, second: Root, proof: readonly Buffer[]): boolean {
  if (first.size < 1 || first.size > second.size) return false;
  if (first.size === second.size) return proof.length === 0 && first.hash.equals(second.hash);
  const path = isPowerOfTwo(first.size) ? [first.hash, ...proof] : proof;
  let [node, last] = [first.size - 1, second.size - 1];
  while (node % 2 === 1) [node, last] = [half(node), half(last)];
  let old = path[0];
  let root = path[0];
  if (!old || !root) return false;
  for (const hash of path.slice(1)) {
    if (last === 0) return false;
    if (node % 2 === 1 || node === last) {
      old = nodeHash(hash, old);
      root = nodeHash(hash, root);
      while (node % 2 === 0 && node !== 0) [node, last] = [half(node), half(last)];
    } else root = nodeHash(root, hash);
    [node, last] = [half(node), half(last)];
  }
  return last === 0 && old.equals(first.hash) && root.equals(second.hash);
}

/** Of leaves that begin where a subtree of their number may begin. */
async function rangeHash(low: number, high: number, subtrees: Subtrees): Promise<Buffer> {
  const size = high - low;
  if (isPowerOfTwo(size)) return await subtrees(Math.log2(size), low / size);
  const middle = low + splitOf(size);
  return nodeHash(await rangeHash(low, middle, subtrees), await rangeHash(middle, high, subtrees));
}

const half = (value: number): number => Math.floor(value / 2);

/** The largest power of two below `size`, which is at least 2. */
const splitOf = (size: number): number => 2 ** (Math.ceil(Math.log2(size)) - 1);

const isPowerOfTwo = (size: number): boolean => Number.isInteger(Math.log2(size));
