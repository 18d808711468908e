#!/usr/bin/env node
/**
 * Checks an audit bundle of Waybill with nothing but Node.js: no network, no dependency, and no code of Waybill's. It
 * is a second reading of docs/audit/bundle.md, so that an auditor need not trust the program that wrote the bundle.
 *
 *     node verify.mjs BUNDLE [VERIFIER-KEY …]
 *
 * Keys given here are the only ones trusted; without any, those in the bundle are, and are printed to be compared with
 * what is known from elsewhere. Ends with 0 when everything holds, with 1 and the first bad entry when not.
 */
import { createHash, createPublicKey, verify } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pathToFileURL } from 'node:url';

class Bad extends Error {
  constructor(index, problem) {
    super(problem);
    this.index = index;
  }
}

const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest();
const LEAF = Buffer.from([0]);
const NODE = Buffer.from([1]);
const join = (left, right) => sha256(NODE, left, right);

/** Base64 that decodes to itself and has so many bytes, or undefined. */
function bytes(text, length) {
  const decoded = Buffer.from(String(text), 'base64');
  return decoded.length === length && decoded.toString('base64') === text ? decoded : undefined;
}

/** The lines of a file; only a line feed ends one. */
async function* linesOf(stream) {
  let parts = [];
  for await (const chunk of stream) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      yield Buffer.concat([...parts, chunk.subarray(start, end)]).toString('utf8');
      parts = [];
      start = end + 1;
    }
    parts.push(chunk.subarray(start));
  }
  const rest = Buffer.concat(parts).toString('utf8');
  if (rest !== '') yield rest;
}

/** `name+id+base64(0x01 ‖ Ed25519 public key)`; the id is the beginning of SHA-256(name ‖ LF ‖ 0x01 ‖ key). */
function keyOf(text) {
  const [, name, id, base64] = /^([^\s+]+)\+([0-9a-f]{8})\+(\S+)$/.exec(text) ?? [];
  const typed = bytes(base64, 33);
  if (typed?.[0] !== 1 || sha256(`${name}\n`, typed).toString('hex', 0, 4) !== id) return undefined;
  const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), typed.subarray(1)]);
  return { name, id, key: createPublicKey({ key: der, format: 'der', type: 'spki' }) };
}

const CHECKPOINT =
  /^(\S+)\n(0|[1-9]\d*)\n(\S+)\nposition \d+\ntime \S+\nchain (\S+)\nprevious \d+\n\n((?:— \S+ \S+\n)+)$/;

/** The checkpoint in a signed note; every signature must be good and of a key in `keys`. */
function checkpointOf(note, keys, bad) {
  const [, origin, size, root, chain, signatures] = CHECKPOINT.exec(note) ?? [];
  if (origin === undefined) throw bad('a checkpoint is damaged');
  const signed = Buffer.from(note.slice(0, note.indexOf('\n\n') + 1));
  for (const line of signatures.trimEnd().split('\n')) {
    const [, name, base64] = line.split(' ');
    const signature = bytes(base64, 68);
    const id = signature?.toString('hex', 0, 4);
    const known = keys.find((key) => key.name === name && key.id === id);
    if (!known) throw bad(`the checkpoint of ${size} entries is signed by an unknown key`);
    if (!verify(null, signed, known.key, signature.subarray(4)))
      throw bad(`a signature of the checkpoint of ${size} entries is wrong`);
  }
  const [rootHash, chainHash] = [bytes(root, 32), bytes(chain, 32)];
  if (!rootHash || !chainHash) throw bad('a checkpoint is damaged');
  return { origin, size: Number(size), root: rootHash, chain: chainHash };
}

/** Largest power of two below `size`. */
function splitOf(size) {
  let split = 1;
  while (split * 2 < size) split *= 2;
  return split;
}

/**
 * @param {AsyncIterable<string>} lines of a bundle
 * @param {string[]} trusted verifier keys; none: the bundle's own
 * @returns {Promise<{ok: boolean, entries: number, firstBadIndex: number | null, problem: string | null, keys: string[]}>}
 */
export async function verifyBundle(lines, trusted = []) {
  let header;
  let keys = [];
  /** Complete subtrees of all entries so far, from left to right: {size, hash}. */
  const subtrees = [];
  let chain;
  let next = 0;
  let confirmed = 0;
  let hasEnded = false;
  const here = (problem) => new Bad(next, problem);
  const since = (problem) => new Bad(confirmed, problem);
  const fold = () => subtrees.map(({ hash }) => hash).reduceRight((right, left) => join(left, right));

  function begin(line) {
    header = JSON.parse(line);
    const { waybill, version, from, to } = header;
    if (waybill !== 'audit-bundle' || version !== 1) throw new Bad(0, 'not an audit bundle of version 1');
    if (!Number.isSafeInteger(from) || !Number.isSafeInteger(to) || from < 0 || to <= from)
      throw new Bad(0, 'the first line is damaged');
    [next, confirmed] = [from, from];
    chain = bytes(header.chain, 32);
    const before = [...header.before];
    let size = 1;
    while (size * 2 <= from) size *= 2;
    for (let left = from; left > 0; size /= 2) {
      if (left < size) continue;
      subtrees.push({ size, hash: bytes(before.shift(), 32) });
      left -= size;
    }
    if (!chain || before.length > 0 || subtrees.some(({ hash }) => !hash)) throw here('the first line is damaged');
    keys = (trusted.length > 0 ? trusted : header.keys).map(keyOf);
    if (keys.includes(undefined)) throw here('a verifier key is damaged');
  }

  function entry(line) {
    if (next >= header.to) throw here('there are more entries than there should be');
    const start = `[${next},"`;
    const [hash, linked] = [
      line.slice(start.length, start.length + 44),
      line.slice(start.length + 47, start.length + 91),
    ];
    const framed = `${start}${hash}","${linked}",`;
    if (!line.startsWith(framed) || !line.endsWith(']')) throw here(`entry ${next} is not where it should be`);
    const leaf = sha256(LEAF, line.slice(framed.length, -1));
    if (leaf.toString('base64') !== hash) throw here(`entry ${next} is not what its hash was made of`);
    chain = sha256(chain, leaf);
    if (chain.toString('base64') !== linked) throw here(`the chain does not lead to entry ${next}`);
    let tree = { size: 1, hash: leaf };
    while (subtrees.at(-1)?.size === tree.size)
      tree = { size: tree.size * 2, hash: join(subtrees.pop().hash, tree.hash) };
    subtrees.push(tree);
    next++;
  }

  /** The root of a larger tree, with the hashes of what comes after the last entry. */
  function rootWith(after, size) {
    if (size === next) return fold();
    const inside = subtrees.map(({ hash }) => hash);
    const build = (low, high) => {
      if (low >= next) return bytes(after.shift(), 32) ?? Buffer.alloc(0);
      if (high <= next) return inside.shift();
      const split = splitOf(high - low);
      const left = build(low, low + split);
      return join(left, build(low + split, high));
    };
    return build(0, size);
  }

  function statement(line) {
    const { checkpoint: note, end, after } = JSON.parse(line);
    const checkpoint = checkpointOf(String(note), keys, since);
    if (checkpoint.origin !== header.origin) throw since('a checkpoint is of another log');
    if (end && next !== header.to) throw here(`entry ${next} is missing`);
    if (end ? checkpoint.size < next : checkpoint.size !== next) throw since('a checkpoint is in the wrong place');
    const rest = [...(after ?? [])];
    const root = end ? rootWith(rest, checkpoint.size) : fold();
    const isSame = root.equals(checkpoint.root) && (checkpoint.size !== next || chain.equals(checkpoint.chain));
    if (!isSame || rest.length > 0) throw since(`the entries up to ${next - 1} are not those that were signed for`);
    confirmed = next;
    hasEnded = end === true;
  }

  try {
    for await (const line of lines) {
      if (hasEnded) throw here('there is something after the end');
      try {
        if (!header) begin(line);
        else if (line.startsWith('[')) entry(line);
        else statement(line);
      } catch (error) {
        throw error instanceof Bad ? error : here('a line is damaged');
      }
    }
    if (!hasEnded) throw here(`the bundle ends before entry ${next}`);
    return { ok: true, entries: next - header.from, firstBadIndex: null, problem: null, keys: header.keys };
  } catch (error) {
    if (!(error instanceof Bad)) throw error;
    const entries = next - (header?.from ?? 0);
    return { ok: false, entries, firstBadIndex: error.index, problem: error.message, keys: header?.keys };
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [file, ...trusted] = process.argv.slice(2);
  const verdict = await verifyBundle(linesOf(createReadStream(file)), trusted);
  console.log(JSON.stringify(verdict));
  process.exitCode = verdict.ok ? 0 : 1;
}
